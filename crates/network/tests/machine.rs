//! Whatever the machine's settings are: forwarding, bridge netfilter, reverse-path filtering, IPv6, ranges that others
//! take, resolvers on loopback.

mod common;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use common::{HOST_ADDRESS, Machine, Namespace, OUTSIDE_ADDRESS, open, service, single};
use network::{Error, Network, Protocol, Published};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 112, 1, 20), 80);
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

fn set(host: &Namespace, setting: &str) {
    host.text(&["sysctl", "-qw", setting]);
}

fn get(host: &Namespace, setting: &str) -> String {
    host.text(&["sysctl", "-n", setting]).trim().to_owned()
}

/// Every mixture of the settings, with every way that a packet can take. A kernel without br_netfilter hands bridged
/// packets to no filter, which is what `bridge-nf-call-iptables=0` does with one that has it.
#[test]
fn every_way_works_with_every_setting() {
    for bridge_nf in ["0", "1"] {
        for rp_filter in ["0", "1", "2"] {
            let machine = Machine::new();
            let [a, b] = [Namespace::new(), Namespace::new()];
            let host = &machine.host;
            if host
                .command(&["test", "-e", "/proc/sys/net/bridge/bridge-nf-call-iptables"])
                .status
                .success()
            {
                let setting = format!("net.bridge.bridge-nf-call-iptables={bridge_nf}");
                set(host, &setting);
            }
            for interface in ["all", "default", "up0"] {
                let setting = format!("net.ipv4.conf.{interface}.rp_filter={rp_filter}");
                set(host, &setting);
            }
            let (config, options) = (machine.config(1), machine.options());
            let (a_path, b_path) = (a.path(), b.path());
            let a_end = machine.run(move || async move {
                let network = open(config, options).await;
                let a = network.attach(&a_path, "a").await.expect("attached");
                let b = network.attach(&b_path, "b").await.expect("attached");
                let ends = [a, b].map(|made| SocketAddrV4::new(made.address, 8080));
                let web = service("web", *SERVICE.ip(), 80, &ends);
                network.set_services(vec![web]).await.expect("applied");
                let published = Published {
                    host_ip: None,
                    host_port: 8000,
                    target: ends[0].into(),
                    protocol: Protocol::Tcp,
                };
                network
                    .set_published("a", vec![published])
                    .await
                    .expect("published");
                ends[0]
            });
            a.serve(8080, "a");
            b.serve(8080, "b");
            machine.outside.serve(9000, "outside");
            let both = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
            let mixture = format!("bridge-nf {bridge_nf}, rp_filter {rp_filter}");
            for from in [host, &a, &b] {
                assert_eq!(from.answers(SERVICE, 30), both, "{mixture}");
            }
            assert!(b.fetch(a_end).unwrap().starts_with("a "), "{mixture}");
            let published = SocketAddrV4::new(HOST_ADDRESS, 8000);
            for from in [host, &a, &b, &machine.outside] {
                assert!(
                    from.fetch(published).unwrap().starts_with("a "),
                    "{mixture}"
                );
            }
            let out = SocketAddrV4::new(OUTSIDE_ADDRESS, 9000);
            assert!(a.fetch(out).unwrap().starts_with("outside"), "{mixture}");
        }
    }
}

