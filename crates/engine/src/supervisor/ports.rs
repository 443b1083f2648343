//! Published ports: bound here on the host, carried to the sandbox's address. TCP connection by connection
//! (connection.rs), UDP by one connected socket per peer (udp.rs).

use super::connection::{Connection, Flow, wanted_flags};
use super::datagram;
use super::udp::Peers;
use crate::spec::{Protocol, PublishedPort};
use crate::wire::{Failure, FailureKind};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Carried connections at a time, in one sandbox; more wait in the kernel's queue. Each has two descriptors.
const CONNECTIONS_MAX: usize = 8192;
/// How long nothing is accepted when there are no descriptors left.
const STARVED: Duration = Duration::from_millis(200);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Ports of one sandbox.
const PORTS_MAX: usize = 1024;

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
pub enum PortToken {
    Accept(u64),
    /// The side that a peer outside opened.
    Outside(u64),
    /// The side towards the sandbox.
    Inside(u64),
    Datagram(u64),
    Answer(u64, u64),
}

/// All published ports of a sandbox.
#[derive(Default)]
pub struct Ports {
    bound: BTreeMap<u64, Bound>,
    connections: BTreeMap<u64, Connection>,
    next_key: u64,
    /// Until then nothing is accepted.
    starved: Option<Instant>,
}

/// One socket of one published port (two when it has both address families).
struct Bound {
    wanted: PublishedPort,
    port: u16,
    socket: OwnedFd,
    peers: Peers,
}

impl Ports {
    /// Makes these the published ports: binds what is new, or fails and leaves everything as it was. Returns them with the
    /// numbers that the kernel chose.
    pub fn publish(&mut self, wanted: &[PublishedPort]) -> Result<Vec<PublishedPort>, Failure> {
        if wanted.len() > PORTS_MAX {
            return Err(Failure::new(
                FailureKind::Other,
                format!("{} published ports are more than {PORTS_MAX}", wanted.len()),
            ));
        }
        let mut fresh = Vec::new();
        for port in wanted {
            if !self
                .bound
                .values()
                .any(|bound| same_binding(&bound.wanted, port))
            {
                fresh.extend(bind(port)?);
            }
        }
        self.bound.retain(|_, bound| {
            match wanted.iter().find(|port| same_binding(port, &bound.wanted)) {
                Some(port) => {
                    bound.wanted.target = port.target;
                    true
                }
                None => false,
            }
        });
        for bound in fresh {
            self.next_key += 1;
            self.bound.insert(self.next_key, bound);
        }
        Ok(self.published())
    }

    /// What is bound now.
    pub fn published(&self) -> Vec<PublishedPort> {
        let mut list: Vec<PublishedPort> = Vec::new();
        for bound in self.bound.values() {
            let port = PublishedPort {
                host_port: bound.port,
                ..bound.wanted.clone()
            };
            if !list.contains(&port) {
                list.push(port);
            }
        }
        list
    }

    /// Drops all ports and connections.
    pub fn close(&mut self) {
        self.bound.clear();
        self.connections.clear();
    }

    /// Whether something here has a deadline.
    pub fn timed(&self) -> bool {
        self.starved.is_some() || self.bound.values().any(|bound| !bound.peers.is_empty())
    }

    /// Drops peers that have been silent for long.
    pub fn expire(&mut self, now: Instant) {
        self.starved = self.starved.filter(|until| now < *until);
        for bound in self.bound.values_mut() {
            bound.peers.expire(now);
        }
    }

    /// What to wait for.
    pub fn watched(&self) -> Vec<(PortToken, BorrowedFd<'_>, PollFlags)> {
        let mut list = Vec::new();
        let full = self.connections.len() >= CONNECTIONS_MAX || self.starved.is_some();
        for (key, bound) in &self.bound {
            match bound.wanted.protocol {
                Protocol::Tcp if full => {}
                Protocol::Tcp => {
                    list.push((PortToken::Accept(*key), bound.socket.as_fd(), PollFlags::IN))
                }
                Protocol::Udp => {
                    list.push((
                        PortToken::Datagram(*key),
                        bound.socket.as_fd(),
                        PollFlags::IN,
                    ));
                    list.extend(
                        bound
                            .peers
                            .watched()
                            .map(|(peer, fd)| (PortToken::Answer(*key, peer), fd, PollFlags::IN)),
                    );
                }
            }
        }
        for (key, connection) in &self.connections {
            // A descriptor with nothing to wait for is left out: poll would report its hang-up again and again.
            let outside = wanted_flags(&connection.inward, &connection.outward, false);
            if !outside.is_empty() && !connection.connecting {
                list.push((
                    PortToken::Outside(*key),
                    connection.outside.as_fd(),
                    outside,
                ));
            }
            let inside = wanted_flags(
                &connection.outward,
                &connection.inward,
                connection.connecting,
            );
            if !inside.is_empty() {
                list.push((PortToken::Inside(*key), connection.inside.as_fd(), inside));
            }
        }
        list
    }

