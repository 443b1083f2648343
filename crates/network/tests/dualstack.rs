//! Both families at once, with real packets: pods, services, published ports, policies, neighbours, the machine's settings.

mod common;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use common::{
    HOST_ADDRESS, HOST_ADDRESS6, Machine, Namespace, OUTSIDE_ADDRESS, OUTSIDE_ADDRESS6, open,
    service, single,
};
use network::{
    AddressSet, Allowance, Attachment, Error, Network, PodPolicy, Protocol, Published, Service,
};

const SERVICE4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 112, 1, 20));
const SERVICE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x112, 1, 0, 0, 0, 0, 0x20));

/// Pods that serve their numbers on 8080, TCP and UDP; a dual-stack service over the first two; the first is published.
struct Cluster {
    machine: Machine,
    pods: Vec<Namespace>,
    at: Vec<Attachment>,
}

fn of(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

fn ends(at: &[Attachment]) -> Vec<SocketAddr> {
    let addresses = at.iter().flat_map(Attachment::addresses);
    addresses.map(|address| of(address, 8080)).collect()
}

fn services(at: &[Attachment]) -> Vec<Service> {
    let mut web = service("web", SERVICE4, 80, &ends(&at[..2]));
    web.cluster_ips.push(SERVICE6);
    web.ports[0].node_port = Some(30080);
    web.balancer_ips = vec![HOST_ADDRESS.into(), HOST_ADDRESS6.into()];
    vec![web]
}

fn published(at: &Attachment) -> Vec<Published> {
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
    fn new(count: usize) -> Self {
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

    fn six(&self, pod: usize) -> Ipv6Addr {
        self.at[pod].ipv6.expect("an IPv6 address").address
    }

    /// Does `work` in one process of the instance.
    fn with<F, Fut>(&self, work: F)
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
fn index_of(namespace: &Namespace, interface: &str) -> u32 {
    let text = namespace.text(&["ip", "-o", "link", "show", "dev", interface]);
    text.split(':').next().unwrap().parse().expect("an index")
}

fn words(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn every_way_works_in_both_families() {
    for bridge_nf in ["0", "1"] {
        let cluster = Cluster::new(3);
        let (host, outside) = (&cluster.machine.host, &cluster.machine.outside);
        for setting in ["iptables", "ip6tables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{setting}");
            if host.command(&["test", "-e", &path]).status.success() {
                host.text(&["sh", "-c", &format!("echo {bridge_nf} > {path}")]);
            }
        }
        outside.serve(9000, "outside");
        let [a, b, c] = &cluster.pods[..] else {
            panic!()
        };
        let (both, case) = (words(&["0", "1"]), format!("bridge-nf {bridge_nf}"));
        for address in cluster.at[0].addresses() {
            for from in [host, b, a] {
                let text = from.fetch(of(address, 8080)).expect("it answers");
                assert!(text.starts_with("0 "), "{case}: {text}");
            }
        }
        let from = c.fetch(of(cluster.six(0), 8080)).unwrap();
        assert_eq!(
            from,
            format!("0 {}", cluster.six(2)),
            "{case}: neighbours see each other"
        );
        for (address, port) in [
            (SERVICE4, 80),
            (SERVICE6, 80),
            (HOST_ADDRESS.into(), 30080),
            (HOST_ADDRESS6.into(), 30080),
            (HOST_ADDRESS.into(), 80),
            (HOST_ADDRESS6.into(), 80),
        ] {
            // Also a pod of the service: it may meet itself.
            for from in [host, a, b, c] {
                assert_eq!(
                    from.answers(of(address, port), 30),
                    both,
                    "{case}: {address}"
                );
            }
        }
        for address in [IpAddr::from(HOST_ADDRESS), HOST_ADDRESS6.into()] {
            assert_eq!(
                outside.answers(of(address, 30080), 30),
                both,
                "{case}: {address}"
            );
            assert_eq!(
                outside.answers(of(address, 80), 30),
                both,
                "{case}: {address}"
            );
            for from in [host, a, b, outside] {
                let text = from.fetch(of(address, 8000)).expect("published");
                assert!(text.starts_with("0 "), "{case}: {text}");
            }
        }
        // What comes from outside is seen as who it is, what goes there is this machine's.
        let text = outside.fetch(of(HOST_ADDRESS6, 8000)).unwrap();
        assert_eq!(text, format!("0 {OUTSIDE_ADDRESS6}"), "{case}");
        for (to, seen) in [
            (IpAddr::from(OUTSIDE_ADDRESS), IpAddr::from(HOST_ADDRESS)),
            (OUTSIDE_ADDRESS6.into(), HOST_ADDRESS6.into()),
        ] {
            let text = c.fetch(of(to, 9000)).expect("outside answers");
            assert_eq!(text, format!("outside {seen}"), "{case}");
        }
        // Nothing behind it: refused at once.
        for address in ["10.112.1.21", "fd00:112:1::21"] {
            let to: IpAddr = address.parse().unwrap();
            for from in [host, c] {
                let error = from.fetch(of(to, 80)).unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::ConnectionRefused,
                    "{case}: {address}"
                );
            }
        }
        // Routing to pods is no way in.
        let gateway = HOST_ADDRESS6.to_string();
        outside.text(&[
            "ip",
            "-6",
            "route",
            "add",
            "fd00:64:1::/64",
            "via",
            &gateway,
        ]);
        assert!(outside.fetch(of(cluster.six(0), 8080)).is_err(), "{case}");
    }
}

#[test]
fn a_client_stays_with_its_endpoint_in_both_families() {
    let cluster = Cluster::new(3);
    let at = cluster.at.clone();
    cluster.with(move |network| async move {
        let mut services = services(&at);
        services[0].affinity_seconds = Some(100);
        network.set_services(services).await.expect("applied");
    });
    for address in [SERVICE4, SERVICE6] {
        let met = cluster.pods[2].answers(of(address, 80), 20);
        assert_eq!(met.len(), 1, "{address}: {met:?}");
    }
}

#[test]
fn flows_of_udp_leave_an_endpoint_that_has_gone() {
    let cluster = Cluster::new(3);
    let at = cluster.at.clone();
    let client = cluster.pods[2].within(|| UdpSocket::bind("[::]:0").unwrap());
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    client
        .connect(of(SERVICE6, 80))
        .unwrap_or_else(|error| panic!("{error}"));
    cluster.with(move |network| async move {
        let ask = || {
            client.send(b"?").unwrap();
            let mut buffer = [0; 16];
            let length = client.recv(&mut buffer).expect("an answer");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        for n in [0, 1, 0] {
            let mut one = services(&at);
            one[0].ports[0].protocol = Protocol::Udp;
            one[0].ports[0].endpoints = ends(&at[n..=n]);
            network.set_services(one).await.expect("applied");
            assert_eq!(ask(), n.to_string());
        }
    });
}

#[test]
fn policies_hold_for_both_families() {
    let cluster = Cluster::new(3);
    let [a, b, c] = &cluster.pods[..] else {
        panic!()
    };
    let host = &cluster.machine.host;
    let closed = |at: &Attachment, peers: &[IpAddr]| {
        let mut set = AddressSet::default();
        peers.iter().for_each(|peer| set.add_address(*peer));
        let list = vec![Allowance {
            policy: "n/p".into(),
            peers: Some(set),
            ports: None,
        }];
        at.addresses().into_iter().map(move |address| PodPolicy {
            address,
            ingress: Some(list.clone()),
            egress: None,
        })
    };
    let police = |policies: Vec<PodPolicy>| {
        let services = services(&cluster.at);
        cluster.with(|network| async move {
            let applied = network.set_traffic(Some(services), Some(policies)).await;
            applied.expect("applied");
        });
    };
    police(closed(&cluster.at[0], &[]).collect());
    for address in cluster.at[0].addresses() {
        let error = b.fetch(of(address, 8080)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "dropped");
        // Its own machine and itself.
        assert!(host.fetch(of(address, 8080)).is_ok() && a.fetch(of(address, 8080)).is_ok());
    }
    assert!(
        c.fetch(of(cluster.six(1), 8080)).is_ok(),
        "another pod is open"
    );
    // By IPv6 alone.
    police(closed(&cluster.at[0], &[cluster.six(1).into()]).collect());
    assert!(b.fetch(of(cluster.six(0), 8080)).is_ok());
    assert!(c.fetch(of(cluster.six(0), 8080)).is_err());
    assert!(b.fetch(of(cluster.at[0].address, 8080)).is_err());
    // A block, and no way around by another address or another source.
    police(closed(&cluster.at[0], &[]).collect());
    let spoof = b.command(&[
        "ip",
        "-6",
        "addr",
        "add",
        "2001:db8:1::77/128",
        "dev",
        "eth0",
    ]);
    assert!(spoof.status.success());
    let answered = b.command(&[
        "busybox",
        "ping",
        "-6",
        "-c1",
        "-W2",
        "-I",
        "2001:db8:1::77",
        "fd00:64:1::1",
    ]);
    assert!(
        !answered.status.success(),
        "a source that is not the pod's own is dropped"
    );
    assert!(
        b.command(&[
            "busybox",
            "busybox",
            "ping",
            "-6",
            "-c1",
            "-W2",
            "fd00:64:1::1"
        ])
        .status
        .success(),
        "while its own is answered"
    );
}

/// Frames between containers come by this machine: neither addresses of the link nor advertisements lead past the rules.
#[test]
fn no_ipv6_leaks_past_the_rules_and_no_container_poses_as_a_router() {
    let cluster = Cluster::new(2);
    let [a, b] = &cluster.pods[..] else { panic!() };
    let host = &cluster.machine.host;
    // No address of the link leads from one to the other.
    for pod in [a, b] {
        let text = pod.text(&["ip", "-6", "addr", "show", "dev", "eth0"]);
        assert!(
            text.contains("fd00:64:1::") && !text.contains("fe80"),
            "{text}"
        );
    }
    // Nor does what is sent to everybody, in either family; this machine is heard.
    // One that may do what it likes with its own interface.
    b.text(&[
        "ip",
        "-6",
        "addr",
        "add",
        "fe80::bad/64",
        "dev",
        "eth0",
        "nodad",
    ]);
    let all = ["ff00::/8", "dev", "eth0", "table", "local"];
    b.command(&[&["ip", "-6", "route", "add", "multicast"][..], &all].concat());
    let index = index_of(b, "eth0");
    let ear = a.within(|| UdpSocket::bind("[::]:9999").unwrap());
    ear.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    b.within(move || {
        let mouth = UdpSocket::bind("0.0.0.0:0").unwrap();
        mouth.set_broadcast(true).unwrap();
        mouth.send_to(b"v4", "255.255.255.255:9999").unwrap();
        let mouth = UdpSocket::bind("[::]:0").unwrap();
        let to = SocketAddrV6::new(everybody, 9999, 0, index);
        mouth.send_to(b"v6", to).unwrap();
    });
    assert!(ear.recv(&mut [0; 16]).is_err());
    let bridge = index_of(host, "plim-000001");
    host.within(move || {
        let mouth = UdpSocket::bind("[::]:0").unwrap();
        let to = SocketAddrV6::new(everybody, 9999, 0, bridge);
        mouth.send_to(b"host", to).unwrap();
    });
    assert_eq!(ear.recv(&mut [0; 16]).expect("the machine is heard"), 4);

    // An advertisement of a router, to everybody: prefix 2001:db8:bad::/64, for an hour.
    let mut prefix = [0; 16];
    prefix[..6].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0xb, 0xad]);
    let head = [134, 0, 0, 0, 64, 0, 14, 16, 0, 0, 0, 0, 0, 0, 0, 0];
    let option = [3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0];
    let packet: Vec<u8> = [&head[..], &option, &prefix].concat();
    b.within(move || {
        use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket, sockopt};
        let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        sockopt::set_ipv6_multicast_hops(&raw, 255).unwrap();
        let to = SocketAddrV6::new(everybody, 0, 0, index);
        for _ in 0..3 {
            sendto(&raw, &packet, SendFlags::empty(), &to).unwrap();
        }
    });
    // What was sent before has been looked at by the time that this is answered.
    assert!(b.fetch(of(SERVICE6, 80)).is_ok());
    for (namespace, interface) in [(a, "eth0"), (host, "plim-000001")] {
        let text = namespace.text(&["ip", "-6", "addr", "show", "dev", interface]);
        assert!(!text.contains("bad"), "{text}");
        let routes = namespace.text(&["ip", "-6", "route"]);
        assert!(!routes.contains("proto ra"), "{routes}");
        let setting = format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra");
        assert_eq!(namespace.text(&["cat", &setting]).trim(), "0");
    }
    let port = &cluster.at[0].host_interface;
    assert_eq!(host.text(&["ip", "-6", "addr", "show", "dev", port]), "");
}

