//! NetworkPolicies as permissions per pod: a pure function of policies, namespaces and pods.
//!
//! Follows the API's own words (`networking/v1` types) and the cases of upstream's `test/e2e/network/netpol`: policies add
//! up, a pod that none selects is open, one that some selects is closed but for what one of them permits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use network::{AddressSet, Allowance, PodPolicy, PortRange, Transport};

/// Labels, as objects carry them.
pub type Labels = BTreeMap<String, String>;

/// A pod as policies see it: one with addresses of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    pub uid: String,
    pub namespace: String,
    pub labels: Labels,
    pub addresses: Vec<IpAddr>,
    /// Named ports of its containers.
    pub ports: Vec<(String, Transport, u16)>,
    /// `false`: a peer of others that no policy restricts.
    pub restricted: bool,
}

/// Where the cluster's DNS server runs for policies: one that permits questions to CoreDNS in any cluster permits them
/// here, and one that does not, does not.
const DNS_NAMESPACE: &str = "kube-system";
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// The pod as policies see it, with the addresses that it has been given.
pub fn view(pod: &Pod, addresses: &[IpAddr]) -> PodView {
    let spec = pod.spec.as_ref();
    let containers = spec.iter().flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        spec.containers.iter().chain(sidecars)
    });
    PodView {
        uid: pod.uid().unwrap_or_default(),
        namespace: pod.namespace().unwrap_or_default(),
        labels: pod.labels().clone(),
        addresses: addresses.to_vec(),
        ports: containers
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| {
                let number = u16::try_from(port.container_port).ok()?;
                Some((
                    port.name.clone()?,
                    transport(port.protocol.as_deref())?,
                    number,
                ))
            })
            .collect(),
        restricted: true,
    }
}

/// The DNS server as a pod, once for each address at which it is asked.
pub fn dns_server(addresses: &[IpAddr]) -> Vec<PodView> {
    let (key, value) = DNS_LABEL;
    addresses
        .iter()
        .map(|address| PodView {
            uid: format!("dns/{address}"),
            namespace: DNS_NAMESPACE.into(),
            labels: [(key.into(), value.into())].into(),
            addresses: vec![*address],
            ports: vec![
                ("dns".into(), Transport::Udp, 53),
                ("dns-tcp".into(), Transport::Tcp, 53),
            ],
            restricted: false,
        })
        .collect()
}

/// Which pods are restricted, and what each may do. Sorted by address; policies in the order of their names.
pub fn compile<'a>(
    policies: impl IntoIterator<Item = &'a NetworkPolicy>,
    namespaces: &BTreeMap<String, Labels>,
    pods: &[PodView],
) -> Vec<PodPolicy> {
    let mut policies: Vec<&NetworkPolicy> = policies.into_iter().collect();
    policies.sort_by_key(|policy| (policy.namespace(), policy.name_any()));
    let cluster = Cluster { namespaces, pods };
    let mut found: BTreeMap<IpAddr, PodPolicy> = BTreeMap::new();
    for policy in policies {
        let Some(spec) = &policy.spec else { continue };
        let namespace = policy.namespace().unwrap_or_default();
        let selected: Vec<&PodView> = pods
            .iter()
            .filter(|pod| pod.restricted && pod.namespace == namespace)
            .filter(|pod| {
                let selector = spec.pod_selector.as_ref();
                selector.is_none_or(|selector| matches(selector, &pod.labels))
            })
            .collect();
        if selected.is_empty() {
            continue;
        }
        let name = format!("{namespace}/{}", policy.name_any());
        let types = policy_types(policy);
        let rules = |rules: Vec<(&[NetworkPolicyPeer], &[NetworkPolicyPort])>| -> Vec<Rule> {
            let rule = |(peers, ports)| cluster.rule(&name, &namespace, peers, ports);
            rules.into_iter().map(rule).collect()
        };
        let ingress = types.contains("Ingress").then(|| {
            let list = spec.ingress.iter().flatten();
            rules(
                list.map(|r| {
                    (
                        r.from.as_deref().unwrap_or(&[]),
                        r.ports.as_deref().unwrap_or(&[]),
                    )
                })
                .collect(),
            )
        });
        let egress = types.contains("Egress").then(|| {
            let list = spec.egress.iter().flatten();
            let all = rules(
                list.map(|r| {
                    (
                        r.to.as_deref().unwrap_or(&[]),
                        r.ports.as_deref().unwrap_or(&[]),
                    )
                })
                .collect(),
            );
            all.iter()
                .flat_map(|rule| cluster.outgoing(rule))
                .collect::<Vec<_>>()
        });
        let each = selected
            .iter()
            .flat_map(|pod| pod.addresses.iter().map(move |address| (*pod, *address)));
        for (pod, address) in each {
            let entry = found.entry(address).or_insert_with(|| PodPolicy {
                address,
                ingress: None,
                egress: None,
            });
            if let Some(ingress) = &ingress {
                let allowances = ingress.iter().filter_map(|rule| rule.incoming(pod));
                entry.ingress.get_or_insert_default().extend(allowances);
            }
            if let Some(egress) = &egress {
                entry
                    .egress
                    .get_or_insert_default()
                    .extend(egress.iter().cloned());
            }
        }
    }
    found.into_values().collect()
}

