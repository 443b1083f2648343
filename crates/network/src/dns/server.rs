//! The sockets: a bounded loop for UDP and one for TCP, on the bridge's address and nowhere else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::answer::{self, Outcome};
use super::cache::{self, Cache};
use super::{Forwarder, SharedZone};
use crate::Error;

/// Queries that wait for other resolvers at once; more are answered with a failure, which clients retry.
const FORWARDED_MAX: usize = 256;
/// TCP connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long a TCP connection may be idle.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How long a loop rests after an error of its socket.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest query over UDP.
const QUERY_BYTES_MAX: usize = 4096;
/// Tries to find a port that is free for both protocols, when 53 is not.
const PORT_TRIES: usize = 16;

/// A running server; stops when dropped.
pub(crate) struct Server {
    port: u16,
    tasks: [JoinHandle<()>; 2],
}

struct Shared {
    zone: SharedZone,
    forwarder: Forwarder,
    forwarding: Semaphore,
    cache: Mutex<Cache>,
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Server {
    /// Listens on `address`:53, or on another port of it where something on this machine has taken 53 of all addresses.
    pub async fn start(
        address: Ipv4Addr,
        zone: SharedZone,
        forwarder: Forwarder,
    ) -> Result<Self, Error> {
        let (udp, tcp, port) = listen(address)
            .await
            .map_err(|source| Error::DnsListen { address, source })?;
        let shared = Arc::new(Shared {
            zone,
            forwarder,
            forwarding: Semaphore::new(FORWARDED_MAX),
            cache: Mutex::default(),
        });
        let tasks = [
            tokio::spawn(serve_udp(Arc::new(udp), shared.clone())),
            tokio::spawn(serve_tcp(tcp, shared)),
        ];
        Ok(Self { port, tasks })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn listen(address: Ipv4Addr) -> io::Result<(UdpSocket, TcpListener, u16)> {
    match bind(address, 53).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        other => return other,
    }
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_TRIES {
        match bind(address, 0).await {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn bind(address: Ipv4Addr, port: u16) -> io::Result<(UdpSocket, TcpListener, u16)> {
    let tcp = TcpListener::bind((address, port)).await?;
    let port = tcp.local_addr()?.port();
    let udp = UdpSocket::bind((address, port)).await?;
    Ok((udp, tcp, port))
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; QUERY_BYTES_MAX];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An ICMP error for an earlier answer is reported here and concerns nobody; what lasts must not spin.
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let packet = &buffer[..length];
        match answer::decide(&shared.zone.get(), packet) {
            Outcome::Drop => {}
            Outcome::Reply(message) => send(&socket, from, &message, packet).await,
            later => {
                let (socket, shared, packet) = (socket.clone(), shared.clone(), packet.to_vec());
                tokio::spawn(async move {
                    if let Some(bytes) = elsewhere(&shared, later, &packet, false).await {
                        // The asker may have gone; nothing is owed to it then.
                        let _ = socket.send_to(&bytes, from).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, to: SocketAddr, message: &Message, query: &[u8]) {
    if let Some(bytes) = answer::udp_bytes(message, query) {
        let _ = socket.send_to(&bytes, to).await;
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    // However it ends, it concerns this connection alone.
                    let _ = serve_connection(stream, &shared).await;
                });
            }
            // Out of file descriptors, for instance: that passes.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn serve_connection(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let length = timeout(IDLE_MAX, stream.read_u16()).await??;
        let mut packet = vec![0; usize::from(length)];
        timeout(IDLE_MAX, stream.read_exact(&mut packet)).await??;
        let decided = answer::decide(&shared.zone.get(), &packet);
        let bytes = match decided {
            Outcome::Drop => return Ok(()),
            Outcome::Reply(message) => message.to_vec().ok(),
            later => elsewhere(shared, later, &packet, true).await,
        };
        let Some(bytes) = bytes else { return Ok(()) };
        let Ok(length) = u16::try_from(bytes.len()) else {
            return Ok(());
        };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        timeout(IDLE_MAX, stream.write_all(&framed)).await??;
    }
}

/// The answer to what has to be asked elsewhere.
async fn elsewhere(shared: &Shared, outcome: Outcome, packet: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let said = match outcome {
        Outcome::Forward => resolve(shared, packet, tcp).await,
        Outcome::Follow(mut message, target, kind) => {
            let mut query = Message::query();
            query.metadata.recursion_desired = true;
            query.add_query(Query::query(target, kind));
            let found = match resolve(shared, &query.to_vec().ok()?, true).await {
                Some(Said::Bytes(bytes)) => Message::from_vec(&bytes).ok(),
                Some(Said::Message(message)) => Some(*message),
                None => None,
            };
            found.map(|found| {
                answer::complete(&mut message, found);
                Said::Message(message)
            })
        }
        Outcome::Reply(_) | Outcome::Drop => return None,
    };
    match said {
        Some(Said::Bytes(bytes)) => Some(bytes),
        Some(Said::Message(message)) if tcp => message.to_vec().ok(),
        Some(Said::Message(message)) => answer::udp_bytes(&message, packet),
        None => answer::failure(packet, ResponseCode::ServFail)?
            .to_vec()
            .ok(),
    }
}

/// An answer that fits the transport as it is, or one that has to be fitted.
enum Said {
    Bytes(Vec<u8>),
    Message(Box<Message>),
}

/// What another resolver says, or said not long ago. `None` when none answers, or too many are being asked.
async fn resolve(shared: &Shared, packet: &[u8], tcp: bool) -> Option<Said> {
    let query = Message::from_vec(packet).ok()?;
    let key = cache::key(&query);
    if let Some(key) = &key
        && let Some(kept) = shared.cache.lock().get(key, &query, Instant::now())
    {
        return Some(Said::Message(Box::new(kept)));
    }
    let _permit = shared.forwarding.try_acquire().ok()?;
    let bytes = shared.forwarder.forward(packet, tcp).await?;
    if let Some(key) = key {
        shared.cache.lock().put(key, &bytes, Instant::now());
    }
    Some(Said::Bytes(bytes))
}
