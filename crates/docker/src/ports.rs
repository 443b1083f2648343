//! Published ports: from `80/tcp` and bindings to what engine and network do.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

use engine::{Protocol, PublishedPort};
use serde_json::{Map, Value, json};

use crate::record::{Config, HostConfig};
use crate::reply::Refusal;

/// `80`, `80/tcp` or `53/udp`.
pub fn parse(text: &str) -> Result<(u16, Protocol), Refusal> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let port = number
        .parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| Refusal::bad(format!("invalid port specification: {text:?}")))?;
    match protocol {
        "tcp" => Ok((port, Protocol::Tcp)),
        "udp" => Ok((port, Protocol::Udp)),
        _ => Err(Refusal::bad(format!(
            "invalid protocol in {text:?}: tcp and udp can be published"
        ))),
    }
}

pub fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// A port that a container publishes, before it is known where.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    host_ip: Option<IpAddr>,
    /// One of these, the first that is free; none: any.
    among: Option<RangeInclusive<u16>>,
    port: u16,
    protocol: Protocol,
}

/// What the container is to publish.
pub fn wanted(config: &Config, host: &HostConfig) -> Result<Vec<Wanted>, Refusal> {
    let mut ports = Vec::new();
    for (text, bindings) in &host.port_bindings {
        let (port, protocol) = parse(text)?;
        for binding in bindings.iter().flatten() {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                ip => Some(ip.parse().map_err(|_| {
                    Refusal::bad(format!("invalid IP address {ip:?} in a port binding"))
                })?),
            };
            ports.push(Wanted {
                host_ip,
                among: range(&binding.host_port)?,
                port,
                protocol,
            });
        }
    }
    if host.publish_all_ports {
        for text in config
            .exposed_ports
            .keys()
            .filter(|text| !host.port_bindings.contains_key(*text))
        {
            let (port, protocol) = parse(text)?;
            ports.push(Wanted {
                host_ip: None,
                among: None,
                port,
                protocol,
            });
        }
    }
    Ok(ports)
}

/// `8080`, `8000-8010`; nothing and 0 mean any.
fn range(text: &str) -> Result<Option<RangeInclusive<u16>>, Refusal> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().ok().filter(|port: &u16| *port > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(Some(first..=last)),
        _ => Err(Refusal::bad(format!(
            "invalid host port {text:?}: 1 to 65535, or a range of them"
        ))),
    }
}

/// Whether another choice may succeed where this one was found taken.
pub fn is_choice(wanted: &[Wanted]) -> bool {
    let one = |range: &RangeInclusive<u16>| range.start() == range.end();
    wanted
        .iter()
        .any(|port| !port.among.as_ref().is_some_and(one))
}

/// Where they are published from now on. Targets get their address later.
pub fn chosen(wanted: &[Wanted]) -> Result<Vec<PublishedPort>, Refusal> {
    let mut ports: Vec<PublishedPort> = Vec::new();
    for one in wanted {
        let is_ours = |number: u16| {
            ports.iter().any(|port| {
                port.host_port == number
                    && port.protocol == one.protocol
                    && (port.host_ip == one.host_ip
                        || port.host_ip.is_none()
                        || one.host_ip.is_none())
            })
        };
        let host_port = match &one.among {
            // whether it is free is seen when it is bound, and told then
            Some(among) if among.start() == among.end() => *among.start(),
            Some(among) => among
                .clone()
                .find(|number| !is_ours(*number) && bound(one, *number).is_ok())
                .ok_or_else(|| {
                    Refusal::internal(format!(
                        "all ports of {}-{} are allocated",
                        among.start(),
                        among.end()
                    ))
                })?,
            None => free_port(one, is_ours)?,
        };
        ports.push(PublishedPort {
            host_ip: one.host_ip,
            host_port,
            target: SocketAddr::from((Ipv4Addr::UNSPECIFIED, one.port)),
            protocol: one.protocol,
        });
    }
    Ok(ports)
}

/// One that the kernel gives, and that is not among `ours`.
fn free_port(wanted: &Wanted, ours: impl Fn(u16) -> bool) -> Result<u16, Refusal> {
    loop {
        let number = bound(wanted, 0)?;
        if !ours(number) {
            return Ok(number);
        }
    }
}

/// The number with which the port can be bound now.
fn bound(wanted: &Wanted, number: u16) -> std::io::Result<u16> {
    let bind = |ip: IpAddr, number: u16| {
        let bound = match wanted.protocol {
            Protocol::Tcp => TcpListener::bind((ip, number)).and_then(|socket| socket.local_addr()),
            Protocol::Udp => UdpSocket::bind((ip, number)).and_then(|socket| socket.local_addr()),
        };
        bound.map(|address| address.port())
    };
    let Some(ip) = wanted.host_ip else {
        let number = bind(Ipv4Addr::UNSPECIFIED.into(), number)?;
        // a machine without IPv6 has it free there
        return match bind(Ipv6Addr::UNSPECIFIED.into(), number) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => Err(error),
            _ => Ok(number),
        };
    };
    bind(ip, number)
}

/// The same ports with the container's address.
pub fn aimed(ports: &[PublishedPort], address: Ipv4Addr) -> Vec<PublishedPort> {
    ports
        .iter()
        .map(|port| PublishedPort {
            target: SocketAddr::new(address.into(), port.target.port()),
            ..port.clone()
        })
        .collect()
}

