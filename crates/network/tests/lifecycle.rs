//! What stays, what is found again and what goes: restarts, orphans, neighbours, purge.

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};

use common::{HOST_ADDRESS, Machine, Namespace, open, service};
use network::{Error, Network, Protocol, Published};

#[test]
fn attachments_rules_and_ports_survive_the_process() {
    let (machine, pod) = (Machine::new(), Namespace::new());
    let ip = Ipv4Addr::new(10, 112, 1, 20);
    let (config, options, path) = (machine.config(1), machine.options(), pod.path());
    let first = machine.run(move || async move {
        let network = open(config, options).await;
        let attachment = network.attach(&path, "pod").await.expect("attached");
        let target = SocketAddrV4::new(attachment.address, 8080);
        network
            .set_services(vec![service("web", ip, 80, &[target])])
            .await
            .expect("applied");
        let published = Published {
            host_ip: None,
            host_port: 8000,
            target: target.into(),
            protocol: Protocol::Tcp,
        };
        network
            .set_published("pod", vec![published])
            .await
            .expect("published");
        attachment
    });
    pod.serve(8080, "pod");
    // A crash between making an interface and anything else, and one of somebody else's.
    machine.host.text(&[
        "ip",
        "link",
        "add",
        "plv000001ffffff",
        "type",
        "veth",
        "peer",
        "name",
        "x0",
    ]);
    machine.host.text(&[
        "ip",
        "link",
        "add",
        "plv000002ffffff",
        "type",
        "veth",
        "peer",
        "name",
        "y0",
    ]);

    let (config, options, path) = (machine.config(1), machine.options(), pod.path());
    let again = first.clone();
    machine.run(move || async move {
        let network = open(config, options).await;
        assert_eq!(network.attachment("pod"), Some(again.clone()));
        assert_eq!(network.attached(), ["pod"]);
        // Attaching once more changes nothing.
        assert_eq!(network.attach(&path, "pod").await.expect("attached"), again);
    });
    let links = machine.host.text(&["ip", "-o", "link"]);
    assert!(!links.contains("plv000001ffffff"), "{links}");
    assert!(
        links.contains("plv000002ffffff") && links.contains(&first.host_interface),
        "{links}"
    );
    // The services were not given again, and still work; so do the ports.
    assert!(
        machine
            .host
            .fetch(SocketAddrV4::new(ip, 80))
            .unwrap()
            .starts_with("pod")
    );
    assert!(
        machine
            .outside
            .fetch(SocketAddrV4::new(HOST_ADDRESS, 8000))
            .unwrap()
            .starts_with("pod")
    );

    let (config, options) = (machine.config(1), machine.options());
    machine.run(move || async move {
        let network = open(config, options).await;
        // Ports change before services are known: services stay.
        network
            .set_published("pod", Vec::new())
            .await
            .expect("unpublished");
    });
    assert!(
        machine
            .outside
            .fetch(SocketAddrV4::new(HOST_ADDRESS, 8000))
            .is_err()
    );
    assert!(
        machine
            .host
            .fetch(SocketAddrV4::new(ip, 80))
            .unwrap()
            .starts_with("pod")
    );
}

#[test]
fn a_new_namespace_under_an_old_id_keeps_the_address() {
    let (machine, old, new) = (Machine::new(), Namespace::new(), Namespace::new());
    let (config, options) = (machine.config(1), machine.options());
    let (old_path, new_path) = (old.path(), new.path());
    let (before, after, other) = machine.run(move || async move {
        let network = open(config, options).await;
        let before = network.attach(&old_path, "pod").await.expect("attached");
        drop(old);
        let after = network.attach(&new_path, "pod").await.expect("attached");
        network.detach("pod").await.expect("detached");
        network.detach("pod").await.expect("twice is no error");
        assert_eq!(network.attachment("pod"), None);
        let other = network.attach(&new_path, "other").await.expect("attached");
        (before, after, other)
    });
    assert_eq!(before, after);
    assert_ne!(
        before.address, other.address,
        "a fresh address is preferred"
    );
    let gateway = SocketAddrV4::new(other.gateway, 9);
    machine.host.serve(9, "host");
    assert!(new.fetch(gateway).unwrap().starts_with("host"));
}

