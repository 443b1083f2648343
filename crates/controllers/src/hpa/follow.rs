//! What becomes of the pods that a decision asked for: when each was there, scheduled, started and ready.
//!
//! The API's times have whole seconds. What happens while we look is taken by our own clock instead; what had happened
//! before (a daemon that was away) by the API's.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use autoscale::record::{Followed, PODS_MAX, Phase, PodTimes, Record, milliseconds_since};
use autoscale::selector::Selector;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::objects;

/// Pods that do not come within this time are no longer waited for.
const WAIT: SignedDuration = SignedDuration::from_mins(10);
/// Pods younger than this are looked at before anybody asks for them: the decision may become known after its pods.
const YOUNG: SignedDuration = SignedDuration::from_secs(60);
/// What the API says happened this short a time ago was seen as it happened.
const LIVE: SignedDuration = SignedDuration::from_secs(2);
/// Young pods that are remembered; beyond it, times come from the API.
const SIGHTINGS_MAX: usize = 4096;

/// What was seen of one pod.
#[derive(Clone, Debug)]
pub struct Sighting {
    labels: BTreeMap<String, String>,
    born: Timestamp,
    created: Timestamp,
    scheduled: Option<Timestamp>,
    started: Option<Timestamp>,
    ready: Option<Timestamp>,
    gone: bool,
    hindrance: String,
}

/// A decision whose new pods are waited for.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Namespace and name of the ScalingDecision.
    pub namespace: String,
    pub name: String,
    at: Timestamp,
    selector: Selector,
    /// Pods that were there before.
    known: BTreeSet<String>,
    /// What is known of the new ones.
    pub followed: Followed,
    /// What of it was written.
    pub written: Followed,
}

impl Pending {
    /// Follows the pods of a record, if it asked for some and says which they are.
    pub fn new(namespace: &str, name: &str, record: &Record, followed: Followed) -> Option<Self> {
        if followed.phase != Phase::Waiting {
            return None;
        }
        let inputs = record.inputs.as_ref()?;
        let selector = inputs.pointer("/scale/values/selector")?.as_str()?;
        let pods = inputs.get("pods").and_then(Value::as_array);
        let names = pods.into_iter().flatten();
        let names = names.filter_map(|pod| pod.get("name")?.as_str().map(str::to_owned));
        Some(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            at: record.time,
            selector: Selector::parse(selector).ok()?,
            known: names.collect(),
            written: followed.clone(),
            followed,
        })
    }

    fn wants(&self, namespace: &str, pod: &str, seen: &Sighting) -> bool {
        let room = usize::try_from(self.followed.wanted_pods)
            .unwrap_or(0)
            .min(PODS_MAX);
        self.followed.phase == Phase::Waiting
            && self.followed.pods.len() < room
            && self.namespace == namespace
            && seen.born.as_second() >= self.at.as_second()
            && !self.known.contains(pod)
            && self.selector.matches(&seen.labels)
    }
}

/// All that is seen and waited for.
#[derive(Default)]
pub struct Follower {
    /// By namespace and name.
    sightings: HashMap<(String, String), Sighting>,
    /// Oldest first.
    pub pending: Vec<Pending>,
}

impl Follower {
    /// Waits for the pods of one more decision.
    pub fn follow(&mut self, pending: Pending, now: Timestamp) {
        self.pending.push(pending);
        self.assign(now);
    }

    /// A pod changed, or is `gone`.
    pub fn saw(&mut self, pod: &Pod, gone: bool, now: Timestamp) {
        let key = (
            objects::namespace(pod).to_owned(),
            objects::name(pod).to_owned(),
        );
        if !self.sightings.contains_key(&key) {
            let age = now.duration_since(objects::created(pod));
            let is_young = age < YOUNG || self.is_followed(&key);
            if gone || !is_young {
                return;
            }
            if self.sightings.len() >= SIGHTINGS_MAX {
                self.tidy(now);
            }
            if self.sightings.len() >= SIGHTINGS_MAX {
                return;
            }
        }
        let sighting = self
            .sightings
            .entry(key)
            .or_insert_with(|| Sighting::new(pod, now));
        sighting.update(pod, gone, now);
        if !self.pending.is_empty() {
            self.assign(now);
        }
    }