/// Forwarding makes hosts deaf for their routers, unless they are told to listen all the same.
#[test]
fn the_machine_keeps_its_router_and_gets_its_settings_back() {
    let machine = Machine::new();
    let (host, outside) = (&machine.host, &machine.outside);
    let set = |setting: &str| host.text(&["sysctl", "-qw", setting]);
    set("net.ipv6.conf.lo.accept_ra=0");
    let before = machine.ipv6_settings();
    assert_eq!((before[0].trim(), before[2].trim()), ("0", "1"));
    // A default route that an advertisement has brought.
    host.text(&["ip", "-6", "route", "del", "default"]);
    let advertise = || {
        let index = index_of(outside, "up0");
        outside.within(move || {
            use rustix::net::{
                AddressFamily, SendFlags, SocketType, ipproto, sendto, socket, sockopt,
            };
            let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
            sockopt::set_ipv6_multicast_hops(&raw, 255).unwrap();
            let to = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, index);
            let packet = [134, 0, 0, 0, 64, 0, 14, 16, 0, 0, 0, 0, 0, 0, 0, 0];
            // Without an address of the link yet there is nothing to send from.
            let _ = sendto(&raw, &packet, SendFlags::empty(), &to);
        });
    };
    let learnt = || {
        host.text(&["ip", "-6", "route", "show", "default"])
            .contains("proto ra")
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !learnt() {
        assert!(Instant::now() < deadline, "no route is learnt at all");
        advertise();
        std::thread::sleep(Duration::from_millis(50));
    }
    let (config, options) = (machine.config(1), machine.options());
    machine.run(move || async move { drop(open(config, options).await) });
    assert_eq!(
        machine.ipv6_settings().map(|text| text.trim().to_owned()),
        ["1", "1", "2", "2", "0"]
    );
    assert!(learnt(), "the route is kept");
    host.text(&["ip", "-6", "route", "del", "default"]);
    while !learnt() {
        assert!(
            Instant::now() < deadline,
            "the router is not heard any more"
        );
        advertise();
        std::thread::sleep(Duration::from_millis(50));
    }
    let (config, options) = (machine.config(1), machine.options());
    machine.run(move || async move {
        Network::purge_closed(&config, &options)
            .await
            .expect("purged");
    });
    assert_eq!(machine.ipv6_settings(), before);
    assert!(learnt());
    assert_eq!(host.text(&["nft", "list", "ruleset"]), "");
    assert!(!machine.options().shared_dir.exists());
}

