//! What the scheduler knows: nodes, the pods that take room on them, bound or just about to be, and those that wait for
//! room that is being made for them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::budget::Budget;
use crate::labels::Labels;
use crate::requests;
use crate::resident::{Namespaces, Resident};
use crate::sums::Sums;

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
    pub requests: Sums,
    /// Processor (thousandths) and memory (bytes) as scores count them: containers without requests count too.
    pub nonzero: [i64; 2],
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
        // init containers that go on running hold theirs as the others do
        let sidecars = spec
            .into_iter()
            .flat_map(|spec| spec.init_containers.iter().flatten())
            .filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let ports = containers
            .iter()
            .chain(sidecars)
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
            requests: requests::of_pod(pod).into(),
            nonzero: requests::nonzero(pod),
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
    pub allocatable: Sums,
    /// Sum of the requests of its pods.
    pub taken: Sums,
    /// The same of processor and memory, as scores count them.
    pub nonzero: [i64; 2],
    /// Its pods.
    pub residents: Vec<Arc<Resident>>,
    /// Those of them that want to be near or apart from others.
    pub choosy: Vec<Arc<Resident>>,
    /// The host ports of its pods.
    pub ports: Vec<HostPort>,
    /// The images that are there, with their sizes in bytes.
    pub images: Arc<HashMap<String, i64>>,
}

/// All nodes and the pods on them.
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<String, Arc<Node>>,
    rooms: BTreeMap<String, NodeRoom>,
    pods: HashMap<String, (String, Arc<Resident>)>,
    /// The pods of nodes that are not known, by node.
    strays: HashMap<String, BTreeSet<String>>,
    /// How many pods of a controller are where, without those that are being deleted.
    owned: HashMap<String, BTreeMap<String, i64>>,
    /// How many nodes have an image.
    images: HashMap<String, usize>,
    /// Those for which room is being made, by node and uid.
    nominated: HashMap<String, BTreeMap<String, Arc<Resident>>>,
    /// The nodes that they are to have.
    nominations: HashMap<String, String>,
    /// How many of the pods want to be near or apart from others.
    choosy: usize,
    /// The labels of the namespaces.
    pub namespaces: Namespaces,
    /// Disruption budgets, by name.
    pub budgets: HashMap<String, Budget>,
}

impl Cluster {
    /// The nodes, by name.
    pub fn rooms(&self) -> &BTreeMap<String, NodeRoom> {
        &self.rooms
    }

    /// Some pod on a node wants to be near or apart from others.
    pub fn has_choosy_pods(&self) -> bool {
        self.choosy > 0
    }

    /// A node came or changed; true if in anything that decides whether a pod fits.
    pub fn set_node(&mut self, node: Node) -> bool {
        let name = node.metadata.name.clone().unwrap_or_default();
        let known = self.nodes.get(&name);
        let same = known.is_some_and(|known| {
            let room = |node: &Node| {
                let status = node.status.as_ref();
                let allocatable = status.and_then(|status| status.allocatable.clone());
                let capacity = status.and_then(|status| status.capacity.clone());
                (allocatable, capacity)
            };
            known.spec == node.spec
                && known.metadata.labels == node.metadata.labels
                && room(known) == room(&node)
        });
        if same && known.is_some_and(|known| images(known).eq(images(&node))) {
            return false;
        }
        self.nodes.insert(name.clone(), Arc::new(node));
        self.rebuild(&name);
        !same
    }

    /// The pods that are known to take room, on whatever node.
    pub fn uids(&self) -> Vec<String> {
        self.pods.keys().cloned().collect()
    }

