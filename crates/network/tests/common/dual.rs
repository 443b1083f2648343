//! A cluster of both families.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use network::{Attachment, Network, Protocol, Published, Service};

use super::{HOST_ADDRESS, HOST_ADDRESS6, Machine, Namespace, open, service};

pub const SERVICE4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 112, 1, 20));
pub const SERVICE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x112, 1, 0, 0, 0, 0, 0x20));

/// Pods that serve their numbers on 8080, TCP and UDP; a dual-stack service over the first two; the first is published.
pub struct Cluster {
    pub machine: Machine,
    pub pods: Vec<Namespace>,
    pub at: Vec<Attachment>,
}

pub fn of(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

pub fn ends(at: &[Attachment]) -> Vec<SocketAddr> {
    let addresses = at.iter().flat_map(Attachment::addresses);
    addresses.map(|address| of(address, 8080)).collect()
}

pub fn services(at: &[Attachment]) -> Vec<Service> {
    let mut web = service("web", SERVICE4, 80, &ends(&at[..2]));
    web.cluster_ips.push(SERVICE6);
    web.ports[0].node_port = Some(30080);
    web.balancer_ips = vec![HOST_ADDRESS.into(), HOST_ADDRESS6.into()];
    vec![web]
}

pub fn published(at: &Attachment) -> Vec<Published> {
    let publish = |target| Published {
        host_ip: None,
        host_port: 8000,
        target,
        protocol: Protocol::Tcp,
    };
    ends(std::slice::from_ref(at))
        .into_iter()
        .map(publish)
        .collect()
}

impl Cluster {
    pub fn new(count: usize) -> Self {
        let machine = Machine::new();
        let pods: Vec<Namespace> = (0..count).map(|_| Namespace::new()).collect();
        let paths: Vec<_> = pods.iter().map(Namespace::path).collect();
        let (config, options) = (machine.config(1), machine.options());
        let at = machine.run(move || async move {
            let network = open(config, options).await;
            let mut at = Vec::new();
            for (n, path) in paths.iter().enumerate() {
                at.push(
                    network
                        .attach(path, &n.to_string())
                        .await
                        .expect("attached"),
                );
            }
            network.set_services(services(&at)).await.expect("applied");
            let ports = published(&at[0]);
            network.set_published("0", ports).await.expect("published");
            at
        });
        for (n, pod) in pods.iter().enumerate() {
            pod.serve(8080, &n.to_string());
            pod.serve_udp(8080, &n.to_string());
        }
        Self { machine, pods, at }
    }

    pub fn six(&self, pod: usize) -> Ipv6Addr {
        self.at[pod].ipv6.expect("an IPv6 address").address
    }

    /// Does `work` in one process of the instance.
    pub fn with<F, Fut>(&self, work: F)
    where
        F: FnOnce(Network) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let (config, options) = (self.machine.config(1), self.machine.options());
        self.machine
            .run(move || async move { work(open(config, options).await).await });
    }
}

/// The index of an interface.
pub fn index_of(namespace: &Namespace, interface: &str) -> u32 {
    let text = namespace.text(&["ip", "-o", "link", "show", "dev", interface]);
    text.split(':').next().unwrap().parse().expect("an index")
}

pub fn words(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}
