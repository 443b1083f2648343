//! Port forwarding in WebSocket messages: the port named first has channels 0 (data) and 1 (errors), the next 2 and 3. Each
//! channel begins with a message of the port's number, low byte first.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{BUFFER, Target};
use crate::streams::FAREWELL_MAX;

/// The subprotocol.
pub const PROTOCOL: &str = "v4.channel.k8s.io";
/// Ports of one request; a channel is one byte.
pub const PORTS_MAX: usize = 32;
/// Messages on their way, each direction.
const QUEUE: usize = 16;

/// The ports that a request names, as `ports=80,81` or `ports=80&ports=81`.
pub fn ports(query: &[(String, String)]) -> Result<Vec<u16>, String> {
    let named = query
        .iter()
        .filter(|(key, _)| key == "ports" || key == "port")
        .flat_map(|(_, value)| value.split(','));
    let ports = named
        .map(|text| match text.parse() {
            Ok(port @ 1..) => Ok(port),
            _ => Err(format!("{text:?} is no port number\n")),
        })
        .collect::<Result<Vec<u16>, String>>()?;
    match ports.len() {
        0 => Err("query parameter \"ports\" is required\n".to_owned()),
        1..=PORTS_MAX => Ok(ports),
        _ => Err(format!("no more than {PORTS_MAX} ports at a time\n")),
    }
}

/// Connects each port once, and moves bytes until all have ended or the client is gone.
pub async fn serve(socket: WebSocket, ports: Vec<u16>, target: Target) {
    let (mut to_client, mut from_client) = socket.split();
    let (messages_in, mut messages) = mpsc::channel(QUEUE);
    let target = Arc::new(target);
    let mut uploads = Vec::new();
    let mut connections = JoinSet::new();
    for (index, port) in (0_u8..).zip(ports) {
        let (upload_in, upload) = mpsc::channel(QUEUE);
        uploads.push(upload_in);
        connections.spawn(forward(
            target.clone(),
            index * 2,
            port,
            upload,
            messages_in.clone(),
        ));
    }
    drop(messages_in);
    let reading = async move {
        while let Some(Ok(message)) = from_client.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => return,
                _ => continue,
            };
            // Only data goes this way, and only on channels that there are.
            let channel = bytes.first().copied().unwrap_or(u8::MAX);
            if channel % 2 == 0
                && let Some(upload) = uploads.get(usize::from(channel / 2))
            {
                let _ = upload.send(bytes.slice(1..)).await;
            }
        }
    };
    let writing = async {
        while let Some(message) = messages.recv().await {
            if to_client.send(Message::Binary(message)).await.is_err() {
                return;
            }
        }
        let _ = to_client.close().await;
    };
    tokio::pin!(reading);
    tokio::select! {
        () = &mut reading => {}
        () = writing => drop(timeout(FAREWELL_MAX, reading).await),
    }
}

fn message(channel: u8, bytes: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(bytes.len() + 1);
    framed.put_u8(channel);
    framed.put_slice(bytes);
    framed.freeze()
}

async fn forward(
    target: Arc<Target>,
    channel: u8,
    port: u16,
    mut upload: mpsc::Receiver<Bytes>,
    messages: mpsc::Sender<Bytes>,
) {
    for opened in [channel, channel + 1] {
        if messages
            .send(message(opened, &port.to_le_bytes()))
            .await
            .is_err()
        {
            return;
        }
    }
    let connection = match target.connect(port).await {
        Ok(connection) => connection,
        Err(words) => {
            let _ = messages.send(message(channel + 1, words.as_bytes())).await;
            return;
        }
    };
    let (mut from_pod, mut to_pod) = connection.into_split();
    let uploading = async {
        while let Some(bytes) = upload.recv().await {
            if to_pod.write_all(&bytes).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let downloading = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(length @ 1..) = from_pod.read(&mut buffer).await {
            if messages
                .send(message(channel, &buffer[..length]))
                .await
                .is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = uploading => {}
        () = downloading => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_in_either_way() {
        let query = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            pairs.iter().map(own).collect()
        };
        assert_eq!(ports(&query(&[("ports", "80,81")])), Ok(vec![80, 81]));
        assert_eq!(
            ports(&query(&[("ports", "80"), ("x", "y"), ("ports", "443")])),
            Ok(vec![80, 443])
        );
        for wrong in ["", "0", "65536", "-1", "http", "80,"] {
            assert!(ports(&query(&[("ports", wrong)])).is_err(), "{wrong}");
        }
        assert!(ports(&[]).is_err());
        let many = vec![("ports", "80"); PORTS_MAX + 1];
        assert!(ports(&query(&many)).is_err());
    }
}