/// Filters for IPv6 of others, and ranges that others take.
#[test]
fn beside_others() {
    let cluster = Cluster::new(2);
    let (host, outside) = (&cluster.machine.host, &cluster.machine.outside);
    outside.serve(9000, "outside");
    host.text(&["nft", "add table ip6 filter; add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }; add chain ip6 filter INPUT { type filter hook input priority 0; policy drop; }; add rule ip6 filter INPUT iifname up0 accept"]);
    assert!(
        cluster.pods[0].fetch(of(OUTSIDE_ADDRESS6, 9000)).is_err(),
        "it denies"
    );
    cluster.with(|_| async {});
    for pod in &cluster.pods {
        // Neighbours are forgotten, and asked for anew.
        host.text(&["ip", "neigh", "flush", "dev", "plim-000001"]);
        pod.text(&["ip", "neigh", "flush", "all"]);
        assert!(pod.fetch(of(SERVICE6, 80)).is_ok());
        assert!(pod.fetch(of(OUTSIDE_ADDRESS6, 9000)).is_ok());
    }
    assert!(outside.fetch(of(HOST_ADDRESS6, 8000)).is_ok());
    let (config, options) = (cluster.machine.config(1), cluster.machine.options());
    cluster.machine.run(move || async move {
        Network::purge_closed(&config, &options)
            .await
            .expect("purged");
    });
    let left = host.text(&["nft", "list", "ruleset"]);
    assert!(
        left.contains("chain FORWARD") && !left.contains("plim"),
        "{left}"
    );
}

