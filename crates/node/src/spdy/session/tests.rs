use std::time::Duration;

use bytes::BufMut as _;
use proptest::prelude::*;
use tokio::io::DuplexStream;
use tokio::time::timeout;

use super::*;

/// The client's end of a connection, as far as a test needs one.
struct Client {
    io: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
}

#[derive(Debug, PartialEq)]
enum Seen {
    Reply(u32),
    Data(u32, Vec<u8>, bool),
    Reset(u32, u32),
    Ping(u32),
    Closed,
}

impl Client {
    fn connect() -> (Self, mpsc::Receiver<Stream>) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let client = Self {
            io: near,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
        };
        (client, accept(far))
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.io
            .write_all(bytes)
            .await
            .expect("the connection is open");
    }

    fn control(kind: u16, flags: u8, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_u16(0x8003);
        out.put_u16(kind);
        out.put_u32((u32::from(flags) << 24) | u32::try_from(payload.len()).expect("short"));
        out.put_slice(payload);
        out
    }

    async fn open(&mut self, id: u32, flags: u8, headers: &[(&str, &str)]) {
        let mut payload = BytesMut::new();
        payload.put_u32(id);
        payload.put_slice(&[0; 6]);
        payload.put_slice(&self.encoder.encode(headers));
        self.write(&Self::control(1, flags, &payload)).await;
    }

    async fn data(&mut self, id: u32, bytes: &[u8], fin: bool) {
        let mut out = BytesMut::new();
        frame::data(&mut out, id, bytes, fin);
        self.write(&out).await;
    }

    async fn seen(&mut self) -> Seen {
        let mut first = [0; HEAD];
        let read = timeout(Duration::from_secs(10), self.io.read_exact(&mut first)).await;
        if read.expect("an answer").is_err() {
            return Seen::Closed;
        }
        match Head::parse(first).expect("a frame") {
            Head::Data {
                stream,
                fin,
                length,
            } => {
                let mut bytes = vec![0; length];
                self.io.read_exact(&mut bytes).await.expect("data");
                Seen::Data(stream, bytes, fin)
            }
            Head::Control { kind, length, .. } => {
                let mut payload = vec![0; length];
                self.io.read_exact(&mut payload).await.expect("a payload");
                let mut payload = Bytes::from(payload);
                let number = payload.get_u32();
                match kind {
                    2 => {
                        let headers = self.decoder.decode(&payload);
                        assert_eq!(headers, Ok(Headers::new()));
                        Seen::Reply(number)
                    }
                    3 => Seen::Reset(number, payload.get_u32()),
                    6 => Seen::Ping(number),
                    other => panic!("a frame of kind {other}"),
                }
            }
        }
    }
}

async fn next(streams: &mut mpsc::Receiver<Stream>) -> Stream {
    let stream = timeout(Duration::from_secs(10), streams.recv()).await;
    stream.expect("a stream in time").expect("a stream")
}

#[tokio::test]
async fn streams_carry_bytes_both_ways_and_end_by_halves() {
    let (mut client, mut streams) = Client::connect();
    client
        .open(1, 0, &[("streamtype", "data"), ("port", "80")])
        .await;
    client.open(3, 0, &[("streamtype", "error")]).await;
    client.data(3, b"other", false).await;
    client.data(1, b"hello", false).await;
    client.data(1, b" there", true).await;
    assert_eq!(client.seen().await, Seen::Reply(1));
    assert_eq!(client.seen().await, Seen::Reply(3));
    let stream = next(&mut streams).await;
    assert_eq!((stream.id, stream.header("port")), (1, Some("80")));
    assert_eq!(stream.header("requestid"), None);
    let (mut incoming, mut outgoing) = stream.split();
    let mut text = String::new();
    incoming.read_to_string(&mut text).await.expect("text");
    assert_eq!(text, "hello there");
    assert!(outgoing.send(Bytes::from_static(b"back")).await);
    assert_eq!(client.seen().await, Seen::Data(1, b"back".to_vec(), false));
    outgoing.end().await;
    assert_eq!(client.seen().await, Seen::Data(1, Vec::new(), true));
    assert!(!outgoing.send(Bytes::from_static(b"late")).await);
    let other = next(&mut streams).await;
    drop(other);
    assert_eq!(client.seen().await, Seen::Reset(3, 5));
}

