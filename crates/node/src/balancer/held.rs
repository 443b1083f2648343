//! Who holds ports of this machine: programs that listen, and containers whose ports are published.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use network::{Protocol, Published};

/// A port that somebody holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub protocol: Protocol,
    pub port: u16,
    /// 0.0.0.0: on every IPv4 address; [::]: on every address.
    pub address: IpAddr,
    /// Who, for people.
    pub by: String,
}

impl Held {
    /// Whether it is this port of this address.
    pub fn is_on(&self, protocol: Protocol, port: u16, address: IpAddr) -> bool {
        let there = match self.address {
            // As long as it has not asked to be for IPv6 only, which nothing shows.
            IpAddr::V6(held) if held.is_unspecified() => true,
            IpAddr::V4(held) if held.is_unspecified() => address.is_ipv4(),
            held => held == address,
        };
        (self.protocol, self.port) == (protocol, port) && there
    }
}

/// The ports that are held now. What cannot be read is taken to be free.
pub fn now(published: &[Published]) -> Vec<Held> {
    let mut all: Vec<Held> = published.iter().map(of_container).collect();
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

fn of_container(published: &Published) -> Held {
    Held {
        protocol: published.protocol,
        port: published.host_port,
        address: published.host_ip.unwrap_or(Ipv6Addr::UNSPECIFIED.into()),
        by: format!("a container's published port (to {})", published.target),
    }
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
                8 => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_be()).into(),
                _ => six(address)?,
            };
            Some(Held {
                protocol,
                port: u16::from_str_radix(port, 16).ok()?,
                address,
                by: "a program of this machine".into(),
            })
        })
        .collect()
}

/// The address of an IPv6 socket; a mapped one is IPv4's.
fn six(text: &str) -> Option<IpAddr> {
    let mut octets = [0; 16];
    for (word, out) in octets.chunks_mut(4).enumerate() {
        let word = u32::from_str_radix(text.get(word * 8..word * 8 + 8)?, 16).ok()?;
        out.copy_from_slice(&word.to_ne_bytes());
    }
    Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2\n   2: 020200C0:0050 010200C0:8000 01 00000000:00000000 00:00000000 00000000     0        0 3\n rubbish\n";
        let held: Vec<_> = listening(tcp, Protocol::Tcp)
            .into_iter()
            .map(|held| (held.address.to_string(), held.port))
            .collect();
        assert_eq!(
            held,
            [("127.0.0.1".to_owned(), 8080), ("0.0.0.0".to_owned(), 22)]
        );
        let six = "head\n   0: 00000000000000000000000000000000:0016 0:0 0A 0\n   1: 0000000000000000FFFF0000020200C0:0050 0:0 0A 0\n   2: 00000000000000000000000001000000:0051 0:0 0A 0\n   3: 00:0051 0:0 0A 0\n";
        let held: Vec<_> = listening(six, Protocol::Tcp)
            .into_iter()
            .map(|held| (held.address.to_string(), held.port))
            .collect();
        assert_eq!(
            held,
            [
                ("::".to_owned(), 22),
                ("192.0.2.2".to_owned(), 80),
                ("::1".to_owned(), 81)
            ]
        );
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
        let other = IpAddr::from([192, 0, 2, 1]);
        assert!(seen(Ipv4Addr::LOCALHOST.into()) && !seen(other));
        drop(listener);
    }
}
