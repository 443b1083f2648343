//! Who holds ports of this machine: programs that listen, and containers whose ports are published.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network::{Protocol, Published};

/// A port that somebody holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub protocol: Protocol,
    pub port: u16,
    /// `None`: on every address.
    pub address: Option<Ipv4Addr>,
    /// Who, for people.
    pub by: String,
}

impl Held {
    /// Whether it is this port of this address.
    pub fn is_on(&self, protocol: Protocol, port: u16, address: Ipv4Addr) -> bool {
        (self.protocol, self.port) == (protocol, port)
            && self.address.is_none_or(|held| held == address)
    }
}

/// The ports that are held now. What cannot be read is taken to be free.
pub fn now(published: &[Published]) -> Vec<Held> {
    let mut all: Vec<Held> = published.iter().filter_map(of_container).collect();
    for (file, protocol) in [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
    ] {
        let text = std::fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
        all.extend(listening(&text, protocol));
    }
    all
}

fn of_container(published: &Published) -> Option<Held> {
    let address = match published.host_ip {
        None => None,
        Some(address) if address.is_unspecified() => None,
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) => return None,
    };
    Some(Held {
        protocol: published.protocol,
        port: published.host_port,
        address,
        by: format!("a container's published port (to {})", published.target),
    })
}

/// The sockets of a table of /proc/net that wait for others to come: TCP in LISTEN, UDP without a peer.
fn listening(table: &str, protocol: Protocol) -> Vec<Held> {
    const LISTEN: &str = "0A";
    const UNCONNECTED: &str = "07";
    let state = match protocol {
        Protocol::Tcp => LISTEN,
        Protocol::Udp => UNCONNECTED,
    };
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next()?;
            (words.nth(1)? == state).then_some(())?;
            let (address, port) = local.split_once(':')?;
            let address = match address.len() {
                8 => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_be()),
                _ => six(address)?,
            };
            Some(Held {
                protocol,
                port: u16::from_str_radix(port, 16).ok()?,
                address: (!address.is_unspecified()).then_some(address),
                by: "a program of this machine".into(),
            })
        })
        .collect()
}

/// What an IPv6 socket means for IPv4: all addresses (as long as it has not asked to be for IPv6 only, which the table
/// does not show), or a mapped one.
fn six(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 16];
    for (word, out) in octets.chunks_mut(4).enumerate() {
        let word = u32::from_str_radix(text.get(word * 8..word * 8 + 8)?, 16).ok()?;
        out.copy_from_slice(&word.to_ne_bytes());
    }
    let address = Ipv6Addr::from(octets);
    if address.is_unspecified() {
        return Some(Ipv4Addr::UNSPECIFIED);
    }
    address.to_ipv4_mapped()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2\n   2: 020200C0:0050 010200C0:8000 01 00000000:00000000 00:00000000 00000000     0        0 3\n rubbish\n";
        let held: Vec<_> = listening(tcp, Protocol::Tcp)
            .into_iter()
            .map(|held| (held.address, held.port))
            .collect();
        assert_eq!(held, [(Some(Ipv4Addr::LOCALHOST), 8080), (None, 22)]);
        let six = "head\n   0: 00000000000000000000000000000000:0016 0:0 0A 0\n   1: 0000000000000000FFFF0000020200C0:0050 0:0 0A 0\n   2: 00000000000000000000000001000000:0051 0:0 0A 0\n   3: 00:0051 0:0 0A 0\n";
        let held: Vec<_> = listening(six, Protocol::Tcp)
            .into_iter()
            .map(|held| (held.address, held.port))
            .collect();
        assert_eq!(held, [(None, 22), (Some(Ipv4Addr::new(192, 0, 2, 2)), 80)]);
        let udp =
            "head\n  1: 00000000:0035 00000000:0000 07 0\n  2: 00000000:0036 00000000:0000 01 0\n";
        let held: Vec<_> = listening(udp, Protocol::Udp)
            .into_iter()
            .map(|held| held.port)
            .collect();
        assert_eq!(held, [53]);
    }

    #[test]
    fn a_listener_of_this_process_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = |address| {
            now(&[])
                .iter()
                .any(|held| held.is_on(Protocol::Tcp, port, address))
        };
        assert!(seen(Ipv4Addr::LOCALHOST) && !seen(Ipv4Addr::new(192, 0, 2, 1)));
        drop(listener);
    }
}
