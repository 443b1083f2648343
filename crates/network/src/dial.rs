//! Connecting to what listens inside another network namespace, on its loopback addresses too.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::netns;

/// Whoever listens on a loopback address answers at once, or its queue is full.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Connects to a TCP port on 127.0.0.1, or else ::1, of the network namespace that `namespace` names. The connection works
/// from here on as any other.
pub async fn dial_loopback(namespace: &Path, port: u16) -> io::Result<TcpStream> {
    let file = netns::open(namespace).map_err(io::Error::other)?;
    let connect = move || {
        let at = |address: SocketAddr| std::net::TcpStream::connect_timeout(&address, CONNECT_MAX);
        at((Ipv4Addr::LOCALHOST, port).into())
            .or_else(|error| at((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error))
    };
    let stream = netns::within(&file, namespace, connect)
        .await
        .map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}