#[test]
fn ranges_are_refused_moved_and_left() {
    let machine = Machine::new();
    let host = &machine.host;
    let pod = Namespace::new();
    let (options, path) = (machine.options(), pod.path());
    let mut config = machine.config(1);
    let attempt = |config: network::Config| {
        let (options, path) = (options.clone(), path.clone());
        machine.run(move || async move {
            let network = Network::open_with(config, options).await?;
            network.attach(&path, "pod").await
        })
    };
    let first = attempt(config.clone()).expect("attached");
    assert_eq!(first.ipv6.unwrap().address.to_string(), "fd00:64:1::2");
    host.text(&["ip", "route", "add", "fd00:112:1::/120", "dev", "up0"]);
    let error = attempt(config.clone()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::RangeTaken {
                what: "service",
                ..
            }
        ),
        "{error}"
    );
    host.text(&["ip", "route", "del", "fd00:112:1::/120", "dev", "up0"]);
    // Another range: what is new has addresses of it, the old ones and their routes are gone from the bridge.
    config.ipv6.as_mut().unwrap().pod_cidr = "fd00:65:1::/64".parse().unwrap();
    let moved = attempt(config.clone()).expect("moved");
    assert_eq!((moved.address, moved.ipv6), (first.address, None));
    let routes = host.text(&["ip", "-6", "route", "show", "dev", "plim-000001"]);
    assert!(
        routes.contains("fd00:65:1::/64") && !routes.contains("fd00:64:1::"),
        "{routes}"
    );
    assert!(routes.contains("fd00:112:1::/112"), "{routes}");
    // None: all that is left is IPv4.
    let alone = attempt(single(config.clone())).expect("attached");
    assert_eq!((alone.address, alone.ipv6), (first.address, None));
    assert_eq!(
        host.text(&["ip", "-6", "addr", "show", "dev", "plim-000001"]),
        ""
    );
    assert_eq!(host.text(&["nft", "list", "tables", "ip6"]), "");
    for ranges in ["fd00:64:1::/120", "fd00:112:1::/64"] {
        let mut wrong = config.clone();
        wrong.ipv6.as_mut().unwrap().pod_cidr = ranges.parse().unwrap();
        assert!(matches!(attempt(wrong), Err(Error::Config(_))), "{ranges}");
    }
}
