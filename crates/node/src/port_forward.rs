//! `kubectl port-forward`: connections of the client's, each a pair of streams, to a port inside a pod.
//!
//! The client opens for each connection a stream for errors and one for data, both with the same `requestid` and `port`.
//! Clients in other languages than Go send WebSocket messages instead (`v4.channel.k8s.io`): two channels a port, for as many
//! ports as the request names, each connected once.
//!
//! Source: `k8s.io/kubelet/pkg/cri/streaming/portforward`.

pub mod channels;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::spdy::Stream;

/// The protocol of the streams.
pub const PROTOCOL: &str = "portforward.k8s.io";
/// The same inside a WebSocket.
pub const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// A pair whose second stream has not come by then is given up.
const PAIRING_MAX: Duration = Duration::from_secs(30);
/// Connections at once of one client.
const CONNECTIONS_MAX: usize = 256;
const BUFFER: usize = 32 * 1024;

/// The pod whose ports are asked for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its network namespace; nothing for one that shares the node's.
    pub netns: Option<PathBuf>,
    /// Its name and uid, for errors.
    pub pod: String,
    pub uid: String,
}

impl Target {
    /// Connects to a port on the pod's own loopback address.
    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let connected = match &self.netns {
            Some(netns) => network::dial_loopback(netns, port).await,
            None => TcpStream::connect(("localhost", port)).await,
        };
        connected.map_err(|error| self.failed(port, &error))
    }

    fn failed(&self, port: u16, error: &io::Error) -> String {
        let Self { pod, uid, .. } = self;
        format!("error forwarding port {port} to pod {pod}, uid {uid}: {error}")
    }
}

/// Streams that wait for their other half, by what the client calls the pair.
#[derive(Default)]
struct Pairs(HashMap<String, (Instant, Half)>);

enum Half {
    Error(Stream),
    Data(Stream),
}

impl Pairs {
    /// Takes a stream; gives the pair (error, data) that it completes. What is no half of a pair is dropped, which tells the client.
    fn take(&mut self, stream: Stream) -> Option<(Stream, Stream)> {
        self.0.retain(|_, (since, _)| since.elapsed() < PAIRING_MAX);
        let half = match stream.header("streamtype") {
            Some("error") => Half::Error(stream),
            Some("data") => Half::Data(stream),
            _ => return None,
        };
        let name = match &half {
            Half::Error(stream) => name(stream, stream.id),
            // Clients that name no pair open the error stream right before.
            Half::Data(stream) => name(stream, stream.id.saturating_sub(2)),
        };
        match (self.0.remove(&name), half) {
            (Some((_, Half::Error(error))), Half::Data(data))
            | (Some((_, Half::Data(data))), Half::Error(error)) => Some((error, data)),
            // Twice the same half: the later one counts.
            (_, half) => {
                self.0.insert(name, (Instant::now(), half));
                None
            }
        }
    }
}

fn name(stream: &Stream, otherwise: u32) -> String {
    stream
        .header("requestid")
        .map_or_else(|| otherwise.to_string(), str::to_owned)
}

/// Forwards connections until the client is gone; those that are open end then.
pub async fn serve(mut streams: mpsc::Receiver<Stream>, target: Target) {
    let target = Arc::new(target);
    let mut pairs = Pairs::default();
    let mut connections = JoinSet::new();
    while let Some(stream) = streams.recv().await {
        while connections.try_join_next().is_some() {}
        let Some((error, data)) = pairs.take(stream) else {
            continue;
        };
        if connections.len() < CONNECTIONS_MAX {
            connections.spawn(forward(target.clone(), error, data));
        }
    }
}

async fn forward(target: Arc<Target>, mut error: Stream, mut data: Stream) {
    let connected = match data.header("port").map(str::parse) {
        Some(Ok(port @ 1..)) => target.connect(port).await,
        _ => Err("the stream's port header is no port number".to_owned()),
    };
    match connected {
        Err(words) => {
            error.send(Bytes::from(words)).await;
            error.end().await;
            data.end().await;
        }
        Ok(connection) => {
            let (mut from_client, mut to_client) = data.split();
            let (mut from_pod, mut to_pod) = connection.into_split();
            let upload = async {
                let _ = tokio::io::copy(&mut from_client, &mut to_pod).await;
                let _ = to_pod.shutdown().await;
                // The pod may still answer; its end is the end.
                std::future::pending::<()>().await;
            };
            let download = async {
                let mut buffer = BytesMut::with_capacity(BUFFER);
                while let Ok(1..) = from_pod.read_buf(&mut buffer).await {
                    if !to_client.send(buffer.split().freeze()).await {
                        return;
                    }
                    buffer.reserve(BUFFER);
                }
            };
            tokio::select! {
                () = upload => {}
                () = download => {}
            }
            to_client.end().await;
            error.end().await;
        }
    }
}
