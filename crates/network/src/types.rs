//! The plain data that callers hand in and get back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{Error, names};

/// What one instance's network is made of. Two instances on one machine differ in all of it except `cluster_domain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `plim-XXXXXX`; the nftables table is this name with `_` for `-`.
    pub instance: String,
    /// Name of the bridge, at most 15 characters; normally the instance's name.
    pub bridge: String,
    /// Addresses of pods and containers on this machine. The first host address is the gateway, the bridge's own.
    pub pod_cidr: Ipv4Net,
    /// Service addresses; never assigned to any interface.
    pub service_cidr: Ipv4Net,
    /// The same for IPv6; `None`: pods and services have IPv4 alone.
    pub ipv6: Option<Ipv6Ranges>,
    /// `cluster.local`, without a trailing dot.
    pub cluster_domain: String,
    /// Service address of the DNS server, within `service_cidr`.
    pub dns_ip: Ipv4Addr,
    /// Where leases and what was changed on the machine are written down (DIR/network).
    pub state_dir: PathBuf,
}

/// The IPv6 half of an instance's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Ranges {
    /// Addresses of pods and containers, of a /112 or wider. The first is the bridge's own; a pod has the one whose last
    /// bits are those of its IPv4 address.
    pub pod_cidr: Ipv6Net,
    /// Service addresses; never assigned to any interface.
    pub service_cidr: Ipv6Net,
}

impl Config {
    /// Ranges of pods, IPv4 first.
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        let ipv6 = self.ipv6.map(|ranges| IpNet::V6(ranges.pod_cidr));
        std::iter::once(IpNet::V4(self.pod_cidr))
            .chain(ipv6)
            .collect()
    }

    /// Ranges of services, IPv4 first.
    pub fn service_cidrs(&self) -> Vec<IpNet> {
        let ipv6 = self.ipv6.map(|ranges| IpNet::V6(ranges.service_cidr));
        std::iter::once(IpNet::V4(self.service_cidr))
            .chain(ipv6)
            .collect()
    }

    /// Refuses what cannot work on any machine.
    ///
    /// # Errors
    /// What is wrong, and with which value.
    pub fn check(&self) -> Result<(), Error> {
        let config = self;
        let wrong = |message: String| Err(Error::Config(message));
        if config.bridge.is_empty() || config.bridge.len() > names::INTERFACE_NAME_BYTES_MAX {
            return wrong(format!(
                "the bridge's name {:?} must have 1 to {} characters",
                config.bridge,
                names::INTERFACE_NAME_BYTES_MAX
            ));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        if !config.bridge.chars().all(plain) || !config.instance.chars().all(plain) {
            return wrong(format!(
                "bridge {:?} and instance {:?} may hold letters, digits, '-', '_' and '.'",
                config.bridge, config.instance
            ));
        }
        if !config
            .instance
            .starts_with(|c: char| c.is_ascii_alphabetic())
        {
            return wrong(format!(
                "the instance's name {:?} must start with a letter",
                config.instance
            ));
        }
        if config.pod_cidr.prefix_len() > 29 {
            return wrong(format!("the pod range {} is too small", config.pod_cidr));
        }
        if !config.service_cidr.contains(&config.dns_ip) {
            return wrong(format!(
                "the DNS address {} is not in the service range {}",
                config.dns_ip, config.service_cidr
            ));
        }
        if config.pod_cidr.contains(&config.service_cidr.network())
            || config.service_cidr.contains(&config.pod_cidr.network())
        {
            return wrong(format!(
                "the pod range {} and the service range {} overlap",
                config.pod_cidr, config.service_cidr
            ));
        }
        let Some(Ipv6Ranges {
            pod_cidr,
            service_cidr,
        }) = config.ipv6
        else {
            return Ok(());
        };
        let pod_bits = 128 - pod_cidr.prefix_len();
        if pod_cidr.prefix_len() > POD_PREFIX_LEN_MAX
            || pod_bits < 32 - config.pod_cidr.prefix_len()
        {
            return wrong(format!(
                "the IPv6 pod range {pod_cidr} is too small: it needs a /{POD_PREFIX_LEN_MAX} or wider, and room for as many addresses as {}",
                config.pod_cidr
            ));
        }
        if pod_cidr.contains(&service_cidr.network()) || service_cidr.contains(&pod_cidr.network())
        {
            return wrong(format!(
                "the IPv6 pod range {pod_cidr} and the IPv6 service range {service_cidr} overlap"
            ));
        }
        Ok(())
    }
}