    /// Something can be done without waiting.
    pub fn handle(&mut self, token: PortToken, _flags: PollFlags, scratch: &mut [u8]) {
        match token {
            PortToken::Accept(key) => self.accept(key),
            PortToken::Outside(key) | PortToken::Inside(key) => {
                if let Some(connection) = self.connections.get_mut(&key)
                    && !connection.carry(scratch)
                {
                    self.connections.remove(&key);
                }
            }
            PortToken::Datagram(key) => {
                if let Some(bound) = self.bound.get_mut(&key) {
                    bound
                        .peers
                        .inward(&bound.socket, bound.wanted.target, scratch);
                }
            }
            PortToken::Answer(key, peer) => {
                if let Some(bound) = self.bound.get_mut(&key) {
                    bound.peers.outward(&bound.socket, peer, scratch);
                }
            }
        }
    }

    fn accept(&mut self, key: u64) {
        let Some(bound) = self.bound.get(&key) else {
            return;
        };
        let target = bound.wanted.target;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while self.connections.len() < CONNECTIONS_MAX {
            let outside = match rustix::net::accept_with(&bound.socket, flags) {
                Ok(outside) => outside,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // it waits in the queue, and would be told of again and again
                    self.starved = Some(Instant::now() + STARVED);
                    return;
                }
                Err(_) => return,
            };
            if target.ip().is_unspecified() {
                continue;
            }
            let Ok(inside) =
                rustix::net::socket_with(family(target.ip()), SocketType::STREAM, flags, None)
            else {
                continue;
            };
            let connecting = match rustix::net::connect(&inside, &target) {
                Ok(()) => false,
                Err(Errno::INPROGRESS) => true,
                Err(_) => continue,
            };
            let _ = sockopt::set_tcp_nodelay(&outside, true);
            let _ = sockopt::set_tcp_nodelay(&inside, true);
            // a peer that has vanished does not hold its place for ever
            let _ = sockopt::set_socket_keepalive(&outside, true);
            let _ = sockopt::set_socket_keepalive(&inside, true);
            self.next_key += 1;
            let connection = Connection {
                outside,
                inside,
                connecting,
                inward: Flow::default(),
                outward: Flow::default(),
            };
            self.connections.insert(self.next_key, connection);
        }
    }
}

fn same_binding(one: &PublishedPort, other: &PublishedPort) -> bool {
    one.host_ip == other.host_ip
        && one.host_port == other.host_port
        && one.protocol == other.protocol
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    }
}

fn bind(wanted: &PublishedPort) -> Result<Vec<Bound>, Failure> {
    let addresses = match wanted.host_ip {
        Some(ip) => vec![ip],
        None => vec![
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ],
    };
    let mut bound: Vec<Bound> = Vec::new();
    let mut port = wanted.host_port;
    for ip in addresses {
        match bind_one(SocketAddr::new(ip, port), wanted.protocol) {
            Ok((socket, chosen)) => {
                port = chosen;
                bound.push(Bound {
                    wanted: wanted.clone(),
                    port,
                    socket,
                    peers: Peers::default(),
                });
            }
            // A machine without IPv6 has one address family less.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
                if wanted.host_ip.is_none() && !bound.is_empty() => {}
            Err(error) => {
                let reason = match error {
                    Errno::ADDRINUSE => "address already in use".to_owned(),
                    error => std::io::Error::from(error).to_string(),
                };
                let protocol = if wanted.protocol == Protocol::Udp {
                    "udp"
                } else {
                    "tcp"
                };
                return Err(Failure::new(
                    FailureKind::Port,
                    format!("{}/{protocol}: {reason}", SocketAddr::new(ip, port)),
                ));
            }
        }
    }
    Ok(bound)
}

fn bind_one(address: SocketAddr, protocol: Protocol) -> Result<(OwnedFd, u16), Errno> {
    let kind = if protocol == Protocol::Udp {
        SocketType::DGRAM
    } else {
        SocketType::STREAM
    };
    let socket = rustix::net::socket_with(
        family(address.ip()),
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier run that linger do not matter; a listener does, and is still refused.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    } else if let Err(error) = datagram::tell_destination(socket.as_fd(), address.is_ipv4()) {
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::NOTSUP));
    }
    rustix::net::bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    let chosen = SocketAddr::try_from(rustix::net::getsockname(&socket)?)
        .map_or(address.port(), |address| address.port());
    Ok((socket, chosen))
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