#[test]
fn many_attach_at_once() {
    let machine = Machine::new();
    let pods: Vec<Namespace> = (0..8).map(|_| Namespace::new()).collect();
    let paths: Vec<_> = pods.iter().map(Namespace::path).collect();
    let (config, options) = (machine.config(1), machine.options());
    let attachments = machine.run(move || async move {
        let network = open(config, options).await;
        let attaching = paths.iter().enumerate().map(|(n, path)| {
            let network = network.clone();
            async move {
                network
                    .attach(path, &format!("pod-{n}"))
                    .await
                    .expect("attached")
            }
        });
        futures::future::join_all(attaching).await
    });
    for (pod, attachment) in pods.iter().zip(&attachments) {
        pod.serve(8080, &attachment.host_interface);
    }
    let next = attachments.iter().cycle().skip(1);
    for (pod, to) in pods.iter().zip(next) {
        let text = pod.fetch(SocketAddrV4::new(to.address, 8080)).unwrap();
        assert!(text.starts_with(&to.host_interface));
    }
}

#[test]
fn purge_leaves_nothing_of_ours_and_all_of_others() {
    let (machine, pod, neighbour) = (Machine::new(), Namespace::new(), Namespace::new());
    machine.host.text(&[
        "nft",
        "add table ip foreign; add chain ip foreign c { type filter hook forward priority 0; }",
    ]);
    machine
        .host
        .text(&["ip", "link", "add", "foreign0", "type", "bridge"]);
    std::fs::create_dir_all(machine.config(1).state_dir).unwrap();
    let before = machine.state();
    assert!(before.contains("ip_forward 0"), "{before}");

    let configs = [machine.config(1), machine.config(2)];
    let (options, paths) = (machine.options(), [pod.path(), neighbour.path()]);
    let [first, second] = configs.clone();
    let made = options.clone();
    machine.run(move || async move {
        let target = SocketAddrV4::new(Ipv4Addr::new(10, 64, 1, 2), 80);
        for (config, path) in configs.into_iter().zip(&paths) {
            let ip = config.dns_ip.to_bits() + 1;
            let network = open(config, options.clone()).await;
            network.attach(path, "pod").await.expect("attached");
            let services = vec![service("web", Ipv4Addr::from(ip), 80, &[target])];
            network.set_services(services).await.expect("applied");
        }
    });
    pod.serve(8080, "first");
    neighbour.serve(8080, "second");
    let purge = |config: network::Config| {
        let options = made.clone();
        machine.run(move || async move {
            let network = open(config, options).await;
            network.purge().await.expect("purged");
            network.purge().await.expect("twice is no error");
            assert!(matches!(
                network.set_services(Vec::new()).await,
                Err(Error::Purged)
            ));
        });
    };
    purge(first.clone());
    let between = machine.state();
    assert!(!between.contains("000001"), "{between}");
    assert!(
        between.contains("ip_forward 1"),
        "the other instance needs it"
    );
    let to = SocketAddrV4::new(Ipv4Addr::new(10, 64, 2, 2), 8080);
    assert!(
        machine.host.fetch(to).unwrap().starts_with("second"),
        "the other instance works"
    );
    purge(second.clone());
    assert_eq!(machine.state(), before);
    assert!(!first.state_dir.exists() && !second.state_dir.exists());
    assert!(!machine.options().shared_dir.exists());
}

