//! The pods that wait for a node: a queue by priority and age, and those parked until something changes.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

/// By importance, age, and the order in which they came.
type Rank = (Reverse<i32>, Timestamp, u64, String);

/// Every pod without a node that is ours to place.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: HashMap<String, Waiting>,
    active: BTreeSet<Rank>,
    /// The uids of those that are parked: what is tried again is found without a look at all that wait.
    parked: HashSet<String>,
    /// Those of them for which it matters where others are.
    parked_sociable: HashSet<String>,
    /// How many pods have come.
    arrived: u64,
}

#[derive(Debug)]
struct Waiting {
    pod: Arc<Pod>,
    rank: Rank,
    parked: Option<Parked>,
    /// Where other pods are decides where it may be.
    sociable: bool,
}

/// Why a pod waits, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The reason, as the user was told.
    pub message: String,
    /// When the user was last told.
    pub told: Instant,
}

impl Queue {
    /// A pod came or changed. A parked one is tried again only if it may have become easier to place.
    pub fn offer(&mut self, uid: &str, pod: Pod) {
        let arrived = match self.waiting.get(uid) {
            Some(known) => known.rank.2,
            None => {
                self.arrived += 1;
                self.arrived
            }
        };
        let rank = rank(uid, &pod, arrived);
        let same = self.waiting.get(uid).is_some_and(|known| {
            known.pod.spec == pod.spec && known.pod.metadata.labels == pod.metadata.labels
        });
        let parked = self.waiting.get(uid).and_then(|known| known.parked.clone());
        let keep_parked = same && parked.is_some() && !self.is_active(uid);
        if let Some(known) = self.waiting.get(uid) {
            self.active.remove(&known.rank);
        }
        if !keep_parked {
            self.active.insert(rank.clone());
        }
        let waiting = Waiting {
            sociable: sociable(&pod),
            pod: Arc::new(pod),
            rank,
            parked,
        };
        self.waiting.insert(uid.to_owned(), waiting);
        self.index(uid);
    }

    /// Follows a change of whether the pod is parked.
    fn index(&mut self, uid: &str) {
        let known = self.waiting.get(uid);
        let parked = known.filter(|known| known.parked.is_some());
        for (set, belongs) in [
            (&mut self.parked, parked.is_some()),
            (
                &mut self.parked_sociable,
                parked.is_some_and(|known| known.sociable),
            ),
        ] {
            match belongs {
                true => drop(set.insert(uid.to_owned())),
                false => drop(set.remove(uid)),
            }
        }
    }

    /// The pod as it was last seen waiting.
    pub fn get(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.waiting.get(uid).map(|known| &known.pod)
    }

    /// The pod has a node or is gone.
    pub fn remove(&mut self, uid: &str) {
        if let Some(known) = self.waiting.remove(uid) {
            self.active.remove(&known.rank);
            self.index(uid);
        }
    }

    /// The next pod to place; it stays known until it is removed.
    pub fn pop(&mut self) -> Option<(String, Arc<Pod>)> {
        let (_, _, _, uid) = self.active.pop_first()?;
        let pod = self.waiting.get(&uid)?.pod.clone();
        Some((uid, pod))
    }

    /// No node for it now. True if the user should be told: the reason is new, or was told long ago.
    pub fn park(&mut self, uid: &str, message: &str, now: Instant, remind: Duration) -> bool {
        let Some(known) = self.waiting.get_mut(uid) else {
            return false;
        };
        let told = known.parked.as_ref().is_some_and(|parked| {
            parked.message == message && now.duration_since(parked.told) < remind
        });
        if !told {
            known.parked = Some(Parked {
                message: message.to_owned(),
                told: now,
            });
            self.index(uid);
        }
        !told
    }

    /// The pod was given a node: it is not tried with the others any more, only if its binding fails.
    pub fn settle(&mut self, uid: &str) {
        if let Some(known) = self.waiting.get_mut(uid) {
            known.parked = None;
            self.active.remove(&known.rank);
            self.index(uid);
        }
    }

    /// The pod has a node and waits for its volumes there: nothing is told, and it is tried again with the others.
    pub fn hold(&mut self, uid: &str) {
        if let Some(known) = self.waiting.get_mut(uid) {
            known.parked.get_or_insert_with(|| Parked {
                message: String::new(),
                told: Instant::now(),
            });
            self.index(uid);
        }
    }

    /// Tries the pod again.
    pub fn retry(&mut self, uid: &str) {
        if let Some(known) = self.waiting.get(uid) {
            self.active.insert(known.rank.clone());
        }
    }

