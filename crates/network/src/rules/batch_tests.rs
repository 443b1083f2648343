//! Tests of what is said to the kernel, in network namespaces: it makes the same tables as nft does of the whole, and what is
//! refused changes nothing. Need root. `PLIMSOLL_SEED=N` walks one walk again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;
use crate::rules::change::{difference, renewal};
use crate::rules::plan::Plans;
use crate::rules::{look, text};
use crate::{
    AddressSet, Allowance, Family, PodPolicy, PortRange, Protocol, Published, Service, ServicePort,
    Transport,
};

const SEEDS: u64 = 4;
const STEPS: usize = 25;
const TABLE: &str = "plim_000001";

/// A named network namespace, removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("plimtest-rules-{}-{number}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        assert!(made.expect("ip is installed").success(), "{name}");
        Self(name)
    }

    /// Runs `work` on a thread in the namespace.
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.0)).expect("it exists");
        let enter = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("tests run as root");
            work()
        };
        std::thread::scope(|scope| match scope.spawn(enter).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    fn kernel(&self) -> Kernel {
        self.within(|| Kernel::open().expect("a socket"))
    }

    /// What nft says.
    fn nft(&self, words: &[&str], script: &str) -> String {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.0, "nft"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nft is installed");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(script.as_bytes()).expect("written");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{words:?} {script}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Loads what a script says of each table.
    fn load(&self, plans: &Plans, script: impl Fn(&Layout, &crate::rules::plan::Plan) -> String) {
        let scripts = layouts().map(|layout| script(&layout, plans.of(layout.family)));
        self.nft(&["-f", "-"], &scripts.concat());
    }

    /// Both tables as nft shows them, without handles and without the order in which things came.
    fn tables(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for family in ["ip", "ip6"] {
            let listed = self.nft(&["-j", "list", "table", family, TABLE], "");
            let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
            let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for object in listed["nftables"].as_array().expect("a list") {
                let mut object = object.clone();
                tidy(&mut object);
                match object["rule"]["chain"].as_str() {
                    // The order of a chain's rules counts.
                    Some(chain) => {
                        let chain = format!("{family} {chain}");
                        rules.entry(chain).or_default().push(object.to_string());
                    }
                    None if object.get("metainfo").is_some() => {}
                    None => lines.push(object.to_string()),
                }
            }
            lines.extend(rules.into_values().map(|rules| rules.join("\n")));
        }
        lines.sort();
        lines
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn tidy(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.remove("handle");
            fields.values_mut().for_each(tidy);
            for list in ["elem", "set"] {
                if let Some(serde_json::Value::Array(elements)) = fields.get_mut(list) {
                    elements.sort_by_key(ToString::to_string);
                }
            }
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// A small generator of its own (splitmix64): what a seed walks must not depend on a library's version.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An address of the pod range, of a range beyond it, or of IPv6.
    fn address(&mut self) -> IpAddr {
        let low = self.below(12) + 2;
        let text = match self.below(5) {
            0 => format!("192.0.2.{low}"),
            1 | 2 => format!("fd00:64:1::{low:x}"),
            _ => format!("10.64.1.{low}"),
        };
        text.parse().unwrap()
    }

    fn endpoints(&mut self) -> Vec<SocketAddr> {
        (0..self.below(5))
            .map(|_| SocketAddr::new(self.address(), 8080 + self.below(2) as u16))
            .collect()
    }

    fn protocol(&mut self) -> Protocol {
        if self.chance(30) {
            Protocol::Udp
        } else {
            Protocol::Tcp
        }
    }

    fn service(&mut self, number: u64) -> Service {
        let ports = (0..=self.below(2)).map(|port| {
            let endpoints = self.endpoints();
            let local: Vec<SocketAddr> = endpoints
                .iter()
                .copied()
                .filter(|_| self.chance(50))
                .collect();
            ServicePort {
                name: format!("p{port}"),
                protocol: self.protocol(),
                port: 80 + port as u16,
                balanced: self.chance(80),
                node_port: self
                    .chance(30)
                    .then_some((30000 + 10 * number + port) as u16),
                local_endpoints: local,
                endpoints,
            }
        });
        let ports: Vec<ServicePort> = ports.collect();
        let mut ips: Vec<IpAddr> = vec![format!("10.112.1.{}", 20 + number).parse().unwrap()];
        if self.chance(50) {
            ips.push(format!("fd00:112:1::{number:x}").parse().unwrap());
        }
        Service {
            namespace: "default".into(),
            name: format!("s{number}"),
            cluster_ips: ips,
            ports,
            affinity_seconds: self.chance(40).then(|| 60 + 3600 * self.below(3) as u32),
            internal_local: self.chance(20),
            external_local: self.chance(40),
            external_ips: match self.chance(20) {
                // Services may claim the same one.
                true => vec!["203.0.113.7".parse().unwrap()],
                false => Vec::new(),
            },
            balancer_ips: match self.chance(40) {
                true => vec![format!("198.51.100.{}", 10 + number).parse().unwrap()],
                false => Vec::new(),
            },
            source_ranges: match self.below(6) {
                0 => vec!["192.0.2.0/24".parse().unwrap()],
                1 => vec![
                    "192.0.2.0/25".parse().unwrap(),
                    "10.0.0.1/32".parse().unwrap(),
                ],
                2 => vec!["0.0.0.0/0".parse().unwrap()],
                3 => vec![
                    "203.0.113.9/32".parse().unwrap(),
                    "2001:db8::/32".parse().unwrap(),
                ],
                _ => Vec::new(),
            },
            ..Service::default()
        }
    }

    fn peers(&mut self) -> Option<AddressSet> {
        let mut peers = AddressSet::default();
        match self.below(8) {
            0 => return None,
            1 => peers.add("0.0.0.0/0".parse().unwrap()),
            2 => {
                peers.add("0.0.0.0/1".parse().unwrap());
                peers.add("255.255.255.0/24".parse().unwrap());
                peers.add("ff00::/8".parse().unwrap());
                peers.add_address("::".parse().unwrap());
            }
            3 => peers.add("10.64.1.8/31".parse().unwrap()),
            _ => {
                for _ in 0..self.below(9) {
                    let address = self.address();
                    peers.add_address(address);
                }
            }
        }
        Some(peers)
    }

    fn ports(&mut self) -> Option<Vec<PortRange>> {
        let ports = (0..self.below(4)).map(|_| {
            let transport = [Transport::Tcp, Transport::Udp, Transport::Sctp];
            let first = [0, 1, 80, 443, 65000][self.below(5) as usize];
            PortRange {
                transport: transport[self.below(3) as usize],
                first,
                last: [first, first.saturating_add(20), 65535][self.below(3) as usize],
            }
        });
        let ports: Vec<PortRange> = ports.collect();
        self.chance(70).then_some(ports)
    }

    fn allowances(&mut self) -> Option<Vec<Allowance>> {
        let allowances = (0..self.below(3)).map(|number| Allowance {
            policy: ["", "default/open", "default/web"][number as usize].into(),
            peers: self.peers(),
            ports: self.ports(),
        });
        let allowances: Vec<Allowance> = allowances.collect();
        self.chance(70).then_some(allowances)
    }

    fn published(&mut self) -> Vec<Published> {
        let ports = (0..self.below(5)).map(|number| Published {
            host_ip: [None, Some("198.51.100.1"), Some("2001:db8::1")][self.below(3) as usize]
                .map(|ip| ip.parse().unwrap()),
            host_port: 8000 + number as u16,
            target: SocketAddr::new(self.address(), 80 + self.below(2) as u16),
            protocol: self.protocol(),
        });
        ports.collect()
    }

    fn policy(&mut self) -> PodPolicy {
        PodPolicy {
            address: self.address(),
            ingress: self.allowances(),
            egress: self.allowances(),
        }
    }
}

/// What a walk has come to.
#[derive(Default)]
struct State {
    services: BTreeMap<u64, Service>,
    policies: BTreeMap<IpAddr, PodPolicy>,
    published: Vec<Published>,
}

impl State {
    fn step(&mut self, dice: &mut Dice) {
        for _ in 0..=dice.below(2) {
            let number = dice.below(8);
            match dice.below(11) {
                10 => self.published = dice.published(),
                0 | 1 => drop(self.services.insert(number, dice.service(number))),
                2 => drop(self.services.remove(&number)),
                3 => drop(self.policies.pop_first()),
                4 | 5 => {
                    let policy = dice.policy();
                    self.policies.insert(policy.address, policy);
                }
                // What happens most: endpoints come and go.
                _ => {
                    for service in self.services.values_mut().take(number as usize + 1) {
                        for port in &mut service.ports {
                            if dice.chance(50) {
                                port.endpoints.pop();
                                let gone = |end: &SocketAddr| port.endpoints.contains(end);
                                port.local_endpoints.retain(gone);
                            } else {
                                port.endpoints.extend(dice.endpoints());
                            }
                        }
                    }
                }
            }
        }
    }

    fn plans(&self) -> Plans {
        let mut plans = Plans::default();
        let services: Vec<Service> = self.services.values().cloned().collect();
        let policies: Vec<PodPolicy> = self.policies.values().cloned().collect();
        plans.set_services(&services, "10.112.1.10".parse().unwrap());
        plans.set_policies(&policies);
        plans.set_published(self.published.iter());
        plans
    }
}

fn layouts() -> [Layout; 2] {
    let layout = |family, pods: &str, services: &str, gateway: &str| Layout {
        family,
        table: TABLE.into(),
        bridge: "plim-000001".into(),
        pod_cidr: pods.parse().unwrap(),
        service_cidr: services.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        dns: None,
    };
    [
        // Compared by whole bytes, and not.
        layout(Family::V4, "10.64.0.0/23", "10.112.1.0/24", "10.64.0.1"),
        layout(
            Family::V6,
            "fd00:64:1::/64",
            "fd00:112:1::/112",
            "fd00:64:1::1",
        ),
    ]
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(work)
}

/// What leads from one to another, in the transactions that it takes.
fn follow(kernel: &Kernel, from: &Plans, to: &Plans) -> Result<(), Error> {
    let layouts = layouts();
    let ahead = from.map_some(|plan, family| text::ahead(plan, to.of(family)));
    let mut from = from;
    for to in ahead.iter().chain([to]) {
        let tables = layouts.iter().map(|layout| {
            let family = layout.family;
            (layout, difference(layout, from.of(family), to.of(family)))
        });
        run(kernel.apply(&tables.collect::<Vec<_>>()))?;
        from = to;
    }
    Ok(())
}

#[test]
fn changes_lead_where_nft_leads_with_the_whole() {
    let seeds: Vec<u64> = match std::env::var("PLIMSOLL_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (1..=SEEDS).collect(),
    };
    for seed in seeds {
        let (walked, reference) = (Namespace::new(), Namespace::new());
        let kernel = walked.kernel();
        let (mut dice, mut state) = (Dice(seed), State::default());
        let mut plans = Plans::default();
        walked.load(&plans, text::adopt);
        for step in 0..STEPS {
            state.step(&mut dice);
            let wanted = state.plans();
            follow(&kernel, &plans, &wanted)
                .unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
            plans = wanted;
            reference.load(&plans, text::replace);
            let (is, should) = (walked.tables(), reference.tables());
            let extra: Vec<&String> = is.iter().filter(|line| !should.contains(line)).collect();
            let lacks: Vec<&String> = should.iter().filter(|line| !is.contains(line)).collect();
            assert!(
                is == should,
                "seed {seed}, step {step}: there is {extra:#?} in place of {lacks:#?}"
            );
        }
    }
}

#[test]
fn what_another_process_left_becomes_the_wanted() {
    let (walked, reference) = (Namespace::new(), Namespace::new());
    let kernel = walked.kernel();
    let (mut dice, mut state) = (Dice(11), State::default());
    for _ in 0..6 {
        (0..8).for_each(|_| state.step(&mut dice));
        let wanted = state.plans();
        // Text of nft, changed by whatever; the fixed part is there.
        walked.load(&wanted, text::adopt);
        let layouts = layouts();
        let found = layouts
            .each_ref()
            .map(|layout| walked.within(|| look(layout.family, TABLE).expect("seen")));
        let tables = layouts
            .iter()
            .zip(&found)
            .map(|(layout, found)| (layout, renewal(layout, wanted.of(layout.family), found)));
        run(kernel.apply(&tables.collect::<Vec<_>>())).expect("applied");
        reference.load(&wanted, text::replace);
        assert_eq!(walked.tables(), reference.tables());
    }
}

#[test]
fn what_is_refused_is_named_and_changes_nothing() {
    let machine = Namespace::new();
    let kernel = machine.kernel();
    let service = |name: &str, ends: &[&str]| Service {
        namespace: "default".into(),
        name: name.into(),
        cluster_ips: vec!["10.112.1.20".parse().unwrap()],
        ports: vec![ServicePort::new(
            "",
            Protocol::Tcp,
            80,
            &ends
                .iter()
                .map(|end| end.parse().unwrap())
                .collect::<Vec<SocketAddr>>(),
        )],
        ..Service::default()
    };
    let plans = |services: &[Service]| {
        let mut plans = Plans::default();
        plans.set_services(services, "10.112.1.10".parse().unwrap());
        plans
    };
    let (nothing, one) = (Plans::default(), plans(&[service("a", &["10.64.0.2:80"])]));
    machine.load(&nothing, text::adopt);
    follow(&kernel, &nothing, &one).expect("applied");
    let two = plans(&[
        service("a", &["10.64.0.3:80", "10.64.0.4:80"]),
        service("b", &["10.64.0.5:80"]),
    ]);
    // Somebody has made the chain that is to come, and taken an element that is to go.
    let chains = two.of(Family::V4).chains.keys();
    let name = chains
        .into_iter()
        .find(|name| name.contains("/b/"))
        .unwrap();
    let cases = [
        (
            format!("add chain ip {TABLE} {name}"),
            format!("delete chain ip {TABLE} {name}"),
            format!("add chain ip {TABLE} {name}: File exists"),
        ),
        (
            format!("delete element ip {TABLE} hairpin {{ 10.64.0.2 . 10.64.0.2 }}"),
            format!("add element ip {TABLE} hairpin {{ 10.64.0.2 . 10.64.0.2 }}"),
            format!("delete element ip {TABLE} hairpin {{ 10.64.0.2 . 10.64.0.2 }}: No such file"),
        ),
        (
            format!(
                "flush chain ip {TABLE} translate\nflush map ip {TABLE} service_addresses\ndelete map ip {TABLE} service_addresses"
            ),
            format!(
                "add map ip {TABLE} service_addresses {{ type ipv4_addr . inet_proto . inet_service : verdict; }}"
            ),
            format!("element ip {TABLE} service_addresses {{ 10.112.1.20 . tcp . 80 : goto "),
        ),
    ];
    for (damage, repair, expected) in cases {
        machine.nft(&["-f", "-"], &damage);
        let before = machine.tables();
        let error = follow(&kernel, &one, &two)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(&expected), "{error} lacks {expected}");
        assert_eq!(machine.tables(), before, "{error}");
        // The way is as good as before.
        machine.nft(&["-f", "-"], &repair);
    }
    machine.load(&one, text::replace);
    follow(&kernel, &one, &two).expect("applied");
    follow(&kernel, &two, &two).expect("nothing to do");
}

#[test]
fn a_refusal_of_thousands_of_messages_is_heard() {
    let machine = Namespace::new();
    let kernel = machine.kernel();
    let layouts = layouts();
    // There is no table: each one is refused, more than there is room for answers.
    let changes = (0..5000)
        .map(|n| Change::AddChain(format!("chain-{n}")))
        .collect();
    let error = run(kernel.apply(&[(&layouts[0], changes)])).expect_err("refused");
    assert!(
        error.to_string().contains("chain-0: No such file"),
        "{error}"
    );
    machine.load(&Plans::default(), text::adopt);
    let changes = (0..5000)
        .map(|n| Change::AddChain(format!("chain-{n}")))
        .collect();
    run(kernel.apply(&[(&layouts[0], changes)])).expect("applied");
    assert_eq!(
        machine
            .tables()
            .iter()
            .filter(|line| line.contains("chain-"))
            .count(),
        5000
    );
}
