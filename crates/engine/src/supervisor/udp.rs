//! Datagrams of a published UDP port: each peer gets a socket of its own towards the sandbox, so that answers find their way back.

use super::datagram::{self, Own};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Peers of one port at a time; the longest silent one makes room.
const PEERS_MAX: usize = 256;
/// A peer that is silent for so long is forgotten.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Datagrams in a row before others get their turn.
const DATAGRAMS_IN_A_ROW: usize = 32;

/// The peers of one port.
#[derive(Default)]
pub struct Peers {
    peers: BTreeMap<u64, Peer>,
    next_key: u64,
}

struct Peer {
    address: SocketAddr,
    /// Where it has sent to, and so where it expects answers from.
    own: Option<Own>,
    target: SocketAddr,
    socket: OwnedFd,
    heard: Instant,
}

impl Peers {
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub fn watched(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.peers
            .iter()
            .map(|(key, peer)| (*key, peer.socket.as_fd()))
    }

    pub fn expire(&mut self, now: Instant) {
        self.peers
            .retain(|_, peer| now.duration_since(peer.heard) < SILENCE_MAX);
    }

    /// From outside to the sandbox.
    pub fn inward(&mut self, socket: &OwnedFd, target: SocketAddr, scratch: &mut [u8]) {
        for _ in 0..DATAGRAMS_IN_A_ROW {
            let Ok((count, from, own)) = datagram::receive(socket.as_fd(), scratch) else {
                return;
            };
            if target.ip().is_unspecified() {
                continue;
            }
            if let Some(peer) = self.peer(from, own, target) {
                // Datagrams may be lost; so may this one.
                let _ = rustix::net::send(&peer.socket, &scratch[..count], SendFlags::NOSIGNAL);
            }
        }
    }

    /// From the sandbox back to a peer.
    pub fn outward(&mut self, socket: &OwnedFd, key: u64, scratch: &mut [u8]) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        for _ in 0..DATAGRAMS_IN_A_ROW {
            match rustix::net::recv(&peer.socket, &mut *scratch, RecvFlags::empty()) {
                Ok((count, _)) => {
                    peer.heard = Instant::now();
                    let bytes = &scratch[..count];
                    let _ = datagram::send(socket.as_fd(), bytes, peer.address, peer.own);
                }
                // Also the refusals that reading reports: they are over with it.
                Err(_) => return,
            }
        }
    }

    fn peer(&mut self, address: SocketAddr, own: Option<Own>, target: SocketAddr) -> Option<&Peer> {
        let known = self
            .peers
            .iter()
            .find(|(_, peer)| (peer.address, peer.own, peer.target) == (address, own, target))
            .map(|(key, _)| *key);
        let key = match known {
            Some(key) => key,
            None => {
                if self.peers.len() >= PEERS_MAX {
                    let silent = self
                        .peers
                        .iter()
                        .min_by_key(|(_, peer)| peer.heard)
                        .map(|(key, _)| *key)?;
                    self.peers.remove(&silent);
                }
                let family = if target.is_ipv4() {
                    rustix::net::AddressFamily::INET
                } else {
                    rustix::net::AddressFamily::INET6
                };
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket =
                    rustix::net::socket_with(family, SocketType::DGRAM, flags, None).ok()?;
                rustix::net::connect(&socket, &target).ok()?;
                self.next_key += 1;
                self.peers.insert(
                    self.next_key,
                    Peer {
                        address,
                        own,
                        target,
                        socket,
                        heard: Instant::now(),
                    },
                );
                self.next_key
            }
        };
        let peer = self.peers.get_mut(&key)?;
        peer.heard = Instant::now();
        Some(peer)
    }
}
