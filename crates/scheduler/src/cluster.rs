//! What the scheduler knows: nodes, and the pods that take room on them, bound or just about to be.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::requests::{self, Amounts};

/// A host port that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// `0.0.0.0` for every address.
    pub ip: String,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// What a pod takes of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Its requests.
    pub requests: Amounts,
    /// Its host ports.
    pub ports: Vec<HostPort>,
}

impl Footprint {
    /// Of this pod.
    pub fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
        let containers = spec
            .map(|spec| spec.containers.as_slice())
            .unwrap_or_default();
        let ports = containers
            .iter()
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| {
                let number = match port.host_port {
                    Some(number) if number > 0 => number,
                    _ if host_network => port.container_port,
                    _ => return None,
                };
                Some(HostPort {
                    ip: port
                        .host_ip
                        .clone()
                        .filter(|ip| !ip.is_empty())
                        .unwrap_or_else(|| "0.0.0.0".to_owned()),
                    protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                    port: number,
                })
            })
            .collect();
        Self {
            requests: requests::of_pod(pod),
            ports,
        }
    }
}

/// A node with what is taken of it.
#[derive(Clone, Debug)]
pub struct NodeRoom {
    /// The object.
    pub node: Arc<Node>,
    /// `status.allocatable` (or capacity, where a node does not tell).
    pub allocatable: Amounts,
    /// Sum of the requests of its pods.
    pub taken: Amounts,
    /// How many pods it has.
    pub pods: i64,
    /// The host ports of its pods.
    pub ports: Vec<HostPort>,
}

/// All nodes and the pods on them.
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<String, Arc<Node>>,
    rooms: BTreeMap<String, NodeRoom>,
    pods: HashMap<String, (String, Footprint)>,
}

impl Cluster {
    /// The nodes, by name.
    pub fn rooms(&self) -> &BTreeMap<String, NodeRoom> {
        &self.rooms
    }

    /// A node came or changed; true if in anything that decides about pods.
    pub fn set_node(&mut self, node: Node) -> bool {
        let name = node.metadata.name.clone().unwrap_or_default();
        let same = self.nodes.get(&name).is_some_and(|known| {
            let room = |node: &Node| {
                let status = node.status.clone().unwrap_or_default();
                (status.allocatable, status.capacity)
            };
            known.spec == node.spec
                && known.metadata.labels == node.metadata.labels
                && room(known) == room(&node)
        });
        if same {
            return false;
        }
        self.nodes.insert(name.clone(), Arc::new(node));
        self.rebuild(&name);
        true
    }

    /// The pods that are known to take room, on whatever node.
    pub fn uids(&self) -> Vec<String> {
        self.pods.keys().cloned().collect()
    }

    /// A node is gone; its pods are remembered until they go too.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
        self.rooms.remove(name);
    }

    /// Forgets nodes that a new list did not contain.
    pub fn retain_nodes(&mut self, keep: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self
            .nodes
            .keys()
            .filter(|name| !keep(name))
            .cloned()
            .collect();
        for name in gone {
            self.remove_node(&name);
        }
    }

    /// The pod takes room on the node, as bound or as assumed.
    pub fn place(&mut self, uid: &str, node: &str, footprint: Footprint) {
        if let Some((known, same)) = self.pods.get(uid)
            && known == node
            && *same == footprint
        {
            return;
        }
        self.remove(uid);
        if let Some(room) = self.rooms.get_mut(node) {
            room.take(&footprint);
        }
        self.pods
            .insert(uid.to_owned(), (node.to_owned(), footprint));
    }

    /// The pod takes no room any more; true if it did.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some((node, footprint)) = self.pods.remove(uid) else {
            return false;
        };
        if let Some(room) = self.rooms.get_mut(&node) {
            room.give_back(&footprint);
        }
        true
    }

    fn rebuild(&mut self, name: &str) {
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let status = node.status.as_ref();
        let allocatable = status
            .and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()))
            .map(requests::amounts)
            .unwrap_or_default();
        let mut room = NodeRoom {
            node: node.clone(),
            allocatable,
            taken: Amounts::new(),
            pods: 0,
            ports: Vec::new(),
        };
        for (on, footprint) in self.pods.values() {
            if on == name {
                room.take(footprint);
            }
        }
        self.rooms.insert(name.to_owned(), room);
    }
}

impl NodeRoom {
    fn take(&mut self, footprint: &Footprint) {
        requests::add(&mut self.taken, &footprint.requests);
        self.pods += 1;
        self.ports.extend(footprint.ports.iter().cloned());
    }

    fn give_back(&mut self, footprint: &Footprint) {
        requests::subtract(&mut self.taken, &footprint.requests);
        self.pods -= 1;
        for port in &footprint.ports {
            if let Some(at) = self.ports.iter().position(|known| known == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn node(name: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "pods": "10"}},
        }))
        .unwrap()
    }

    fn footprint(cpu: i64, port: i32) -> Footprint {
        Footprint {
            requests: Amounts::from([("cpu".to_owned(), cpu)]),
            ports: vec![HostPort {
                ip: "0.0.0.0".into(),
                protocol: "TCP".into(),
                port,
            }],
        }
    }

    #[test]
    fn host_ports_conflict_by_address_protocol_and_number() {
        let port = |ip: &str, protocol: &str, port| HostPort {
            ip: ip.into(),
            protocol: protocol.into(),
            port,
        };
        let one = port("127.0.0.1", "TCP", 80);
        assert!(one.conflicts(&port("0.0.0.0", "TCP", 80)));
        assert!(one.conflicts(&one));
        assert!(!one.conflicts(&port("127.0.0.2", "TCP", 80)));
        assert!(!one.conflicts(&port("127.0.0.1", "UDP", 80)));
        assert!(!one.conflicts(&port("127.0.0.1", "TCP", 81)));
    }

    proptest! {
        /// However pods and nodes come, move and go, a room is what its pods add up to.
        #[test]
        fn rooms_add_up(steps in proptest::collection::vec((0..4_u8, 0..6_u8, 0..3_u8, 0..500_i64), 0..80)) {
            let mut cluster = Cluster::default();
            for (what, pod, on, cpu) in steps {
                let (uid, on) = (format!("pod-{pod}"), format!("node-{on}"));
                match what {
                    0 => { cluster.set_node(node(&on)); }
                    1 => cluster.remove_node(&on),
                    2 => { cluster.remove(&uid); }
                    _ => cluster.place(&uid, &on, footprint(cpu, i32::from(pod))),
                }
            }
            for (name, room) in &cluster.rooms {
                let here: Vec<&Footprint> = cluster.pods.values().filter(|(on, _)| on == name).map(|(_, f)| f).collect();
                let cpu: i64 = here.iter().map(|footprint| footprint.requests["cpu"]).sum();
                prop_assert_eq!(room.taken.get("cpu").copied().unwrap_or(0), cpu);
                prop_assert_eq!(room.pods, here.len() as i64);
                prop_assert_eq!(room.ports.len(), here.len());
            }
        }
    }
}
