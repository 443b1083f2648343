//! Changes of rules as the whole network makes them: each touches what it has to, and one that the kernel refuses is made by
//! loading all.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::{Machine, Namespace, open, service};
use network::{PodPolicy, Published, Service};

const TABLE: &str = "plim_000001";
/// Longer than the healing waits for a pause.
const HEALING: Duration = Duration::from_millis(400);

/// The handles of rules that all tables have: others, when the whole has been loaded anew.
fn fixed_rules(host: &Namespace) -> Vec<String> {
    let text = host.text(&["nft", "-a", "list", "chain", "ip", TABLE, "translate"]);
    let handles = text
        .lines()
        .filter_map(|line| line.split("# handle ").nth(1));
    handles.map(str::to_owned).collect()
}

fn services(names: &[&str], endpoints: &[SocketAddr]) -> Vec<Service> {
    names
        .iter()
        .zip(20..)
        .map(|(name, low)| service(name, Ipv4Addr::new(10, 112, 1, low), 80, endpoints))
        .collect()
}

/// A pod that serves on 8080, a client, and a handle to the host that does not own it.
fn scene() -> (Machine, Namespace, Namespace) {
    let machine = Machine::new();
    let host = Namespace {
        name: machine.host.name.clone(),
    };
    let pod = Namespace::new();
    pod.serve(8080, "pod");
    (machine, host, pod)
}

#[test]
fn a_change_touches_what_it_has_to_and_is_known_for_ours() {
    let (machine, host, pod) = scene();
    let (config, options, path) = (machine.config(1), machine.options(), pod.path());
    machine.run(move || async move {
        let network = open(config, options).await;
        let at = network.attach(&path, "pod").await.expect("attached");
        let ends: Vec<SocketAddr> = at
            .addresses()
            .into_iter()
            .map(|address| SocketAddr::new(address, 8080))
            .collect();
        let restricted = |address: IpAddr| PodPolicy {
            address,
            ingress: Some(Vec::new()),
            egress: None,
        };
        // The first one loads all, by whatever way.
        let first = (Some(services(&["a"], &ends)), Some(Vec::new()));
        network
            .set_traffic(first.0, first.1)
            .await
            .expect("applied");
        let before = fixed_rules(&host);
        assert!(!before.is_empty());
        let elsewhere: SocketAddr = "192.0.2.7:80".parse().unwrap();
        for endpoints in [&[elsewhere][..], &[], &[elsewhere, ends[0]], &ends] {
            let wanted = services(&["a", "b"], endpoints);
            network.set_services(wanted).await.expect("applied");
        }
        let policies = at.addresses().into_iter().map(restricted).collect();
        network.set_policies(policies).await.expect("applied");
        let both = (Some(services(&["b", "c"], &ends)), Some(Vec::new()));
        network.set_traffic(both.0, both.1).await.expect("applied");
        let port = Published {
            host_ip: None,
            host_port: 8000,
            target: ends[0],
            protocol: network::Protocol::Tcp,
        };
        network
            .set_published("pod", vec![port])
            .await
            .expect("published");
        // Taken for somebody else's, they would have been undone by loading all.
        tokio::time::sleep(HEALING).await;
        assert_eq!(fixed_rules(&host), before);
        for low in [20, 21] {
            let to = SocketAddr::from(([10, 112, 1, low], 80));
            assert!(host.fetch(to).expect("answered").starts_with("pod "));
        }
        std::mem::forget(host);
    });
}

#[test]
fn a_change_that_the_kernel_refuses_is_made_by_loading_all() {
    let (machine, host, pod) = scene();
    let (config, options, path) = (machine.config(1), machine.options(), pod.path());
    machine.run(move || async move {
        let network = open(config, options).await;
        let at = network.attach(&path, "pod").await.expect("attached");
        let ends = [SocketAddr::new(at.address.into(), 8080)];
        let set = async |names: &[&str]| {
            network
                .set_services(services(names, &ends))
                .await
                .expect("applied");
        };
        set(&["a", "b"]).await;
        let rules = host.text(&["nft", "list", "table", "ip", TABLE]);
        let of_b = rules.lines().find_map(|line| {
            let name = line.trim().strip_prefix("chain ")?.strip_suffix(" {")?;
            name.contains("/b/").then(|| name.to_owned())
        });
        let of_b = of_b.expect("a chain");
        set(&["a"]).await;
        let before = fixed_rules(&host);
        // Somebody has made a chain of that very name.
        host.text(&["nft", "add", "chain", "ip", TABLE, &of_b]);
        host.text(&["nft", "add", "rule", "ip", TABLE, &of_b, "drop"]);
        set(&["a", "b"]).await;
        let to = SocketAddr::from(([10, 112, 1, 21], 80));
        assert!(host.fetch(to).expect("answered").starts_with("pod "));
        assert_ne!(fixed_rules(&host), before, "all was loaded anew");
        // And the next one is said to the kernel again.
        tokio::time::sleep(HEALING).await;
        let before = fixed_rules(&host);
        set(&["a"]).await;
        assert!(host.fetch(to).is_err());
        assert_eq!(fixed_rules(&host), before);
        std::mem::forget(host);
    });
}

#[test]
fn names_are_right_although_rules_cannot_be() {
    let (machine, host, _pod) = scene();
    let (config, options) = (machine.config(1), machine.options());
    machine.run(move || async move {
        let network = open(config, options).await;
        let end: SocketAddr = "10.64.1.2:80".parse().unwrap();
        let set = async |names| network.set_services(services(names, &[end])).await;
        set(&["a"]).await.expect("applied");
        // The table is another program's, which is the only one that may change it.
        let other = host.spawn(|| {
            let mut nft = std::process::Command::new("nft");
            nft.arg("-i").stdin(std::process::Stdio::piped());
            nft.stdout(std::process::Stdio::null()).spawn()
        });
        let mut other = other.join().expect("started").expect("nft is installed");
        let script = format!("delete table ip {TABLE}\nadd table ip {TABLE} {{ flags owner; }}\n");
        let mut commands = other.stdin.take().expect("piped");
        std::io::Write::write_all(&mut commands, script.as_bytes()).expect("written");
        tokio::time::sleep(HEALING).await;
        let refused = set(&["a", "b"]).await;
        let gateway = network.gateway();
        let known = resolves(gateway, "b").await;
        drop(commands);
        other.wait().expect("ended");
        assert!(refused.is_err(), "the rules cannot be made");
        assert!(known, "the name is not known");
        set(&["a", "b"]).await.expect("applied again");
        std::mem::forget(host);
    });
}

async fn resolves(server: Ipv4Addr, service: &str) -> bool {
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::{Name, RecordType};
    let name = Name::from_ascii(format!("{service}.default.svc.cluster.local.")).expect("a name");
    let mut query = Message::query();
    query.add_query(Query::query(name, RecordType::A));
    let socket = tokio::net::UdpSocket::bind("0.0.0.0:0")
        .await
        .expect("free");
    socket.connect((server, 53)).await.expect("connected");
    let packet = query.to_vec().expect("encoded");
    socket.send(&packet).await.expect("sent");
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).await.expect("answered");
    let reply = Message::from_vec(&buffer[..length]).expect("an answer");
    !reply.answers.is_empty()
}