/// `policyTypes`, or what it means when it is left out.
fn policy_types(policy: &NetworkPolicy) -> BTreeSet<&str> {
    let Some(spec) = &policy.spec else {
        return BTreeSet::new();
    };
    match spec.policy_types.as_deref() {
        Some(types) if !types.is_empty() => types.iter().map(String::as_str).collect(),
        _ if spec
            .egress
            .as_ref()
            .is_some_and(|egress| !egress.is_empty()) =>
        {
            BTreeSet::from(["Ingress", "Egress"])
        }
        _ => BTreeSet::from(["Ingress"]),
    }
}

/// One rule, with its selectors resolved. Ports by name depend on the pod that they are ports of.
struct Rule {
    policy: String,
    peers: Option<AddressSet>,
    /// The pods among the peers, by their place in the cluster's list.
    pods: Vec<usize>,
    /// `None`: every port.
    ports: Option<Vec<PortRange>>,
    named: Vec<(String, Transport)>,
}

impl Rule {
    /// What it permits to reach `pod`.
    fn incoming(&self, pod: &PodView) -> Option<Allowance> {
        let ports = self.ports.clone().map(|mut ports| {
            let named = self.named.iter().flat_map(|wanted| numbers(pod, wanted));
            ports.extend(named);
            ports
        });
        self.allowance(self.peers.clone(), ports)
    }

    fn allowance(
        &self,
        peers: Option<AddressSet>,
        ports: Option<Vec<PortRange>>,
    ) -> Option<Allowance> {
        let nobody = peers.as_ref().is_some_and(AddressSet::is_empty);
        let nothing = ports.as_ref().is_some_and(Vec::is_empty);
        (!nobody && !nothing).then(|| Allowance {
            policy: self.policy.clone(),
            peers,
            ports,
        })
    }
}

fn numbers(pod: &PodView, (name, transport): &(String, Transport)) -> Vec<PortRange> {
    let named = pod
        .ports
        .iter()
        .filter(|(known, protocol, _)| known == name && protocol == transport);
    named
        .map(|(_, transport, number)| PortRange {
            transport: *transport,
            first: *number,
            last: *number,
        })
        .collect()
}

struct Cluster<'a> {
    namespaces: &'a BTreeMap<String, Labels>,
    pods: &'a [PodView],
}