    /// Forgets what nobody will ask for, and ends what takes too long.
    pub fn tidy(&mut self, now: Timestamp) {
        for pending in &mut self.pending {
            if now.duration_since(pending.at) > WAIT && pending.followed.phase == Phase::Waiting {
                pending.followed.phase = Phase::Ended;
            }
        }
        let followed: BTreeSet<(&str, &str)> = self
            .pending
            .iter()
            .flat_map(|pending| {
                let pods = pending.followed.pods.iter();
                pods.map(|pod| (pending.namespace.as_str(), pod.name.as_str()))
            })
            .collect();
        self.sightings.retain(|(namespace, name), seen| {
            now.duration_since(seen.born).abs() < YOUNG
                || followed.contains(&(namespace.as_str(), name.as_str()))
        });
    }

    fn is_followed(&self, (namespace, name): &(String, String)) -> bool {
        self.pending.iter().any(|pending| {
            &pending.namespace == namespace
                && pending.followed.pods.iter().any(|pod| &pod.name == name)
        })
    }

    /// Gives every new pod to the oldest decision that waits for one, and brings the totals in line.
    fn assign(&mut self, now: Timestamp) {
        let mut young: Vec<(&(String, String), &Sighting)> = self.sightings.iter().collect();
        young.sort_by_key(|(key, seen)| (seen.created, *key));
        for (key, seen) in young {
            let (namespace, name) = key;
            let taken = self.pending.iter().position(|pending| {
                &pending.namespace == namespace
                    && pending.followed.pods.iter().any(|pod| &pod.name == name)
            });
            let taker = taken.or_else(|| {
                let free = |pending: &Pending| pending.wants(namespace, name, seen);
                self.pending.iter().position(free).filter(|_| !seen.gone)
            });
            let Some(pending) = taker.and_then(|index| self.pending.get_mut(index)) else {
                continue;
            };
            let at = pending.at;
            let since = |time: Option<Timestamp>| time.map(|time| milliseconds_since(at, time));
            let pods = &mut pending.followed.pods;
            let index = pods.iter().position(|pod| &pod.name == name);
            let index = index.unwrap_or_else(|| {
                pods.push(PodTimes {
                    name: name.clone(),
                    created_ms: since(Some(seen.created)),
                    ..PodTimes::default()
                });
                pods.len() - 1
            });
            let times = &mut pods[index];
            // What was told before a restart is more exact than what the API tells after it.
            times.scheduled_ms = times.scheduled_ms.or(since(seen.scheduled));
            times.started_ms = times.started_ms.or(since(seen.started));
            times.ready_ms = times.ready_ms.or(since(seen.ready));
        }
        let sightings = &self.sightings;
        for pending in &mut self.pending {
            let namespace = &pending.namespace;
            let seen = |pod: &PodTimes| sightings.get(&(namespace.clone(), pod.name.clone()));
            let waiting = || {
                let pods = pending.followed.pods.iter();
                pods.filter(|pod| pod.ready_ms.is_none()).filter_map(seen)
            };
            let mut hindrances = waiting().map(|seen| seen.hindrance.clone());
            let hindrance = hindrances.find(|text| !text.is_empty());
            let given_up = waiting().filter(|seen| seen.gone).count();
            let (hindrance, wanted) = (hindrance.unwrap_or_default(), pending.followed.wanted_pods);
            pending.followed.message = hindrance;
            pending.followed.summarize();
            let ready = usize::try_from(pending.followed.ready_pods).unwrap_or(0);
            if pending.followed.phase == Phase::Waiting
                && given_up > 0
                && ready + given_up >= usize::try_from(wanted).unwrap_or(0)
            {
                pending.followed.phase = Phase::Ended;
                pending.followed.message = "the others were removed before".to_owned();
            }
        }
        self.tidy(now);
    }
}

impl Sighting {
    fn new(pod: &Pod, now: Timestamp) -> Self {
        let created = pod.metadata.creation_timestamp.as_ref();
        let born = created.map_or(now, |time| time.0);
        Self {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            born,
            created: exact(Some(born), now),
            scheduled: None,
            started: None,
            ready: None,
            gone: false,
            hindrance: String::new(),
        }
    }