/// The smallest IPv6 range for pods.
const POD_PREFIX_LEN_MAX: u8 = 112;

/// The interface that a namespace was given. The same `id` gets the same answer until it is detached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Address of `eth0` in the namespace.
    pub address: Ipv4Addr,
    /// Prefix length of the pod range.
    pub prefix_len: u8,
    /// Default gateway: the bridge.
    pub gateway: Ipv4Addr,
    /// Hardware address of `eth0`, lower-case, colon-separated; derived from the instance and the address.
    pub mac: String,
    /// Name of the other end, on the bridge.
    pub host_interface: String,
    /// Its IPv6 side; `None` where the instance has no IPv6, or had none when it was attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Attachment>,
}

/// The IPv6 side of an [`Attachment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Attachment {
    /// Address of `eth0` in the namespace.
    pub address: Ipv6Addr,
    /// Prefix length of the pod range.
    pub prefix_len: u8,
    /// Default gateway: the bridge.
    pub gateway: Ipv6Addr,
}

impl Attachment {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ipv6 = self.ipv6.map(|ipv6| IpAddr::V6(ipv6.address));
        std::iter::once(IpAddr::V4(self.address))
            .chain(ipv6)
            .collect()
    }
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl Protocol {
    /// As nftables and DNS spell it: `tcp`, `udp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A service as rules and DNS need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Namespace of the Service object.
    pub namespace: String,
    /// Name of the Service object.
    pub name: String,
    /// The service addresses, at most one of each family; none for a headless service.
    pub cluster_ips: Vec<IpAddr>,
    /// Ports, each with the endpoints that are ready for it.
    pub ports: Vec<ServicePort>,
    /// Addresses behind a headless service, as DNS shall answer them. Empty: those of `ports`.
    pub hosts: Vec<ServiceHost>,
    /// `spec.externalName`: DNS answers with an alias to it, and nothing else of the service counts.
    pub external_name: Option<String>,
    /// `sessionAffinity: ClientIP`: seconds for which a client keeps its endpoint after its last connection.
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`: the service address leads to endpoints of this machine only.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: what comes from other machines goes to endpoints of this machine only.
    pub external_local: bool,
    /// `spec.externalIPs`: further addresses on which the service's ports are accepted.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of its load balancer (`status.loadBalancer.ingress`), likewise.
    pub balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`: who may use `balancer_ips`; empty: everybody.
    pub source_ranges: Vec<IpNet>,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name of the port; empty when the service has one unnamed port.
    pub name: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the service address.
    pub port: u16,
    /// Port on the machine's own addresses, for services of type NodePort.
    pub node_port: Option<u16>,
    /// Whether it is open on the addresses of the service's load balancer.
    pub balanced: bool,
    /// Where connections go, each to endpoints of its own family. None: they are refused.
    pub endpoints: Vec<SocketAddr>,
    /// Those on this machine. Where a policy is `Local` and there is none, while `endpoints` has some, packets are
    /// dropped.
    pub local_endpoints: Vec<SocketAddr>,
}

impl ServicePort {
    /// A port all of whose endpoints are on this machine.
    pub fn new<E: Copy + Into<SocketAddr>>(
        name: &str,
        protocol: Protocol,
        port: u16,
        endpoints: &[E],
    ) -> Self {
        let endpoints: Vec<SocketAddr> = endpoints.iter().map(|end| (*end).into()).collect();
        Self {
            name: name.to_owned(),
            protocol,
            port,
            node_port: None,
            balanced: true,
            local_endpoints: endpoints.clone(),
            endpoints,
        }
    }
}

/// One address behind a headless service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHost {
    /// `hostname` of the pod (`subdomain` matches), giving it a name of its own.
    pub hostname: Option<String>,
    /// The pod's address.
    pub address: IpAddr,
}

/// A port of this machine that leads into a container. Loopback is not translated here: the supervising process listens
/// on it, as it does for the family that `target` is not of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The address to accept on; `None`: all of this machine's addresses of the target's family; 0.0.0.0 and [::]: all of
    /// that family.
    pub host_ip: Option<IpAddr>,
    /// The port to accept on.
    pub host_port: u16,
    /// Where it leads.
    pub target: SocketAddr,
    /// Transport protocol.
    pub protocol: Protocol,
}
