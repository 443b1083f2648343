//! Beside other firewalls, with real packets: filters that drop by default as ufw, Docker, firewalld and people make them
//! (by Debian's iptables on nf_tables, and by nft), their reloads, and that nothing of ours is left in them.

mod common;

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use common::firewalls::{DOCKER, FIREWALLD, NFTABLES_CONF, UFW};
use common::{HOST_ADDRESS, Machine, Namespace, OUTSIDE_ADDRESS, open, service};
use network::{Network, Protocol, Published};

/// A port of the gateway that pods shall reach, as the Kubernetes API is, and one that they shall not.
const API: u16 = 6443;
const SECRET: u16 = 5432;
const PUBLISHED: u16 = 8000;
const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 112, 1, 20), 80);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 64, 1, 1);

/// Only here so that a test that fails ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine with one pod that serves 8080 as \"pod\" and is published on 8000, beside a service of one endpoint.
struct Scene {
    machine: Machine,
    pod: Namespace,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            machine: Machine::new(),
            pod: Namespace::new(),
        };
        scene.machine.outside.serve(9000, "outside");
        scene.machine.host.serve(API, "api");
        scene.machine.host.serve(SECRET, "secret");
        scene
    }

    /// Has a packet filter loaded: iptables-restore's text starts with a star.
    fn load(&self, text: &str) {
        let file = self.machine.directory.path().join("rules");
        std::fs::write(&file, text).expect("written");
        let file = file.to_str().expect("plain");
        let program: &[&str] = if text.starts_with('*') {
            &["iptables-restore", file]
        } else {
            &["nft", "-f", file]
        };
        self.machine.host.text(program);
    }

    /// Runs `work` beside an open network with the pod attached.
    fn with(&self, work: impl FnOnce(&Reach) + Send + 'static) {
        let (config, mut options) = (self.machine.config(1), self.machine.options());
        options.gateway_ports = vec![API];
        let path = self.pod.path();
        let reach = Reach {
            host: named(&self.machine.host),
            outside: named(&self.machine.outside),
            pod: named(&self.pod),
        };
        self.machine.run(move || async move {
            let network = prepared(config, options, &path).await;
            tokio::task::spawn_blocking(move || work(&reach))
                .await
                .expect("the work panicked");
            drop(network);
        });
    }

    fn purge(&self) {
        let (config, options) = (self.machine.config(1), self.machine.options());
        self.machine.run(move || async move {
            Network::purge_closed(&config, &options)
                .await
                .expect("purged");
        });
    }

    /// The rules of the packet filter without counters.
    fn rules(&self) -> String {
        self.machine.host.text(&["nft", "-s", "list", "ruleset"])
    }
}

/// The same namespace under another guard, which leaves its removal to the first.
fn named(namespace: &Namespace) -> std::mem::ManuallyDrop<Namespace> {
    std::mem::ManuallyDrop::new(Namespace {
        name: namespace.name.clone(),
    })
}

async fn prepared(
    config: network::Config,
    options: network::Options,
    pod: &std::path::Path,
) -> Network {
    let network = open(config, options).await;
    let attachment = network.attach(pod, "pod").await.expect("attached");
    let target = SocketAddrV4::new(attachment.address, 8080);
    let services = vec![service("web", *SERVICE.ip(), SERVICE.port(), &[target])];
    network.set_services(services).await.expect("applied");
    let published = Published {
        host_ip: None,
        host_port: PUBLISHED,
        target: target.into(),
        protocol: Protocol::Tcp,
    };
    network
        .set_published("pod", vec![published])
        .await
        .expect("published");
    network
}

/// Where connections are made from and to.
struct Reach {
    host: std::mem::ManuallyDrop<Namespace>,
    outside: std::mem::ManuallyDrop<Namespace>,
    pod: std::mem::ManuallyDrop<Namespace>,
}