#[test]
fn what_is_in_the_way_is_named() {
    let machine = Machine::new();
    machine
        .host
        .text(&["ip", "link", "add", "plim-000001", "type", "bridge"]);
    let (config, options, busy) = (machine.config(1), machine.options(), machine.outside.path());
    machine.run(move || async move {
        let error = Network::open_with(config.clone(), options.clone())
            .await
            .expect_err("refused");
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("plim-000001"), "{error}");

        let mut overlapping = config.clone();
        overlapping.service_cidr = "10.64.0.0/16".parse().unwrap();
        overlapping.dns_ip = Ipv4Addr::new(10, 64, 0, 10);
        let error = Network::open_with(overlapping, options.clone())
            .await
            .expect_err("refused");
        assert!(error.to_string().contains("overlap"), "{error}");

        let mut other = config;
        other.instance = "plim-00000a".into();
        other.bridge = other.instance.clone();
        std::fs::create_dir_all(&other.state_dir).unwrap();
        std::fs::write(other.state_dir.join("leases.json"), "{\"by_id\": 7").unwrap();
        let error = Network::open_with(other.clone(), options.clone())
            .await
            .expect_err("refused");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        // What cannot be opened can still be removed.
        Network::purge_closed(&other, &options)
            .await
            .expect("purged");
        assert!(!other.state_dir.exists());

        let network = Network::open_with(other, options).await.expect("opens");
        let error = network
            .attach("/run/netns/plimtest-none".as_ref(), "x")
            .await
            .unwrap_err();
        assert!(error.to_string().contains("plimtest-none"), "{error}");
        assert!(network.attached().is_empty());
        // An eth0 that is not ours is left alone.
        let rename = std::process::Command::new("ip")
            .args([
                "-n",
                busy.file_name().unwrap().to_str().unwrap(),
                "link",
                "add",
                "eth0",
                "type",
                "bridge",
            ])
            .status();
        assert!(rename.unwrap().success());
        let error = network.attach(&busy, "x").await.unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert!(network.attached().is_empty(), "no lease is left over");
        network.purge().await.expect("purged");
    });
    let links = machine.host.text(&["ip", "-o", "link"]);
    assert!(
        links.contains("plim-000001") && !links.contains("plim-00000a"),
        "{links}"
    );
}

#[test]
fn rules_that_somebody_flushed_come_back_with_the_next_change() {
    let (machine, pod) = (Machine::new(), Namespace::new());
    let ip = Ipv4Addr::new(10, 112, 1, 20);
    let (config, options, path) = (machine.config(1), machine.options(), pod.path());
    let host = std::mem::ManuallyDrop::new(Namespace {
        name: machine.host.name.clone(),
    });
    let target = machine.run(move || async move {
        let network = open(config, options).await;
        let attachment = network.attach(&path, "pod").await.expect("attached");
        let target = SocketAddrV4::new(attachment.address, 8080);
        let web = service("web", ip, 80, &[target]);
        network
            .set_services(vec![web.clone()])
            .await
            .expect("applied");
        host.text(&["nft", "flush ruleset"]);
        let more = vec![
            web.clone(),
            service("more", Ipv4Addr::new(10, 112, 1, 21), 80, &[target]),
        ];
        network.set_services(more).await.expect("applied");
        target
    });
    pod.serve(8080, "pod");
    for port in [SocketAddrV4::new(ip, 80), target] {
        assert!(machine.host.fetch(port).unwrap().starts_with("pod"));
    }
}

#[test]
fn the_ranges_in_use_are_found() {
    let machine = Machine::new();
    machine
        .host
        .text(&["ip", "route", "add", "10.70.0.0/16", "via", "198.51.100.2"]);
    let (config, options) = (machine.config(1), machine.options());
    let taken = machine.run(move || async move {
        let _network = open(config, options).await;
        network::taken_ranges().await.expect("listed")
    });
    for range in [
        "198.51.100.0/24",
        "10.70.0.0/16",
        "10.64.1.0/24",
        "10.112.1.0/24",
        "127.0.0.0/8",
    ] {
        assert!(
            taken.contains(&range.parse().unwrap()),
            "{range} in {taken:?}"
        );
    }
    assert!(
        taken.iter().all(|range| range.prefix_len() > 0),
        "{taken:?}"
    );
}
