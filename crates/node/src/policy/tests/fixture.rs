//! The cluster of the scenarios, and the question that all of them ask.

use serde_json::{Value, json};

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::*;

const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

/// The IPv6 address of a pod.
pub fn ipv6(last: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into()
}

/// Nine pods: x/a has 10.64.0.11, x/b 10.64.0.12, ... z/c 10.64.0.33; and the DNS server on 10.64.0.1.
pub fn pods() -> Vec<PodView> {
    let mut all = dns_server(&[Ipv4Addr::new(10, 64, 0, 1).into()]);
    for (i, namespace) in ["x", "y", "z"].iter().enumerate() {
        for (j, name) in ["a", "b", "c"].iter().enumerate() {
            let port = |name: &str, number, protocol| json!({ "name": name, "containerPort": number, "protocol": protocol });
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "namespace": namespace, "name": name, "uid": format!("{namespace}/{name}"),
                    "labels": { "pod": name } },
                "spec": { "containers": [{ "name": "c", "ports": [
                    port("serve-80-tcp", 80, "TCP"), port("serve-80-udp", 80, "UDP"),
                    port("serve-81-tcp", 81, "TCP"), port("serve-81-udp", 81, "UDP"),
                ] }] } }))
            .expect("a pod");
            let last = u8::try_from(10 * (i + 1) + j + 1).expect("small");
            all.push(view(
                &pod,
                &[Ipv4Addr::new(10, 64, 0, last).into(), ipv6(last)],
            ));
        }
    }
    all
}

pub fn namespaces() -> BTreeMap<String, Labels> {
    ["x", "y", "z", "kube-system"]
        .into_iter()
        .map(|name| {
            let labels = [("ns", name), ("kubernetes.io/metadata.name", name)];
            let labels = labels
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()));
            (name.to_owned(), labels.collect())
        })
        .collect()
}

/// A policy in namespace x.
pub fn policy(name: &str, spec: Value) -> NetworkPolicy {
    serde_json::from_value(json!({ "metadata": { "namespace": "x", "name": name }, "spec": spec }))
        .expect("a policy")
}

/// What the rules would do with a connection; written apart from how they are rendered.
pub fn allowed(
    rules: &[PodPolicy],
    from: IpAddr,
    to: IpAddr,
    transport: Transport,
    port: u16,
) -> bool {
    let permits = |allowances: &Option<Vec<Allowance>>, peer: IpAddr| {
        allowances.as_ref().is_none_or(|list| {
            list.iter().any(|one| {
                one.peers.as_ref().is_none_or(|peers| peers.contains(peer))
                    && one.ports.as_ref().is_none_or(|ports| {
                        ports.iter().any(|range| {
                            range.transport == transport
                                && (range.first..=range.last).contains(&port)
                        })
                    })
            })
        })
    };
    let of = |address: IpAddr| rules.iter().find(|pod| pod.address == address);
    from == to
        || of(from).is_none_or(|pod| permits(&pod.egress, to))
            && of(to).is_none_or(|pod| permits(&pod.ingress, from))
}

pub struct Matrix(Vec<PodPolicy>);

impl Matrix {
    pub fn of(policies: &[NetworkPolicy]) -> Self {
        Self(compile(policies, &namespaces(), &pods()))
    }

    /// `x/a`, `outside` or `dns`.
    pub fn address(name: &str) -> IpAddr {
        match name {
            "outside" => OUTSIDE,
            "dns" => Ipv4Addr::new(10, 64, 0, 1).into(),
            _ => {
                pods()
                    .iter()
                    .find(|pod| pod.uid == name)
                    .expect(name)
                    .addresses[0]
            }
        }
    }

    pub fn tcp(&self, from: &str, to: &str, port: u16) -> bool {
        allowed(
            &self.0,
            Self::address(from),
            Self::address(to),
            Transport::Tcp,
            port,
        )
    }

    pub fn udp(&self, from: &str, to: &str, port: u16) -> bool {
        allowed(
            &self.0,
            Self::address(from),
            Self::address(to),
            Transport::Udp,
            port,
        )
    }

    /// Those who reach `to` on a TCP port, of all pods and the outside, in order, without itself.
    pub fn reach(&self, to: &str, port: u16) -> String {
        let names = pods()
            .into_iter()
            .filter(|pod| pod.restricted)
            .map(|pod| pod.uid);
        let all = names.chain(["outside".to_owned()]);
        let can: Vec<String> = all
            .filter(|from| from != to && self.tcp(from, to, port))
            .collect();
        can.join(" ")
    }

    /// Those whom `from` reaches on a TCP port.
    pub fn reached(&self, from: &str, port: u16) -> String {
        let names = pods()
            .into_iter()
            .filter(|pod| pod.restricted)
            .map(|pod| pod.uid);
        let all = names.chain(["outside".to_owned()]);
        let can: Vec<String> = all
            .filter(|to| to != from && self.tcp(from, to, port))
            .collect();
        can.join(" ")
    }
}

pub const EVERYBODY: &str = "x/b x/c y/a y/b y/c z/a z/b z/c outside";