#[test]
fn forwarding_is_turned_on_kept_and_given_back_with_what_hangs_on_it() {
    let machine = Machine::new();
    let host = &machine.host;
    // A careful machine: no redirects, and one interface that forwards without the others.
    set(host, "net.ipv4.conf.all.accept_redirects=0");
    set(host, "net.ipv4.conf.up0.forwarding=1");
    let settings = || {
        [
            "net.ipv4.ip_forward",
            "net.ipv4.conf.all.accept_redirects",
            "net.ipv4.conf.up0.forwarding",
            "net.ipv4.conf.lo.forwarding",
            "net.ipv4.conf.all.rp_filter",
        ]
        .map(|setting| get(host, setting))
    };
    let before = settings();
    assert_eq!(before[0], "0");
    let (config, options) = (machine.config(1), machine.options());
    let guard = std::mem::ManuallyDrop::new(Namespace {
        name: host.name.clone(),
    });
    machine.run(move || async move {
        let network = open(config, options).await;
        assert_eq!(get(&guard, "net.ipv4.ip_forward"), "1");
        // `sysctl --system` of somebody who knows nothing of us.
        set(&guard, "net.ipv4.ip_forward=0");
        let deadline = Instant::now() + Duration::from_secs(60);
        while get(&guard, "net.ipv4.ip_forward") != "1" {
            assert!(Instant::now() < deadline, "it stays off");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(network);
    });
    let (config, options) = (machine.config(1), machine.options());
    machine.run(move || async move {
        Network::purge_closed(&config, &options)
            .await
            .expect("purged");
    });
    assert_eq!(settings(), before);
}

/// A crash between the record and the change, and one between the change and all else.
#[test]
fn what_was_recorded_is_given_back_after_a_crash() {
    for changed in ["0", "1"] {
        let machine = Machine::new();
        let options = machine.options();
        std::fs::create_dir_all(&options.shared_dir).unwrap();
        let record = r#"{"before":"0","users":["plim-000001"]}"#;
        std::fs::write(options.shared_dir.join("ip_forward.json"), record).unwrap();
        set(&machine.host, &format!("net.ipv4.ip_forward={changed}"));
        let (config, shared) = (machine.config(1), options.shared_dir.clone());
        machine.run(move || async move {
            Network::purge_closed(&config, &options)
                .await
                .expect("purged");
        });
        assert_eq!(get(&machine.host, "net.ipv4.ip_forward"), "0");
        assert!(!shared.exists());
    }
    // Found on by the first instance: it stays on.
    let machine = Machine::new();
    set(&machine.host, "net.ipv4.ip_forward=1");
    let (config, options) = (machine.config(1), machine.options());
    machine.run(move || async move {
        open(config, options).await.purge().await.expect("purged");
    });
    let now = machine.host.text(&["cat", IP_FORWARD]);
    assert_eq!(now.trim(), "1");
}

/// Where the instance has no IPv6 nothing of ours has: nobody would see what goes by it.
#[test]
fn without_ipv6_there_is_none_that_leaks_past_the_rules() {
    let (machine, pod) = (Machine::new(), Namespace::new());
    let (config, options) = (single(machine.config(1)), machine.options());
    let path = pod.path();
    let before = machine.ipv6_settings();
    let attachment = machine.run(move || async move {
        let network = open(config, options).await;
        network.attach(&path, "pod").await.expect("attached")
    });
    let host = &machine.host;
    for (namespace, interface) in [
        (&pod, "eth0"),
        (host, "plim-000001"),
        (host, attachment.host_interface.as_str()),
    ] {
        let addresses = namespace.text(&["ip", "-6", "addr", "show", "dev", interface]);
        assert_eq!(addresses, "", "{interface}");
    }
    assert_eq!(pod.text(&["ip", "-6", "route", "show", "default"]), "");
    assert_eq!(
        machine.ipv6_settings(),
        before,
        "nor is the machine's touched"
    );
    assert_eq!(host.text(&["nft", "list", "tables", "ip6"]), "");
    // Loopback is the container's own.
    assert!(
        pod.text(&["ip", "-6", "addr", "show", "dev", "lo"])
            .contains("::1")
    );
}

#[test]
fn a_range_that_another_interface_takes_is_refused_by_name() {
    let machine = Machine::new();
    let add = |argv: &[&str]| machine.host.text(&[&["ip"], argv].concat());
    let attempt = || {
        let (config, options) = (machine.config(1), machine.options());
        machine.run(move || async move {
            match Network::open_with(config, options).await {
                Ok(_) => String::new(),
                Err(error) => {
                    assert!(matches!(error, Error::RangeTaken { .. }), "{error}");
                    error.to_string()
                }
            }
        })
    };
    // The instance is there, and works; then a VPN comes.
    assert_eq!(attempt(), "");
    add(&["link", "add", "vpn0", "type", "bridge"]);
    add(&["link", "set", "vpn0", "up"]);
    // A wider route is no obstacle: ours is more specific. Nor is a default route in halves.
    for wide in ["10.0.0.0/8", "0.0.0.0/1"] {
        add(&["route", "add", wide, "dev", "vpn0"]);
        assert_eq!(attempt(), "", "{wide}");
    }
    for (range, what) in [
        ("10.64.1.0/24", "pod range 10.64.1.0/24"),
        ("10.64.1.128/25", "pod range 10.64.1.0/24"),
        ("10.112.1.7/32", "service range 10.112.1.0/24"),
    ] {
        add(&["route", "add", range, "dev", "vpn0", "metric", "77"]);
        let error = attempt();
        for part in [what, "on vpn0", "ip route", range.trim_end_matches("/32")] {
            assert!(error.contains(part), "{error}");
        }
        add(&["route", "del", range, "dev", "vpn0", "metric", "77"]);
        assert_eq!(attempt(), "");
    }
    add(&["addr", "add", "10.64.1.9/32", "dev", "vpn0"]);
    assert!(attempt().contains("10.64.1.9/32 on vpn0"));
    // Moved to another range, as the message says: it starts, and what is new has addresses of it.
    let pod = Namespace::new();
    let (mut config, options, path) = (machine.config(1), machine.options(), pod.path());
    config.pod_cidr = "10.64.9.0/24".parse().unwrap();
    let purged = config.clone();
    machine.run(move || async move {
        let network = open(config, options.clone()).await;
        let made = network.attach(&path, "pod").await.expect("attached");
        assert_eq!(made.address, Ipv4Addr::new(10, 64, 9, 2));
        Network::purge_closed(&purged, &options)
            .await
            .expect("purged");
    });
    let links = machine.host.text(&["ip", "-o", "link"]);
    assert!(!links.contains("plim-000001"), "{links}");
}

#[test]
fn new_ranges_are_chosen_beside_a_vpn_that_takes_everything() {
    let machine = Machine::new();
    for half in ["0.0.0.0/1", "128.0.0.0/1"] {
        machine
            .host
            .text(&["ip", "route", "add", half, "dev", "up0"]);
    }
    let taken = machine.run(|| async { network::taken_ranges().await.expect("listed") });
    assert!(
        taken.iter().all(|range| range.prefix_len() >= 8),
        "{taken:?}"
    );
    network::choose_ranges(7, &taken).expect("there is room");
}

/// systemd-resolved's resolver, which only this machine's own namespace reaches.
/// How the cluster's DNS server answers, asked once.
fn code_of(name: &str) -> hickory_proto::op::ResponseCode {
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::{Name, RecordType};
    let mut query = Message::query();
    let name = Name::from_ascii(name).expect("a name");
    query.add_query(Query::query(name, RecordType::A));
    let socket = UdpSocket::bind("0.0.0.0:0").expect("free");
    socket.connect("10.64.1.1:53").expect("connected");
    let packet = query.to_vec().expect("encoded");
    socket.send(&packet).expect("sent");
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).expect("answered");
    let reply = Message::from_vec(&buffer[..length]).expect("an answer");
    reply.metadata.response_code
}