impl Reach {
    /// What does not work, of all that has to.
    fn failures(&self) -> Vec<&'static str> {
        let pod_to = |ip: Ipv4Addr, port: u16, label: &str| {
            self.pod
                .fetch(SocketAddrV4::new(ip, port))
                .is_ok_and(|text| text.starts_with(label))
        };
        let checks = [
            ("pod to outside", pod_to(OUTSIDE_ADDRESS, 9000, "outside")),
            ("pod to the API", pod_to(GATEWAY, API, "api")),
            ("pod to its own service", pod_to(*SERVICE.ip(), 80, "pod")),
            ("pod to DNS", self.pod.within(|| resolves(GATEWAY))),
            (
                "pod to DNS by its service address",
                self.pod.within(|| resolves(Ipv4Addr::new(10, 112, 1, 10))),
            ),
            (
                "outside to a published port",
                self.outside
                    .fetch(SocketAddrV4::new(HOST_ADDRESS, PUBLISHED))
                    .is_ok_and(|text| text == format!("pod {OUTSIDE_ADDRESS}")),
            ),
            (
                "host to the service",
                self.host
                    .fetch(SERVICE)
                    .is_ok_and(|text| text.starts_with("pod")),
            ),
        ];
        let failed = checks.into_iter().filter(|(_, works)| !works);
        failed.map(|(name, _)| name).collect()
    }

    fn all_works(&self) {
        assert_eq!(self.failures(), [""; 0]);
    }

    /// Waits until `done`.
    fn until(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let rules = || self.host.text(&["nft", "list", "ruleset"]);
            assert!(Instant::now() < deadline, "{what} in vain:\n{}", rules());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether `server` answers a query for the service's name.
fn resolves(server: Ipv4Addr) -> bool {
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::{Name, RecordType};
    let mut message = Message::query();
    let name = Name::from_ascii("web.default.svc.cluster.local.").expect("a name");
    message.add_query(Query::query(name, RecordType::A));
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("set");
    let sent = message.to_vec().expect("encoded");
    let mut buffer = [0; 512];
    socket.connect((server, 53)).is_ok()
        && socket.send(&sent).is_ok()
        && socket.recv(&mut buffer).is_ok_and(|length| {
            Message::from_vec(&buffer[..length]).is_ok_and(|m| !m.answers.is_empty())
        })
}

/// How often a text occurs.
fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn all_works_beside_every_foreign_filter_and_nothing_of_ours_stays() {
    // With bridged frames in the packet filter, and without (as on a machine that has not loaded br_netfilter).
    let filters = [
        ("ufw", UFW),
        ("Docker", DOCKER),
        ("firewalld", FIREWALLD),
        ("nftables.conf", NFTABLES_CONF),
    ];
    for ((name, filter), bridge_nf) in filters.into_iter().flat_map(|f| [(f, "1"), (f, "0")]) {
        println!("beside {name}, bridge-nf-call-iptables {bridge_nf}");
        let scene = Scene::new();
        let setting = format!("net.bridge.bridge-nf-call-iptables={bridge_nf}");
        let _ = scene.machine.host.command(&["sysctl", "-qw", &setting]);
        scene.load(filter);
        let before = scene.rules();
        scene.pod.serve(8080, "pod");
        scene.with(Reach::all_works);
        // Once more, as after a crash: found again, nothing twice.
        scene.with(Reach::all_works);
        let between = scene.rules();
        for what in ["from containers", "udp 53 for containers"] {
            let most = usize::from(what == "from containers" || name != "Docker");
            let comment = format!("\"plimsoll plim-000001: {what}\"");
            assert_eq!(count(&between, &comment), most, "{between}");
        }
        scene.purge();
        assert_eq!(scene.rules(), before);
    }
}

#[test]
fn what_is_not_ours_stays_closed() {
    let scene = Scene::new();
    scene.load(UFW);
    scene.pod.serve(8080, "pod");
    let pod = Ipv4Addr::new(10, 64, 1, 2);
    let outside = &scene.machine.outside;
    outside.text(&["ip", "route", "add", "10.64.1.0/24", "via", "198.51.100.1"]);
    scene.with(move |reach| {
        reach.all_works();
        // The machine's own services are the firewall's to open; pods are not reached by routing to them.
        let secret = reach
            .pod
            .command(&["busybox", "nc", "-w", "1", "10.64.1.1", "5432"]);
        assert!(secret.stdout.is_empty(), "{secret:?}");
        assert!(reach.outside.fetch(SocketAddrV4::new(pod, 8080)).is_err());
        // What a person has denied explicitly stays denied.
        reach.host.text(&[
            "iptables",
            "-I",
            "ufw-user-forward",
            "-p",
            "tcp",
            "--dport",
            "9000",
            "-j",
            "REJECT",
        ]);
        assert_eq!(reach.failures(), ["pod to outside"]);
    });
}

#[test]
fn iptables_takes_our_rules_for_its_own() {
    let scene = Scene::new();
    scene.load(UFW);
    scene.pod.serve(8080, "pod");
    scene.with(Reach::all_works);
    let saved = scene.machine.host.text(&["iptables-save", "-t", "filter"]);
    assert!(
        saved.contains("-A ufw-user-input -d 10.64.1.1/32 -i plim-000001 -p udp -m udp --dport 53 -m comment --comment \"plimsoll plim-000001: udp 53 for containers\" -j ACCEPT"),
        "{saved}"
    );
    // A reload from what it has saved makes them iptables' own rules, in its own encoding: they are still found.
    scene.load(&saved[saved.find('*').expect("a table")..]);
    scene.with(Reach::all_works);
    let again = scene.machine.host.text(&["iptables-save", "-t", "filter"]);
    assert_eq!(
        count(&again, "plimsoll plim-000001"),
        count(&saved, "plimsoll plim-000001")
    );
    scene.purge();
    let after = scene.machine.host.text(&["iptables-save", "-t", "filter"]);
    assert_eq!(count(&after, "plim"), 0, "{after}");
}

#[test]
fn reloads_and_flushes_are_noticed_and_put_right() {
    let scene = Scene::new();
    scene.load(UFW);
    scene.pod.serve(8080, "pod");
    let directory = scene.machine.directory.path().to_owned();
    scene.with(move |reach| {
        let load = |program: &str, text: &str| {
            let file = directory.join("again");
            std::fs::write(&file, text).expect("written");
            let file = file.to_str().expect("plain").to_owned();
            match program {
                "nft" => reach.host.text(&["nft", "-f", &file]),
                other => reach.host.text(&[other, &file]),
            }
        };
        reach.all_works();
        load("iptables-restore", UFW);
        reach.until("ufw's reload", |reach| reach.failures().is_empty());
        load("nft", NFTABLES_CONF);
        reach.until("a flush and another filter", |reach| {
            reach.failures().is_empty()
        });
        reach
            .host
            .text(&["nft", "delete", "table", "ip", "plim_000001"]);
        reach.until("our table's removal", |reach| reach.failures().is_empty());
        reach
            .host
            .text(&["nft", "flush", "map", "ip", "plim_000001", "published_any"]);
        reach.until("a map's flush", |reach| reach.failures().is_empty());
        reach
            .host
            .text(&["nft", "flush", "chain", "inet", "filter", "forward"]);
        reach.until("our foreign rules' removal", |reach| {
            reach.failures().is_empty()
        });
        load("nft", FIREWALLD);
        reach.until("a filter that comes later", |reach| {
            reach.failures().is_empty()
        });
        // A filter that goes takes our rules with it; one that opens has no more use for them.
        reach
            .host
            .text(&["nft", "add chain inet filter forward { policy accept; }"]);
        reach.until("opening", |reach| {
            let chain = reach
                .host
                .text(&["nft", "list", "chain", "inet", "filter", "forward"]);
            !chain.contains("plim")
        });
    });
}

#[test]
fn two_instances_have_rules_of_their_own() {
    let (machine, pods) = (Machine::new(), [Namespace::new(), Namespace::new()]);
    machine.host.text(&["iptables", "-P", "FORWARD", "DROP"]);
    let before = machine.host.text(&["nft", "-s", "list", "ruleset"]);
    machine.outside.serve(9000, "outside");
    let (options, paths) = (machine.options(), [pods[0].path(), pods[1].path()]);
    let configs = [machine.config(1), machine.config(2)];
    let out = SocketAddrV4::new(OUTSIDE_ADDRESS, 9000);
    let made = configs.clone();
    machine.run(move || async move {
        let mut networks = Vec::new();
        for (config, path) in made.into_iter().zip(&paths) {
            let network = open(config, options.clone()).await;
            network.attach(path, "pod").await.expect("attached");
            networks.push(network);
        }
    });
    for pod in &pods {
        assert!(pod.fetch(out).unwrap().starts_with("outside"));
    }
    let rules = machine.host.text(&["iptables", "-S", "FORWARD"]);
    for instance in ["plim-000001", "plim-000002"] {
        assert_eq!(
            count(&rules, &format!("plimsoll {instance}: from")),
            1,
            "{rules}"
        );
        assert_eq!(
            count(&rules, &format!("plimsoll {instance}: to")),
            1,
            "{rules}"
        );
    }
    for (config, left) in configs.into_iter().zip([1, 0]) {
        let options = machine.options();
        machine.run(move || async move {
            Network::purge_closed(&config, &options)
                .await
                .expect("purged");
        });
        let rules = machine.host.text(&["iptables", "-S", "FORWARD"]);
        assert_eq!(count(&rules, "from containers"), left, "{rules}");
    }
    assert_eq!(machine.host.text(&["nft", "-s", "list", "ruleset"]), before);
}