#[tokio::test]
async fn pings_are_answered_and_what_is_unknown_is_passed_over() {
    let (mut client, mut streams) = Client::connect();
    client.write(&Client::control(4, 0, &[0, 0, 0, 0])).await;
    client.write(&Client::control(9, 0, &[0; 8])).await;
    client.write(&Client::control(99, 0, b"?")).await;
    client.write(&Client::control(6, 0, &[0, 0, 0, 2])).await;
    client.write(&Client::control(6, 0, &[0, 0, 0, 7])).await;
    assert_eq!(client.seen().await, Seen::Ping(7));
    // More headers move the compression on, too.
    let mut payload = BytesMut::from(&[0, 0, 0, 1][..]);
    payload.put_slice(&client.encoder.encode(&[("a", "b")]));
    client.write(&Client::control(8, 0, &payload)).await;
    client.open(1, 1, &[("streamtype", "stdin")]).await;
    let stream = next(&mut streams).await;
    assert_eq!(stream.header("streamtype"), Some("stdin"));
    let mut text = Vec::new();
    stream
        .split()
        .0
        .read_to_end(&mut text)
        .await
        .expect("its end");
    assert_eq!(text, b"", "the client has said that nothing comes");
}

#[tokio::test]
async fn numbers_that_are_used_or_not_the_clients_are_refused() {
    let (mut client, mut streams) = Client::connect();
    client.open(5, 0, &[]).await;
    assert_eq!(client.seen().await, Seen::Reply(5));
    for wrong in [5, 3, 6, 0] {
        client.open(wrong, 0, &[]).await;
        assert_eq!(client.seen().await, Seen::Reset(wrong, 1), "{wrong}");
    }
    client.data(77, b"of no stream", true).await;
    client.open(7, 0, &[]).await;
    assert_eq!(client.seen().await, Seen::Reply(7));
    assert_eq!(
        (next(&mut streams).await.id, next(&mut streams).await.id),
        (5, 7)
    );
}

#[tokio::test]
async fn no_client_opens_streams_without_end() {
    let (mut client, mut streams) = Client::connect();
    let taking = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Some(stream) = streams.recv().await {
            taken.push(stream);
        }
        taken.len()
    });
    let (mut refused, mut id) = (0, 1);
    for _ in 0..STREAMS_MAX + 3 {
        client.open(id, 0, &[]).await;
        match client.seen().await {
            Seen::Reply(other) => assert_eq!(other, id),
            Seen::Reset(other, 3) => {
                assert_eq!(other, id);
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
        id += 2;
    }
    assert_eq!(refused, 3);
    drop(client);
    assert_eq!(taking.await.expect("no panic"), STREAMS_MAX);
}

#[tokio::test]
async fn a_reset_ends_a_streams_reading_and_the_others_go_on() {
    let (mut client, mut streams) = Client::connect();
    client.open(1, 0, &[]).await;
    client.open(3, 0, &[]).await;
    client.data(1, b"half", false).await;
    client
        .write(&Client::control(3, 0, &[0, 0, 0, 1, 0, 0, 0, 5]))
        .await;
    client.data(3, b"whole", true).await;
    for wanted in [&b"half"[..], b"whole"] {
        let mut bytes = Vec::new();
        let (mut incoming, _outgoing) = next(&mut streams).await.split();
        incoming.read_to_end(&mut bytes).await.expect("its end");
        assert_eq!(bytes, wanted);
    }
}

#[tokio::test]
async fn the_connection_ends_with_whoever_takes_its_streams_and_nothing_is_cut_off() {
    let (mut client, mut streams) = Client::connect();
    client.open(1, 0, &[]).await;
    let mut stream = next(&mut streams).await;
    assert!(stream.send(Bytes::from_static(b"last words")).await);
    stream.end().await;
    drop((stream, streams));
    assert_eq!(client.seen().await, Seen::Reply(1));
    assert_eq!(
        client.seen().await,
        Seen::Data(1, b"last words".to_vec(), false)
    );
    assert_eq!(client.seen().await, Seen::Data(1, Vec::new(), true));
    assert_eq!(client.seen().await, Seen::Closed);
}

#[tokio::test]
async fn what_is_not_spdy_ends_the_connection() {
    for wrong in [
        &[0x80, 2, 0, 1, 0, 0, 0, 0][..],
        &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        &[
            0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2,
        ],
        &[0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let (mut client, mut streams) = Client::connect();
        client.write(wrong).await;
        let ended = timeout(Duration::from_secs(10), streams.recv()).await;
        assert!(ended.expect("an end").is_none(), "{wrong:?}");
        assert_eq!(client.seen().await, Seen::Closed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_end_in_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..400), prefix in 0_usize..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let (mut client, mut streams) = Client::connect();
            if prefix > 0 {
                client.open(1, 0, &[("streamtype", "data")]).await;
            }
            let framed = if prefix == 2 { Client::control(1, 0, &bytes) } else { BytesMut::from(&bytes[..]) };
            let _ = client.io.write_all(&framed).await;
            drop(client);
            while timeout(Duration::from_secs(10), streams.recv()).await.expect("an end").is_some() {}
        });
    }
}