    /// A pod went somewhere: tries those again that may want to be near it, or to be spread with it.
    pub fn retry_sociable(&mut self) {
        let parked = self.parked_sociable.iter();
        let known = parked.filter_map(|uid| self.waiting.get(uid));
        self.active.extend(known.map(|known| known.rank.clone()));
    }

    /// Room appeared: tries every pod again.
    pub fn retry_all(&mut self) {
        let parked = self.parked.iter();
        let known = parked.filter_map(|uid| self.waiting.get(uid));
        self.active.extend(known.map(|known| known.rank.clone()));
    }

    /// The same without this pod, which has just been tried.
    pub fn retry_all_but(&mut self, uid: &str) {
        self.retry_all();
        if let Some(known) = self.waiting.get(uid) {
            self.active.remove(&known.rank);
        }
    }

    /// The uids of all pods that wait.
    pub fn uids(&self) -> Vec<String> {
        self.waiting.keys().cloned().collect()
    }

    fn is_active(&self, uid: &str) -> bool {
        self.waiting
            .get(uid)
            .is_some_and(|known| self.active.contains(&known.rank))
    }
}

fn sociable(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        let affinity = spec.affinity.as_ref();
        let near = affinity.is_some_and(|affinity| {
            affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some()
        });
        let spread = spec.topology_spread_constraints.as_deref();
        near || !spread.unwrap_or_default().is_empty()
    })
}

fn rank(uid: &str, pod: &Pod, arrived: u64) -> Rank {
    let priority = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.priority)
        .unwrap_or(0);
    let created = pod
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::MAX, |time| time.0);
    (Reverse(priority), created, arrived, uid.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const REMIND: Duration = Duration::from_secs(300);

    fn pod(priority: i32, second: i64) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"creationTimestamp": Timestamp::from_second(second).unwrap().to_string()},
            "spec": {"priority": priority, "containers": []},
        }))
        .unwrap()
    }

    fn order(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|(uid, _)| uid)
            .collect()
    }

    #[test]
    fn important_pods_first_then_old_ones() {
        let mut queue = Queue::default();
        queue.offer("late", pod(0, 20));
        queue.offer("early", pod(0, 10));
        queue.offer("important", pod(5, 30));
        queue.offer("a later one of the same second", pod(0, 20));
        queue.offer("late", pod(0, 20));
        queue.offer("gone", pod(9, 1));
        queue.remove("gone");
        let in_order = [
            "important",
            "early",
            "late",
            "a later one of the same second",
        ];
        assert_eq!(order(&mut queue), in_order);
        assert_eq!(queue.uids().len(), 4);
    }

    #[test]
    fn a_parked_pod_waits_for_room_or_its_own_change() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.offer("a", pod(0, 1));
        queue.pop();
        assert!(queue.park("a", "full", now, REMIND));
        queue.offer("a", pod(0, 1));
        assert_eq!(
            order(&mut queue),
            [""; 0],
            "a status update is no reason to try again"
        );
        queue.retry_all();
        assert_eq!(order(&mut queue), ["a"]);
        assert!(!queue.park("a", "full", now, REMIND), "told already");
        assert!(
            queue.park("a", "full", now + REMIND, REMIND),
            "told long ago"
        );
        assert!(queue.park("a", "cordoned", now + REMIND, REMIND));
        let mut easier = pod(0, 1);
        easier.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        queue.offer("a", easier);
        assert_eq!(order(&mut queue), ["a"]);
        queue.remove("a");
        assert!(!queue.park("a", "full", now, REMIND));
    }

    #[test]
    fn pods_that_look_at_others_are_tried_when_others_come() {
        let mut queue = Queue::default();
        let mut near = pod(0, 1);
        let affinity = json!({"podAffinity": {}});
        near.spec.as_mut().unwrap().affinity = serde_json::from_value(affinity).unwrap();
        queue.offer("near", near);
        queue.offer("alone", pod(0, 2));
        for uid in ["near", "alone"] {
            queue.pop();
            queue.park(uid, "no", Instant::now(), REMIND);
        }
        queue.retry_sociable();
        assert_eq!(order(&mut queue), ["near"]);
        // what went is not tried again, and what came back parked is
        queue.remove("near");
        queue.retry_sociable();
        assert_eq!(order(&mut queue), [""; 0]);
        let mut near = pod(0, 1);
        near.spec.as_mut().unwrap().affinity =
            serde_json::from_value(json!({"podAffinity": {}})).unwrap();
        queue.offer("near", near);
        queue.pop();
        queue.hold("near");
        queue.retry_sociable();
        assert_eq!(order(&mut queue), ["near"]);
        // one that was placed is not placed again
        queue.settle("near");
        queue.retry_sociable();
        queue.retry_all();
        assert_eq!(order(&mut queue), ["alone"]);
    }
}