    fn update(&mut self, pod: &Pod, gone: bool, now: Timestamp) {
        self.gone = gone || objects::is_terminating(pod);
        let status = pod.status.clone().unwrap_or_default();
        let since = |kind: &str| {
            let condition = objects::pod_condition(pod, kind)?;
            let changed = condition.last_transition_time.as_ref().map(|time| time.0);
            (condition.status == "True").then(|| exact(changed, now))
        };
        self.scheduled = self.scheduled.or_else(|| since("PodScheduled"));
        self.ready = self.ready.or_else(|| since("Ready"));
        let containers = status.container_statuses.unwrap_or_default();
        let running: Option<Vec<Option<&Time>>> = containers
            .iter()
            .map(|container| {
                let running = container.state.as_ref()?.running.as_ref()?;
                Some(running.started_at.as_ref())
            })
            .collect();
        if let Some(times) = running.filter(|times| !times.is_empty()) {
            let last = times.into_iter().flatten().map(|time| time.0).max();
            self.started = self.started.or_else(|| Some(exact(last, now)));
        }
        let unscheduled = objects::pod_condition(pod, "PodScheduled")
            .filter(|condition| condition.status == "False")
            .and_then(|condition| condition.message.clone());
        let waiting = containers.iter().find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let reason = waiting.reason.as_deref()?;
            let said = waiting.message.as_deref().unwrap_or_default();
            (!["ContainerCreating", "PodInitializing"].contains(&reason))
                .then(|| format!("{reason} {said}").trim_end().to_owned())
        });
        self.hindrance = unscheduled.or(waiting).unwrap_or_default();
        if let Some((end, _)) = self.hindrance.char_indices().nth(500) {
            self.hindrance.truncate(end);
        }
    }
}

