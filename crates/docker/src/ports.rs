//! Published ports: from `80/tcp` and bindings to what engine and network do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

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

/// What the container publishes, with host ports chosen where none was named. Targets get their address later.
pub fn published(config: &Config, host: &HostConfig) -> Result<Vec<PublishedPort>, Refusal> {
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
            let host_port = match binding.host_port.as_str() {
                "" | "0" => free_port(protocol)?,
                number => number.parse().map_err(|_| {
                    Refusal::bad(format!("invalid host port {number:?}: 1 to 65535"))
                })?,
            };
            ports.push(published_port(host_ip, host_port, port, protocol));
        }
    }
    if host.publish_all_ports {
        for text in config
            .exposed_ports
            .keys()
            .filter(|text| !host.port_bindings.contains_key(*text))
        {
            let (port, protocol) = parse(text)?;
            ports.push(published_port(None, free_port(protocol)?, port, protocol));
        }
    }
    Ok(ports)
}

fn published_port(
    host_ip: Option<IpAddr>,
    host_port: u16,
    port: u16,
    protocol: Protocol,
) -> PublishedPort {
    PublishedPort {
        host_ip,
        host_port,
        target: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        protocol,
    }
}

fn free_port(protocol: Protocol) -> Result<u16, Refusal> {
    let any = (Ipv4Addr::UNSPECIFIED, 0);
    let address = match protocol {
        Protocol::Tcp => TcpListener::bind(any).and_then(|socket| socket.local_addr()),
        Protocol::Udp => UdpSocket::bind(any).and_then(|socket| socket.local_addr()),
    };
    Ok(address?.port())
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
        let ports = published(&Config::default(), &host).expect("valid");
        assert_eq!(
            (ports[0].host_port, ports[0].host_ip),
            (8080, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)))
        );
        assert_ne!(ports[1].host_port, 0, "a free port is chosen");
        let wrong: HostConfig =
            serde_json::from_str(r#"{"PortBindings":{"80/tcp":[{"HostPort":"99999"}]}}"#)
                .expect("parses");
        assert!(published(&Config::default(), &wrong).is_err());
    }
}