/// For the network's translation rules, by each address of the container.
pub fn translated(ports: &[PublishedPort], addresses: &[IpAddr]) -> Vec<network::Published> {
    ports
        .iter()
        .flat_map(|port| addresses.iter().map(move |address| (port, *address)))
        .map(|(port, address)| {
            let protocol = match port.protocol {
                Protocol::Tcp => network::Protocol::Tcp,
                Protocol::Udp => network::Protocol::Udp,
            };
            network::Published {
                host_ip: port.host_ip,
                host_port: port.host_port,
                target: SocketAddr::new(address, port.target.port()),
                protocol,
            }
        })
        .collect()
}

/// `Ports` of `docker ps`.
pub fn listed(config: &Config, ports: &[PublishedPort]) -> Vec<Value> {
    let mut list: Vec<Value> = Vec::new();
    for port in ports {
        let entry = |ip: String| json!({ "IP": ip, "PrivatePort": port.target.port(), "PublicPort": port.host_port, "Type": word(port.protocol) });
        match port.host_ip {
            Some(ip) => list.push(entry(ip.to_string())),
            None => list.extend(["0.0.0.0", "::"].map(|ip| entry(ip.to_owned()))),
        }
    }
    for text in config.exposed_ports.keys() {
        if let Ok((port, protocol)) = parse(text)
            && !ports
                .iter()
                .any(|p| p.target.port() == port && p.protocol == protocol)
        {
            list.push(json!({ "PrivatePort": port, "Type": word(protocol) }));
        }
    }
    list
}

/// `NetworkSettings.Ports` of `docker inspect`.
pub fn inspected(config: &Config, ports: &[PublishedPort]) -> Value {
    let mut map = Map::new();
    for text in config.exposed_ports.keys() {
        map.insert(
            if text.contains('/') {
                text.clone()
            } else {
                format!("{text}/tcp")
            },
            Value::Null,
        );
    }
    for port in ports {
        let key = format!("{}/{}", port.target.port(), word(port.protocol));
        let entry = map.entry(key).or_insert(Value::Null);
        if entry.is_null() {
            *entry = json!([]);
        }
        if let Value::Array(list) = entry {
            let ips = port.host_ip.map_or_else(
                || vec!["0.0.0.0".to_owned(), "::".to_owned()],
                |ip| vec![ip.to_string()],
            );
            list.extend(
                ips.into_iter()
                    .map(|ip| json!({ "HostIp": ip, "HostPort": port.host_port.to_string() })),
            );
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications() {
        assert_eq!(parse("80").expect("port"), (80, Protocol::Tcp));
        assert_eq!(parse("53/udp").expect("port"), (53, Protocol::Udp));
        for text in ["", "0", "80/sctp", "x/tcp", "70000"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bindings() {
        let host: HostConfig = serde_json::from_str(
            r#"{"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}],"81/tcp":[{"HostPort":""}]}}"#,
        )
        .expect("parses");
        let ports = wanted(&Config::default(), &host).expect("valid");
        let ports = chosen(&ports).expect("free ports");
        assert_eq!(
            (ports[0].host_port, ports[0].host_ip),
            (8080, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)))
        );
        assert_ne!(ports[1].host_port, 0, "a free port is chosen");
        for wrong in ["99999", "x", "80-70", "0-5", "1-2-3"] {
            let binding = format!(r#"{{"PortBindings":{{"80/tcp":[{{"HostPort":"{wrong}"}}]}}}}"#);
            let host: HostConfig = serde_json::from_str(&binding).expect("parses");
            assert!(wanted(&Config::default(), &host).is_err(), "{wrong}");
        }
    }

    #[test]
    fn of_a_range_the_first_that_is_free() {
        let any = (Ipv4Addr::UNSPECIFIED, 0);
        // a port that is taken, and two after it, which are hopefully not
        let (taken, first) = std::iter::repeat_with(|| TcpListener::bind(any).expect("a port"))
            .find_map(|socket| {
                let first = socket.local_addr().ok()?.port();
                let free = |port: u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
                (first < 65_000 && free(first + 1) && free(first + 2)).then_some((socket, first))
            })
            .expect("endless");
        let last = first + 2;
        let host: HostConfig = serde_json::from_str(&format!(
            r#"{{"PortBindings":{{"80/tcp":[{{"HostPort":"{first}-{last}"}}],"81/tcp":[{{"HostPort":"{first}-{last}"}}],"82/udp":[{{"HostPort":"{first}-{last}"}}]}}}}"#
        ))
        .expect("parses");
        let all = wanted(&Config::default(), &host).expect("valid");
        let numbers = |all: &[Wanted]| -> Vec<u16> {
            let ports = chosen(all).unwrap_or_else(|refusal| panic!("{}", refusal.message));
            ports.iter().map(|port| port.host_port).collect()
        };
        assert!(is_choice(&all));
        assert_eq!(numbers(&all)[..2], [first + 1, first + 2]);
        drop(taken);
        assert_eq!(numbers(&all)[..2], [first, first + 1], "chosen anew");
        let none = TcpListener::bind(any).expect("a port");
        let number = none.local_addr().expect("an address").port();
        let full = Wanted {
            among: Some(number..=number),
            ..all[0].clone()
        };
        assert!(!is_choice(std::slice::from_ref(&full)));
        assert_eq!(numbers(&[full]), [number], "told when it is bound");
    }
}
