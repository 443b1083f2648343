//! IPv6 on the machine: nothing leaks past the rules, its router is kept, its settings come back, others' filters and ranges.

mod common;

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use common::dual::{Cluster, SERVICE6, index_of, of};
use common::{HOST_ADDRESS6, Machine, Namespace, OUTSIDE_ADDRESS6, open, single};
use network::{Error, Network};

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