impl Cluster<'_> {
    fn rule(
        &self,
        policy: &str,
        namespace: &str,
        peers: &[NetworkPolicyPeer],
        ports: &[NetworkPolicyPort],
    ) -> Rule {
        let mut rule = Rule {
            policy: policy.to_owned(),
            peers: None,
            pods: (0..self.pods.len()).collect(),
            ports: None,
            named: Vec::new(),
        };
        if !peers.is_empty() {
            let mut set = AddressSet::default();
            let mut members = BTreeSet::new();
            for peer in peers {
                match &peer.ip_block {
                    Some(block) => set.extend(&blocks(&block.cidr, block.except.as_deref())),
                    None => members.extend(self.selected(namespace, peer)),
                }
            }
            for member in &members {
                let addresses = self.pods[*member].addresses.iter();
                addresses.for_each(|address| set.add_address(*address));
            }
            rule.peers = Some(set);
            rule.pods = members.into_iter().collect();
        }
        if !ports.is_empty() {
            let mut ranges = Vec::new();
            for port in ports {
                let Some(transport) = transport(port.protocol.as_deref()) else {
                    continue;
                };
                match &port.port {
                    None => ranges.push(PortRange {
                        transport,
                        first: 0,
                        last: u16::MAX,
                    }),
                    Some(IntOrString::Int(first)) => {
                        let number = |n: i32| u16::try_from(n).ok();
                        let last = port.end_port.unwrap_or(*first);
                        if let (Some(first), Some(last)) = (number(*first), number(last)) {
                            ranges.push(PortRange {
                                transport,
                                first,
                                last,
                            });
                        }
                    }
                    Some(IntOrString::String(name)) => rule.named.push((name.clone(), transport)),
                }
            }
            rule.ports = Some(ranges);
        }
        rule
    }

    /// The pods that a peer's selectors mean.
    fn selected(&self, namespace: &str, peer: &NetworkPolicyPeer) -> Vec<usize> {
        let empty = Labels::new();
        let in_namespace = |of: &str| match &peer.namespace_selector {
            None => of == namespace,
            Some(selector) => matches(selector, self.namespaces.get(of).unwrap_or(&empty)),
        };
        let of_labels = |labels: &Labels| match &peer.pod_selector {
            None => true,
            Some(selector) => matches(selector, labels),
        };
        // A peer without any selector selects nothing; validation refuses it.
        if peer.namespace_selector.is_none() && peer.pod_selector.is_none() {
            return Vec::new();
        }
        let pods = self.pods.iter().enumerate();
        pods.filter(|(_, pod)| in_namespace(&pod.namespace) && of_labels(&pod.labels))
            .map(|(at, _)| at)
            .collect()
    }

    /// What a rule permits to reach from a pod: by number everywhere, by name where pods have such a port.
    fn outgoing(&self, rule: &Rule) -> Vec<Allowance> {
        let mut by_number: BTreeMap<PortRange, AddressSet> = BTreeMap::new();
        for wanted in &rule.named {
            for pod in rule.pods.iter().map(|at| &self.pods[*at]) {
                for range in numbers(pod, wanted) {
                    let peers = by_number.entry(range).or_default();
                    let addresses = pod.addresses.iter();
                    addresses.for_each(|address| peers.add_address(*address));
                }
            }
        }
        let named = by_number
            .into_iter()
            .filter_map(|(range, peers)| rule.allowance(Some(peers), Some(vec![range])));
        rule.allowance(rule.peers.clone(), rule.ports.clone())
            .into_iter()
            .chain(named)
            .collect()
    }
}

/// The addresses of a block without its exceptions.
fn blocks(cidr: &str, except: Option<&[String]>) -> AddressSet {
    let mut set = AddressSet::default();
    if let Ok(block) = cidr.parse::<IpNet>() {
        set.add(block);
    }
    for block in except.unwrap_or_default() {
        if let Ok(block) = block.parse::<IpNet>() {
            set.remove(block);
        }
    }
    set
}

fn transport(protocol: Option<&str>) -> Option<Transport> {
    match protocol.unwrap_or("TCP") {
        "TCP" => Some(Transport::Tcp),
        "UDP" => Some(Transport::Udp),
        "SCTP" => Some(Transport::Sctp),
        _ => None,
    }
}

/// Whether labels are as a selector wants them; an empty selector takes all.
fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|wanted| {
            let value = labels.get(&wanted.key);
            let listed = || {
                let values = wanted.values.iter().flatten();
                value.is_some_and(|value| values.into_iter().any(|v| v == value))
            };
            match wanted.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests;
