//! One connection: a task that reads what the client sends and hands it to the streams, and one that writes.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;

use super::frame::{self, Control, HEAD, Head, Malformed, Reset};
use super::headers::{Decoder, Encoder, Headers};

/// Streams that are open at once in one connection.
const STREAMS_MAX: usize = 1024;
/// Pieces of data that wait for a stream's reader; more make the client wait.
const QUEUE: usize = 16;
/// Data is handed over in pieces of at most this size.
const PIECE: usize = 32 * 1024;

/// What is to be written.
enum Frame {
    Reply(u32),
    Data(u32, Bytes),
    /// Nothing more follows on this stream.
    End(u32),
    Reset(u32, Reset),
    Ping(u32),
}

/// A stream that the client has opened. Dropping it without [`Stream::end`] resets it.
pub struct Stream {
    /// Its number: odd, and each one's larger than those before.
    pub id: u32,
    headers: Headers,
    from_client: mpsc::Receiver<Bytes>,
    to_client: mpsc::Sender<Frame>,
    ended: bool,
}

impl Stream {
    /// A header's value; names are in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// Sends bytes; waits while the connection is busy. False once the connection is gone.
    pub async fn send(&mut self, bytes: Bytes) -> bool {
        !self.ended
            && self
                .to_client
                .send(Frame::Data(self.id, bytes))
                .await
                .is_ok()
    }

    /// Says that nothing more will be sent.
    pub async fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            let _ = self.to_client.send(Frame::End(self.id)).await;
        }
    }

    /// Splits it into what comes from the client, and what goes to it.
    pub fn split(mut self) -> (Incoming, Outgoing) {
        let (_, nothing) = mpsc::channel(1);
        let incoming = Incoming {
            from_client: std::mem::replace(&mut self.from_client, nothing),
            current: Bytes::new(),
        };
        (incoming, Outgoing(self))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.ended {
            // Who is too slow to be told is told by the end of the connection.
            let _ = self
                .to_client
                .try_send(Frame::Reset(self.id, Reset::Cancel));
        }
    }
}

/// What comes from the client on one stream; ends when the client ends its half.
pub struct Incoming {
    from_client: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match std::task::ready!(self.from_client.poll_recv(context)) {
                Some(bytes) => self.current = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current[..length]);
        self.current.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// What goes to the client on one stream.
pub struct Outgoing(Stream);

impl Outgoing {
    /// As [`Stream::send`].
    pub async fn send(&mut self, bytes: Bytes) -> bool {
        self.0.send(bytes).await
    }

    /// As [`Stream::end`].
    pub async fn end(&mut self) {
        self.0.end().await;
    }
}

/// Serves a connection in the background; gives the streams that the client opens, each already answered. No more come when
/// the connection ends. Dropping the receiver ends the connection, once what the streams have sent is written and they are dropped.
pub fn accept(io: impl AsyncRead + AsyncWrite + Send + 'static) -> mpsc::Receiver<Stream> {
    let (reader, writer) = tokio::io::split(io);
    let (streams_in, streams) = mpsc::channel(QUEUE);
    let (frames_in, frames) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(error) = write(writer, frames).await {
            tracing::debug!(%error, "a SPDY connection could not be written to");
        }
    });
    tokio::spawn(async move {
        let reading = Reading {
            io: reader,
            decoder: Decoder::default(),
            open: HashMap::new(),
            highest: 0,
            frames: frames_in,
        };
        if let Err(error) = reading.run(streams_in).await {
            tracing::debug!(%error, "a SPDY connection ended");
        }
    });
    streams
}

async fn write(
    mut io: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    let mut encoder = Encoder::default();
    let mut out = BytesMut::new();
    while let Some(first) = frames.recv().await {
        let mut next = Some(first);
        while let Some(one) = next {
            match one {
                Frame::Reply(stream) => frame::reply(&mut out, stream, &encoder.encode(&[])),
                Frame::Data(stream, bytes) if !bytes.is_empty() => {
                    frame::data(&mut out, stream, &bytes, false);
                }
                Frame::Data(..) => {}
                Frame::End(stream) => frame::data(&mut out, stream, b"", true),
                Frame::Reset(stream, why) => frame::reset(&mut out, stream, why),
                Frame::Ping(id) => frame::ping(&mut out, id),
            }
            next = if out.len() < 2 * PIECE {
                frames.try_recv().ok()
            } else {
                None
            };
        }
        io.write_all(&out).await?;
        io.flush().await?;
        out.clear();
    }
    io.shutdown().await
}