    /// A node is gone; its pods are remembered until they go too.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
        let Some(room) = self.rooms.remove(name) else {
            return;
        };
        self.count_images(&room.images, false);
        if !room.residents.is_empty() {
            let uids = room.residents.iter().map(|resident| resident.uid.clone());
            self.strays.insert(name.to_owned(), uids.collect());
        }
    }

    /// How many nodes have the image of this name.
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// The nodes that pods of a controller are on, with how many of them are not being deleted.
    pub fn nodes_of_owner(&self, owner: &str) -> impl Iterator<Item = (&NodeRoom, i64)> {
        let counts = self.owned.get(owner).into_iter().flatten();
        counts.filter_map(|(node, count)| Some((self.rooms.get(node)?, *count)))
    }

    /// The same of one node.
    pub fn of_owner_on(&self, owner: &str, room: &NodeRoom) -> i64 {
        let node = room.node.metadata.name.as_deref().unwrap_or_default();
        let counts = self.owned.get(owner);
        let count = counts.and_then(|counts| counts.get(node));
        count.copied().unwrap_or(0)
    }

    fn count_images(&mut self, images: &HashMap<String, i64>, more: bool) {
        for name in images.keys() {
            match self.images.get_mut(name) {
                Some(count) if more => *count += 1,
                Some(count) if *count > 1 => *count -= 1,
                Some(_) => drop(self.images.remove(name)),
                None => drop(self.images.insert(name.clone(), 1)),
            }
        }
    }

    fn count_owned(&mut self, node: &str, resident: &Resident, by: i64) {
        let Some(owner) = resident.owner.as_ref().filter(|_| !resident.terminating) else {
            return;
        };
        let counts = self.owned.entry(owner.clone()).or_default();
        let count = counts.entry(node.to_owned()).or_insert(0);
        *count += by;
        if *count == 0 {
            counts.remove(node);
            if counts.is_empty() {
                self.owned.remove(owner);
            }
        }
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

    /// The pod takes room on the node, as bound or as assumed; true if that is new.
    pub fn place(&mut self, node: &str, resident: Arc<Resident>) -> bool {
        if let Some((known, same)) = self.pods.get(&resident.uid)
            && known == node
            && *same == resident
        {
            return false;
        }
        self.remove(&resident.uid);
        match self.rooms.get_mut(node) {
            Some(room) => room.take(&resident),
            None => {
                let strays = self.strays.entry(node.to_owned()).or_default();
                strays.insert(resident.uid.clone());
            }
        }
        self.count_owned(node, &resident, 1);
        self.choosy += usize::from(!resident.neighbours.is_empty());
        self.pods
            .insert(resident.uid.clone(), (node.to_owned(), resident));
        true
    }

    /// Whether the pod is on the node already and takes more of something than it would from now on: it was resized.
    pub fn shrinks(&self, node: &str, resident: &Resident) -> bool {
        let after = &resident.footprint.requests;
        let known = self.pods.get(&resident.uid);
        known.is_some_and(|(on, before)| {
            on == node && after.is_less_anywhere(&before.footprint.requests)
        })
    }

    /// The pod takes no room any more; true if it did.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some((node, resident)) = self.pods.remove(uid) else {
            return false;
        };
        self.choosy -= usize::from(!resident.neighbours.is_empty());
        self.count_owned(&node, &resident, -1);
        if let Some(room) = self.rooms.get_mut(&node) {
            room.give_back(uid);
        } else if let Some(strays) = self.strays.get_mut(&node) {
            strays.remove(uid);
            if strays.is_empty() {
                self.strays.remove(&node);
            }
        }
        true
    }

    /// Room is being made for the pod on the node: others of no more importance do not get it.
    pub fn nominate(&mut self, node: &str, resident: Arc<Resident>) {
        let uid = resident.uid.clone();
        self.withdraw(&uid);
        self.nominations.insert(uid.clone(), node.to_owned());
        let here = self.nominated.entry(node.to_owned()).or_default();
        here.insert(uid, resident);
    }

    /// No room is being made for the pod; where some was.
    pub fn withdraw(&mut self, uid: &str) -> Option<String> {
        let node = self.nominations.remove(uid)?;
        if let Some(here) = self.nominated.get_mut(&node) {
            here.remove(uid);
            if here.is_empty() {
                self.nominated.remove(&node);
            }
        }
        Some(node)
    }

    /// The pods for which room is being made on the node.
    pub fn nominated(&self, node: &str) -> impl Iterator<Item = &Arc<Resident>> {
        let here = self.nominated.get(node);
        here.into_iter().flat_map(BTreeMap::values)
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
            allocatable: allocatable.into(),
            taken: Sums::default(),
            nonzero: [0, 0],
            residents: Vec::new(),
            choosy: Vec::new(),
            ports: Vec::new(),
            images: Arc::new(
                images(node)
                    .map(|(name, size)| (name.to_owned(), size))
                    .collect(),
            ),
        };
        let known = room.images.clone();
        match self.rooms.remove(name) {
            Some(before) => {
                self.count_images(&before.images, false);
                before
                    .residents
                    .iter()
                    .for_each(|resident| room.take(resident));
            }
            None => {
                for uid in self.strays.remove(name).unwrap_or_default() {
                    if let Some((_, resident)) = self.pods.get(&uid) {
                        room.take(resident);
                    }
                }
            }
        }
        self.count_images(&known, true);
        self.rooms.insert(name.to_owned(), room);
    }
}

/// Names and sizes.
fn images(node: &Node) -> impl Iterator<Item = (&str, i64)> {
    let images = node
        .status
        .iter()
        .flat_map(|status| status.images.iter().flatten());
    images.flat_map(|image| {
        let names = image.names.iter().flatten();
        names.map(|name| (name.as_str(), image.size_bytes.unwrap_or(0)))
    })
}