#[test]
fn names_are_resolved_through_a_resolver_on_loopback_and_without_it() {
    let (machine, pod) = (Machine::new(), Namespace::new());
    // One answer for each number, then it is gone; 0 is a failure.
    let answer = |namespace: &Namespace, address: &'static str, answers: &'static [u8]| {
        let socket = namespace.within(move || UdpSocket::bind((address, 53)).expect("free"));
        std::thread::spawn(move || {
            use hickory_proto::op::{Message, ResponseCode};
            use hickory_proto::rr::{RData, Record, rdata::A};
            let mut buffer = [0; 512];
            for answer in answers {
                let (length, from) = socket.recv_from(&mut buffer).expect("a query");
                let query = Message::from_vec(&buffer[..length]).expect("a query");
                let mut reply = query.clone().into_response();
                if *answer == 0 {
                    reply.metadata.response_code = ResponseCode::ServFail;
                } else {
                    let data = RData::A(A(Ipv4Addr::new(203, 0, 113, *answer)));
                    let name = query.queries[0].name.clone();
                    reply.add_answer(Record::from_rdata(name, 60, data));
                }
                let bytes = reply.to_vec().expect("encoded");
                socket.send_to(&bytes, from).expect("sent");
            }
        });
    };
    let options = machine.options();
    std::fs::write(
        &options.resolv_conf,
        "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan.example\n",
    )
    .unwrap();
    std::fs::write(&options.resolved_conf, "nameserver 198.51.100.2\n").unwrap();
    answer(&machine.host, "127.0.0.53", &[1, 0]);
    answer(&machine.outside, "198.51.100.2", &[2]);
    let (config, path) = (machine.config(1), pod.path());
    let guard = std::mem::ManuallyDrop::new(Namespace {
        name: pod.name.clone(),
    });
    machine.run(move || async move {
        let network = open(config, options).await;
        network.attach(&path, "pod").await.expect("attached");
        // names of their own: an answer is remembered
        for (name, expected) in [
            ("www.example", "203.0.113.1"),
            ("bad.example", ""),
            ("ftp.example", "203.0.113.2"),
        ] {
            if expected.is_empty() {
                // What it fails is not asked past it. Busybox would ask again.
                let code = tokio::task::spawn_blocking(|| code_of("bad.example.")).await;
                let failed = hickory_proto::op::ResponseCode::ServFail;
                assert_eq!(code.expect("asked"), failed);
                continue;
            }
            let guard = std::mem::ManuallyDrop::new(Namespace {
                name: guard.name.clone(),
            });
            tokio::task::spawn_blocking(move || {
                let asked = guard.command(&["busybox", "nslookup", "-type=a", name, "10.64.1.1"]);
                let text = String::from_utf8_lossy(&asked.stdout).into_owned();
                assert!(text.contains(expected), "{name}: {text}");
            })
            .await
            .expect("asked");
        }
        // The container's file names a server that it can reach, and the machine's own search domains.
        assert_eq!(
            network.resolv_conf(None),
            "search lan.example\nnameserver 10.64.1.1\n"
        );
        let pod = network.resolv_conf(Some("shop"));
        assert!(
            pod.starts_with(
                "search shop.svc.cluster.local svc.cluster.local cluster.local lan.example\n"
            ),
            "{pod}"
        );
    });
}