struct Reading<R> {
    io: R,
    decoder: Decoder,
    open: HashMap<u32, mpsc::Sender<Bytes>>,
    highest: u32,
    frames: mpsc::Sender<Frame>,
}

fn broken(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<R: AsyncRead + Unpin> Reading<R> {
    async fn run(mut self, streams: mpsc::Sender<Stream>) -> io::Result<()> {
        loop {
            let mut first = [0; HEAD];
            tokio::select! {
                // Nobody takes streams any more: what the client may still say interests nobody.
                () = streams.closed() => return Ok(()),
                read = self.io.read_exact(&mut first) => match read {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    read => read?,
                },
            };
            match Head::parse(first).map_err(broken)? {
                Head::Data {
                    stream,
                    fin,
                    length,
                } => self.data(stream, fin, length).await?,
                Head::Control {
                    kind,
                    flags,
                    length,
                } => {
                    let mut payload = BytesMut::zeroed(length);
                    self.io.read_exact(&mut payload).await?;
                    let control = Control::parse(kind, flags, payload.freeze()).map_err(broken)?;
                    if !self.control(control, &streams).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn data(&mut self, stream: u32, fin: bool, length: usize) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let mut piece = BytesMut::zeroed(left.min(PIECE));
            self.io.read_exact(&mut piece).await?;
            left -= piece.len();
            // Data of a stream that nobody reads, or that there is not, is dropped: the client may not know yet.
            if let Some(open) = self.open.get(&stream) {
                let _ = open.send(piece.freeze()).await;
            }
        }
        if fin {
            self.open.remove(&stream);
        }
        Ok(())
    }

    /// False if the connection shall end.
    async fn control(
        &mut self,
        control: Control,
        streams: &mpsc::Sender<Stream>,
    ) -> io::Result<bool> {
        let answer = match control {
            Control::Open {
                stream,
                fin,
                unidirectional,
                block,
            } => {
                let headers = self.decoder.decode(&block).map_err(broken)?;
                return Ok(self
                    .opened(stream, fin, unidirectional, headers, streams)
                    .await);
            }
            Control::Headers { block } => {
                // The compression's state moves on with each block.
                self.decoder.decode(&block).map_err(broken)?;
                return Ok(true);
            }
            Control::Reset { stream } => {
                self.open.remove(&stream);
                return Ok(true);
            }
            // An even number is the answer to a ping of ours; there are none.
            Control::Ping { id } if id % 2 == 1 => Frame::Ping(id),
            Control::Ping { .. } | Control::GoAway | Control::Other => return Ok(true),
        };
        Ok(self.frames.send(answer).await.is_ok())
    }

    async fn opened(
        &mut self,
        id: u32,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
        streams: &mpsc::Sender<Stream>,
    ) -> bool {
        if id.is_multiple_of(2) || id <= self.highest {
            let refused = Frame::Reset(id, Reset::Protocol);
            return self.frames.send(refused).await.is_ok();
        }
        self.highest = id;
        self.open.retain(|_, open| !open.is_closed());
        if self.open.len() >= STREAMS_MAX {
            let refused = Frame::Reset(id, Reset::Refused);
            return self.frames.send(refused).await.is_ok();
        }
        let (from_client_in, from_client) = mpsc::channel(QUEUE);
        if !fin {
            self.open.insert(id, from_client_in);
        }
        if self.frames.send(Frame::Reply(id)).await.is_err() {
            return false;
        }
        let stream = Stream {
            id,
            headers,
            from_client,
            to_client: self.frames.clone(),
            ended: unidirectional,
        };
        // Nobody takes it: it is dropped, and the client told by that.
        let _ = streams.send(stream).await;
        true
    }
}

#[cfg(test)]
mod tests;