impl NodeRoom {
    /// The node's label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels: Option<&Labels> = self.node.metadata.labels.as_ref();
        labels?.get(key).map(String::as_str)
    }

    /// The pod is there.
    pub fn take(&mut self, resident: &Arc<Resident>) {
        let footprint = &resident.footprint;
        self.taken.add(&footprint.requests);
        for (sum, more) in self.nonzero.iter_mut().zip(footprint.nonzero) {
            *sum = sum.saturating_add(more);
        }
        self.ports.extend(footprint.ports.iter().cloned());
        self.residents.push(resident.clone());
        if !resident.neighbours.is_empty() {
            self.choosy.push(resident.clone());
        }
    }

    /// The pod is there no more.
    pub fn give_back(&mut self, uid: &str) {
        let Some(at) = self.residents.iter().position(|known| known.uid == uid) else {
            return;
        };
        let resident = self.residents.swap_remove(at);
        let footprint = &resident.footprint;
        self.taken.subtract(&footprint.requests);
        self.choosy.retain(|known| known.uid != uid);
        for (sum, less) in self.nonzero.iter_mut().zip(footprint.nonzero) {
            *sum = sum.saturating_sub(less);
        }
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

    fn node(name: &str, image: i64) -> Node {
        let image = json!({"names": [format!("image-{image}"), "all"], "sizeBytes": 1});
        serde_json::from_value(json!({
            "metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "pods": "10"}, "images": [image]},
        }))
        .unwrap()
    }

    fn resident(uid: &str, cpu: i64, port: i32) -> Arc<Resident> {
        let footprint = Footprint {
            requests: requests::Amounts::from([("cpu".to_owned(), cpu)]).into(),
            nonzero: [cpu, 1],
            ports: vec![HostPort {
                ip: "0.0.0.0".into(),
                protocol: "TCP".into(),
                port,
            }],
        };
        let mut resident = Resident {
            uid: uid.to_owned(),
            footprint,
            owner: (cpu % 3 > 0).then(|| format!("owner-{}", cpu % 3)),
            terminating: cpu % 5 == 0,
            ..Resident::default()
        };
        if cpu % 2 == 0 {
            resident.neighbours.near.push(Default::default());
        }
        Arc::new(resident)
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

    #[test]
    fn a_resize_gives_back() {
        let mut cluster = Cluster::default();
        cluster.place("a", resident("one", 400, 0));
        assert!(cluster.shrinks("a", &resident("one", 399, 0)));
        assert!(!cluster.shrinks("a", &resident("one", 400, 0)));
        assert!(!cluster.shrinks("a", &resident("one", 500, 0)));
        assert!(
            !cluster.shrinks("b", &resident("one", 399, 0)),
            "it is not there"
        );
        assert!(!cluster.shrinks("a", &resident("two", 399, 0)));
    }

    proptest! {
        /// However pods and nodes come, move and go, a room is what its pods add up to.
        #[test]
        fn rooms_add_up(steps in proptest::collection::vec((0..9_u8, 0..6_u8, 0..3_u8, 0..500_i64), 0..80)) {
            let mut cluster = Cluster::default();
            for (what, pod, on, cpu) in steps {
                let (uid, on) = (format!("pod-{pod}"), format!("node-{on}"));
                match what {
                    0 => { cluster.set_node(node(&on, cpu % 2)); }
                    1 => cluster.remove_node(&on),
                    2 => { cluster.remove(&uid); }
                    3 => cluster.nominate(&on, resident(&uid, cpu, 1)),
                    4 => { cluster.withdraw(&uid); }
                    _ => { cluster.place(&on, resident(&uid, cpu, i32::from(pod))); }
                }
            }
            for (name, room) in &cluster.rooms {
                let here: Vec<&Footprint> = cluster.pods.values().filter(|(on, _)| on == name).map(|(_, r)| &r.footprint).collect();
                let cpu: i64 = here.iter().map(|footprint| footprint.requests.get("cpu")).sum();
                prop_assert_eq!(room.taken.get("cpu"), cpu);
                prop_assert_eq!(room.nonzero, [cpu, here.len() as i64]);
                prop_assert_eq!(room.residents.len(), here.len());
                prop_assert_eq!(room.ports.len(), here.len());
            }
            let choosy = cluster.pods.values().filter(|(_, pod)| !pod.neighbours.is_empty()).count();
            prop_assert_eq!(cluster.choosy, choosy);
            for room in cluster.rooms.values() {
                let choosy = room.residents.iter().filter(|pod| !pod.neighbours.is_empty()).count();
                prop_assert_eq!(room.choosy.len(), choosy);
                for owner in ["owner-1", "owner-2"] {
                    let owned = room.residents.iter().filter(|pod| pod.owner.as_deref() == Some(owner) && !pod.terminating);
                    prop_assert_eq!(cluster.of_owner_on(owner, room), owned.count() as i64);
                }
            }
            for owner in ["owner-1", "owner-2"] {
                let found: i64 = cluster.nodes_of_owner(owner).map(|(_, count)| count).sum();
                let all: i64 = cluster.rooms.values().map(|room| cluster.of_owner_on(owner, room)).sum();
                prop_assert_eq!(found, all);
            }
            for image in ["image-0", "image-1", "all", "none"] {
                let having = cluster.rooms.values().filter(|room| room.images.contains_key(image)).count();
                prop_assert_eq!(cluster.nodes_with_image(image), having);
            }
            let nominated: usize = cluster.nominated.values().map(BTreeMap::len).sum();
            prop_assert_eq!(nominated, cluster.nominations.len());
            for (uid, on) in &cluster.nominations {
                prop_assert!(cluster.nominated(on).any(|pod| pod.uid == *uid));
            }
        }
    }
}