/// Now, if the API says that it was a moment ago; else what the API says.
fn exact(told: Option<Timestamp>, now: Timestamp) -> Timestamp {
    match told {
        Some(told) if now.duration_since(told).abs() > LIVE => told,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
    }

    fn record(from: i32, to: i32, known: &[&str], milliseconds: i64) -> Record {
        let pods: Vec<Value> = known.iter().map(|name| json!({"name": name})).collect();
        serde_json::from_value(json!({
            "autoscaler": "web", "target": "Deployment/web", "time": at(milliseconds), "from": from, "to": to,
            "reason": "", "message": "",
            "inputs": {"scale": {"values": {"selector": "app=web"}}, "pods": pods},
        }))
        .unwrap()
    }

    fn pending(name: &str, record: &Record) -> Pending {
        Pending::new("default", name, record, Followed::begin(record)).unwrap()
    }

    /// A pod that was created, scheduled, started and became ready at these times, as far as it has come.
    fn pod(name: &str, app: &str, times: &[i64]) -> Pod {
        let second = |index: usize| {
            let time = times.get(index).map(|milliseconds| at(*milliseconds));
            time.map(|time| Timestamp::from_second(time.as_second()).unwrap())
        };
        let condition = |kind: &str, index: usize| match second(index) {
            Some(time) => json!({"type": kind, "status": "True", "lastTransitionTime": time}),
            None => json!({"type": kind, "status": "False", "message": format!("{kind} not yet")}),
        };
        let state = match second(2) {
            Some(time) => json!({"running": {"startedAt": time}}),
            None => json!({"waiting": {"reason": "ContainerCreating"}}),
        };
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "labels": {"app": app}, "creationTimestamp": second(0)},
            "status": {
                "conditions": [condition("PodScheduled", 1), condition("Ready", 3)],
                "containerStatuses": [{"name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}],
            },
        }))
        .unwrap()
    }

    fn times(followed: &Followed) -> Vec<(&str, [Option<i64>; 4])> {
        let each = followed.pods.iter();
        each.map(|pod| {
            let times = [
                pod.created_ms,
                pod.scheduled_ms,
                pod.started_ms,
                pod.ready_ms,
            ];
            (pod.name.as_str(), times)
        })
        .collect()
    }

    #[test]
    fn new_pods_are_timed_as_they_come() {
        let mut follower = Follower::default();
        let record = record(1, 3, &["old"], 100);
        // The first pod is there before its decision is known.
        follower.saw(&pod("old", "web", &[0, 0, 0, 0]), false, at(120));
        follower.saw(&pod("a", "web", &[130]), false, at(130));
        follower.saw(&pod("other", "db", &[130]), false, at(131));
        follower.follow(pending("web-1", &record), at(150));
        follower.saw(&pod("b", "web", &[160]), false, at(160));
        follower.saw(&pod("late", "web", &[161]), false, at(161));
        let moves: [(&str, &[i64], i64); 6] = [
            ("a", &[130, 170], 170),
            ("b", &[160, 176], 176),
            ("a", &[130, 170, 500], 500),
            ("b", &[160, 176, 700], 700),
            ("b", &[160, 176, 700, 900], 900),
            ("b", &[160, 176, 700, 900], 1500),
        ];
        for (name, times, now) in moves {
            follower.saw(&pod(name, "web", times), false, at(now));
        }
        let followed = &follower.pending[0].followed;
        assert_eq!(
            times(followed),
            [
                ("a", [Some(30), Some(70), Some(400), None]),
                ("b", [Some(60), Some(76), Some(600), Some(800)]),
            ]
        );
        assert_eq!((followed.phase, followed.ready_pods), (Phase::Waiting, 1));
        assert_eq!(
            followed.sentence().unwrap(),
            "1 of 2 new pods ready so far (scheduled after 0.08 s, started after 0.60 s)"
        );
        follower.saw(&pod("a", "web", &[130, 170, 500, 1300]), false, at(1300));
        let followed = &follower.pending[0].followed;
        assert_eq!((followed.phase, followed.ready_pods), (Phase::Complete, 2));
        assert_eq!(
            followed.sentence().unwrap(),
            "2 new pods, the slowest scheduled after 0.08 s, started after 0.60 s, ready after 1.20 s"
        );
    }

    #[test]
    fn two_decisions_in_a_row_have_their_own_pods() {
        let mut follower = Follower::default();
        follower.follow(pending("web-1", &record(1, 2, &["old"], 0)), at(1));
        follower.follow(pending("web-2", &record(2, 4, &["old"], 500)), at(501));
        for (name, now) in [("a", 600), ("b", 610), ("c", 620), ("d", 630)] {
            follower.saw(&pod(name, "web", &[now]), false, at(now));
        }
        let names: Vec<Vec<&str>> = follower
            .pending
            .iter()
            .map(|pending| {
                times(&pending.followed)
                    .into_iter()
                    .map(|(name, _)| name)
                    .collect()
            })
            .collect();
        assert_eq!(names, [vec!["a"], vec!["b", "c"]]);
    }

    #[test]
    fn after_a_restart_the_apis_times_fill_the_gaps() {
        let record = record(1, 2, &["old"], 0);
        let mut followed = Followed::begin(&record);
        followed.pods = vec![PodTimes {
            name: "a".to_owned(),
            created_ms: Some(12),
            scheduled_ms: Some(34),
            ..PodTimes::default()
        }];
        let pending = Pending::new("default", "web-1", &record, followed).unwrap();
        let mut follower = Follower::default();
        follower.follow(pending, at(90_000));
        follower.saw(
            &pod("a", "web", &[1000, 1000, 2000, 3000]),
            false,
            at(90_000),
        );
        let followed = &follower.pending[0].followed;
        assert_eq!(
            times(followed),
            [("a", [Some(12), Some(34), Some(2000), Some(3000)])]
        );
        assert_eq!(followed.phase, Phase::Complete);
    }

    #[test]
    fn what_does_not_come_is_told_and_given_up() {
        let mut follower = Follower::default();
        follower.follow(pending("web-1", &record(1, 3, &[], 0)), at(1));
        follower.saw(&pod("a", "web", &[10]), false, at(10));
        let message = follower.pending[0].followed.message.clone();
        assert_eq!(message, "PodScheduled not yet");
        follower.tidy(at(599_000));
        assert_eq!(follower.pending[0].followed.phase, Phase::Waiting);
        follower.tidy(at(601_000));
        let followed = &follower.pending[0].followed;
        assert_eq!(followed.phase, Phase::Ended);
        assert_eq!(
            followed.sentence().unwrap(),
            "0 of 2 new pods ready when no longer waited for: PodScheduled not yet"
        );

        let mut follower = Follower::default();
        follower.follow(pending("web-1", &record(1, 3, &[], 0)), at(1));
        follower.saw(&pod("a", "web", &[10, 20, 30, 40]), false, at(40));
        follower.saw(&pod("b", "web", &[10]), false, at(41));
        follower.saw(&pod("b", "web", &[10]), true, at(50));
        assert_eq!(follower.pending[0].followed.phase, Phase::Ended);
    }

    #[test]
    fn memory_is_bounded() {
        let mut follower = Follower::default();
        for index in 0..SIGHTINGS_MAX + 100 {
            follower.saw(&pod(&format!("p{index}"), "web", &[0]), false, at(1));
        }
        assert_eq!(follower.sightings.len(), SIGHTINGS_MAX);
        follower.saw(&pod("next", "web", &[61_000]), false, at(61_000));
        assert_eq!(follower.sightings.len(), 1, "those that grew old made room");
        follower.tidy(at(130_000));
        assert!(follower.sightings.is_empty());
        follower.saw(&pod("ancient", "web", &[0]), false, at(200_000));
        assert!(follower.sightings.is_empty(), "nobody asks for old pods");
        let unlimited = record(1, i32::MAX, &[], 0);
        assert_eq!(Followed::begin(&unlimited).wanted_pods, i32::MAX - 1);
    }
}
