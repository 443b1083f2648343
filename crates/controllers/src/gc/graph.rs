//! Who owns whom.
//!
//! Pure: changes go in, the uids that have to be looked at come out.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Finalizers by which the API server asks for the collector's work.
pub const ORPHAN: &str = "orphan";
pub const FOREGROUND: &str = "foregroundDeletion";

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `GROUP/VERSION` or `v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Nothing for cluster-wide objects.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What the collector keeps of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it is.
    pub identity: Identity,
    /// As read.
    pub resource_version: Option<String>,
    /// As read.
    pub owners: Vec<OwnerReference>,
    /// As read.
    pub finalizers: Vec<String>,
    /// Its deletion was asked for.
    pub deleting: bool,
}

impl Node {
    /// From metadata.
    pub fn new(api_version: &str, kind: &str, meta: ObjectMeta) -> Self {
        Self {
            identity: Identity {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                namespace: meta.namespace,
                name: meta.name.unwrap_or_default(),
                uid: meta.uid.unwrap_or_default(),
            },
            resource_version: meta.resource_version,
            owners: meta.owner_references.unwrap_or_default(),
            finalizers: meta.finalizers.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }

    /// It goes when the dependents that block it are gone.
    pub fn waits_for_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(FOREGROUND)
    }

    /// Its dependents are to be let go first.
    pub fn orphans_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(ORPHAN)
    }

    /// Whether it carries the finalizer.
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == name)
    }
}

/// All objects, by uid.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, HashSet<String>>,
}

impl Graph {
    /// The object of this uid.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that name this owner.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents
            .get(uid)
            .into_iter()
            .flatten()
            .filter_map(|dependent| self.nodes.get(dependent))
    }

    /// An object came or changed; returns what to look at.
    pub fn apply(&mut self, node: Node) -> Vec<String> {
        let uid = node.identity.uid.clone();
        let before = self.nodes.get(&uid);
        let new_wait =
            node.waits_for_dependents() && !before.is_some_and(Node::waits_for_dependents);
        let mut look = Vec::new();
        let released: Vec<String> = before
            .map(|before| {
                let still = |owner: &&OwnerReference| {
                    !node.owners.iter().any(|one| blocks(one, &owner.uid))
                };
                before
                    .owners
                    .iter()
                    .filter(still)
                    .map(|owner| owner.uid.clone())
                    .collect()
            })
            .unwrap_or_default();
        let relinked = before.is_none_or(|before| before.owners != node.owners);
        if relinked {
            self.unlink(&uid);
            for owner in &node.owners {
                self.dependents
                    .entry(owner.uid.clone())
                    .or_default()
                    .insert(uid.clone());
            }
        }
        let concerned = (relinked && !node.owners.is_empty())
            || node.waits_for_dependents()
            || node.orphans_dependents();
        self.nodes.insert(uid.clone(), node);
        if new_wait {
            look.extend(self.dependents(&uid).map(|node| node.identity.uid.clone()));
        }
        if concerned {
            look.push(uid);
        }
        // An owner that waits may go when a dependent no longer blocks it.
        look.extend(released.into_iter().filter(|owner| {
            self.nodes
                .get(owner)
                .is_some_and(Node::waits_for_dependents)
        }));
        look
    }

    /// An object is gone; returns what to look at.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        self.unlink(uid);
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let mut look: Vec<String> = self
            .dependents
            .get(uid)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        look.extend(
            node.owners
                .into_iter()
                .map(|owner| owner.uid)
                .filter(|owner| {
                    self.nodes
                        .get(owner)
                        .is_some_and(Node::waits_for_dependents)
                }),
        );
        look
    }

    /// The uids of all objects of a kind.
    pub fn uids_of(&self, api_version: &str, kind: &str) -> Vec<String> {
        self.nodes
            .values()
            .filter(|node| node.identity.api_version == api_version && node.identity.kind == kind)
            .map(|node| node.identity.uid.clone())
            .collect()
    }

    /// The objects that name an owner of this kind, in whatever version, that is not there. While the kind was unknown nothing
    /// was concluded from that.
    pub fn bereft_of(&self, api_version: &str, kind: &str) -> Vec<String> {
        let missing = |owner: &OwnerReference| {
            group_of(&owner.api_version) == group_of(api_version)
                && owner.kind == kind
                && !self.nodes.contains_key(&owner.uid)
        };
        self.nodes
            .values()
            .filter(|node| node.owners.iter().any(missing))
            .map(|node| node.identity.uid.clone())
            .collect()
    }

    fn unlink(&mut self, uid: &str) {
        let owners = self
            .nodes
            .get(uid)
            .map(|node| node.owners.clone())
            .unwrap_or_default();
        for owner in owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn blocks(reference: &OwnerReference, owner: &str) -> bool {
    reference.uid == owner && reference.block_owner_deletion == Some(true)
}

/// What has to be done about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Take these owners out of every dependent and then the `orphan` finalizer off.
    Orphan,
    /// Nothing blocks it any more: take the `foregroundDeletion` finalizer off.
    Release,
    /// Its owners are to be judged: see [`judge`].
    Judge,
}

/// The first thing to do about the object.
pub fn step(graph: &Graph, node: &Node) -> Step {
    let uid = &node.identity.uid;
    if node.orphans_dependents() {
        return Step::Orphan;
    }
    if node.waits_for_dependents() {
        let blocked = graph
            .dependents(uid)
            .any(|dependent| dependent.owners.iter().any(|owner| blocks(owner, uid)));
        return if blocked {
            Step::Nothing
        } else {
            Step::Release
        };
    }
    if node.deleting || node.owners.is_empty() {
        return Step::Nothing;
    }
    Step::Judge
}

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It exists and stays.
    Solid,
    /// It does not exist.
    Absent,
    /// It goes as soon as its dependents are gone.
    Waiting,
}

/// What the owners' standing means for their dependent.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// It stays, without the references to owners that do not.
    Unlink(Vec<OwnerReference>),
    /// It goes.
    Delete {
        /// Its own dependents first, since its owner waits for them all.
        foreground: bool,
    },
}

/// How a known owner stands to an object. Nothing when that is in no namespace and the owner is in one.
pub fn standing_of(owner: &Node, object: &Identity) -> Option<Owner> {
    let namespaces = (&owner.identity.namespace, &object.namespace);
    Some(match namespaces {
        (Some(_), None) => return None,
        (Some(one), Some(other)) if one != other => Owner::Absent,
        _ if owner.waits_for_dependents() => Owner::Waiting,
        _ => Owner::Solid,
    })
}

/// The object's owner references with none that blocks its owner, when that is needed: the object would wait for a dependent that
/// waits for it, in a circle.
pub fn unblocked(node: &Node, dependents: &[Node]) -> Option<Vec<OwnerReference>> {
    let blocks = |owner: &OwnerReference| owner.block_owner_deletion == Some(true);
    if !dependents.iter().any(Node::waits_for_dependents) || !node.owners.iter().any(blocks) {
        return None;
    }
    let free = |owner: &OwnerReference| OwnerReference {
        block_owner_deletion: Some(false),
        ..owner.clone()
    };
    Some(node.owners.iter().map(free).collect())
}

/// Judges a dependent by its owners.
pub fn judge(owners: &[(OwnerReference, Owner)], has_dependents: bool) -> Verdict {
    let solid: Vec<OwnerReference> = owners
        .iter()
        .filter(|(_, standing)| *standing == Owner::Solid)
        .map(|(owner, _)| owner.clone())
        .collect();
    if solid.len() == owners.len() {
        return Verdict::Keep;
    }
    if !solid.is_empty() {
        return Verdict::Unlink(solid);
    }
    let waiting = owners
        .iter()
        .any(|(_, standing)| *standing == Owner::Waiting);
    Verdict::Delete {
        foreground: waiting && has_dependents,
    }
}

#[cfg(test)]
mod tests;
