//! Both families at once, with real packets: pods, services, affinity, published ports, UDP, policies.

mod common;

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use common::dual::{Cluster, SERVICE4, SERVICE6, ends, of, services, words};
use common::{HOST_ADDRESS, HOST_ADDRESS6, OUTSIDE_ADDRESS, OUTSIDE_ADDRESS6};
use network::{AddressSet, Allowance, Attachment, PodPolicy, Protocol};

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

/// What a container sends to another one's hardware address would meet no policy.
#[test]
fn frames_from_container_to_container_are_dropped() {
    let cluster = Cluster::new(2);
    let [a, b] = &cluster.pods[..] else { panic!() };
    // where they go through the packet filter all the same (if the kernel has that at all), this would show nothing
    let setting = "net.bridge.bridge-nf-call-iptables=0";
    let _ = cluster.machine.host.command(&["sysctl", "-w", setting]);
    let address = cluster.at[0].address;
    // by packets, each on its own: of a connection the machine would see one half
    let ask = || {
        b.within(move || {
            let client = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            client
                .set_read_timeout(Some(Duration::from_secs(1)))
                .expect("set");
            client.send_to(b"?", of(address, 8080)).expect("sent");
            let mut buffer = [0; 16];
            client.recv(&mut buffer).is_ok()
        })
    };
    assert!(ask(), "by the gateway");
    let link = a.text(&["ip", "-o", "link", "show", "dev", "eth0"]);
    let mut words = link
        .split_whitespace()
        .skip_while(|word| *word != "link/ether");
    let mac = words.nth(1).expect("an address");
    let to = address.to_string();
    let neighbour = ["ip", "neigh", "replace", &to, "lladdr", mac, "dev", "eth0"];
    b.text(&neighbour);
    b.text(&["ip", "route", "replace", &to, "dev", "eth0"]);
    assert!(!ask(), "it is dropped");
    b.text(&["ip", "route", "del", &to, "dev", "eth0"]);
    assert!(ask(), "by the gateway again");
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
