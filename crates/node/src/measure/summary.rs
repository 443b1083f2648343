//! The kubelet's `/stats/summary` (k8s.io/kubelet, pkg/apis/stats/v1alpha1): the node and its pods in one document.

use std::collections::HashMap;

use engine::{ContainerStatus, Stats};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Machine;
use super::claims::{Mounted, Space};
use super::samples::{PodName, Samples};
use super::traffic::{self, Interface};

/// What a document is made of beside the [`Samples`]. Of the short form network and file systems are left out.
#[derive(Default)]
pub struct Around {
    pub node: String,
    pub machine: Option<Machine>,
    /// The machine's memory: what can be had, and what is not free.
    pub memory_available_bytes: Option<u64>,
    pub memory_used_bytes: Option<u64>,
    pub booted: Option<Timestamp>,
    /// Tasks of the machine: how many there may be, and are.
    pub tasks: Option<(u64, u64)>,
    pub interfaces: Vec<Interface>,
    pub way_out: Option<String>,
    pub disk: Option<Space>,
    pub images: Option<Space>,
    pub pods: HashMap<String, PodFacts>,
}

/// What is known of a pod beside its groups.
#[derive(Default)]
pub struct PodFacts {
    pub started: Option<Timestamp>,
    pub interfaces: Vec<Interface>,
    pub volumes: Vec<(Mounted, Space)>,
}

/// CPU time by what used it, as it was told last: from two readings follows a rate.
#[derive(Default)]
pub struct Rates(Mutex<HashMap<String, Reading>>);

#[derive(Clone, Copy)]
struct Reading {
    at: Timestamp,
    total_ns: u64,
    rate: Option<u64>,
}

/// Readings closer to each other than this say little.
const APART_MIN: f64 = 1.0;

impl Rates {
    /// Nanoseconds per second of each, since it was read before. What is not read this time is forgotten.
    fn next(
        &self,
        readings: impl Iterator<Item = (String, Timestamp, u64)>,
    ) -> HashMap<String, u64> {
        let mut last = self.0.lock();
        let next: HashMap<String, Reading> = readings
            .map(|(key, at, total_ns)| {
                let reading = last.get(&key).map_or(
                    Reading {
                        at,
                        total_ns,
                        rate: None,
                    },
                    |before| before.followed_by(at, total_ns),
                );
                (key, reading)
            })
            .collect();
        *last = next;
        let rates = last.iter();
        rates
            .filter_map(|(key, reading)| Some((key.clone(), reading.rate?)))
            .collect()
    }
}

impl Reading {
    fn followed_by(self, at: Timestamp, total_ns: u64) -> Self {
        let seconds = at.duration_since(self.at).as_secs_f64();
        if seconds < APART_MIN {
            return self;
        }
        // one that counts anew has no rate yet
        let used = total_ns.checked_sub(self.total_ns);
        Self {
            at,
            total_ns,
            rate: used.map(|used| (used as f64 / seconds) as u64),
        }
    }
}

/// The document.
pub fn document(samples: &Samples, around: &Around, rates: &Rates) -> Value {
    const NODE: &str = "";
    let of_pods = samples.pods.iter();
    let of_pods = of_pods.map(|(pod, s)| (pod.uid.clone(), s.at, s.cpu_usage_ns));
    let of_containers = samples.containers.iter();
    let of_containers = of_containers.map(|(c, s)| (c.id.clone(), s.at, s.cpu_usage_ns));
    let of_machine = around.machine.iter();
    let of_machine = of_machine.map(|machine| {
        let ns = (machine.cpu_seconds * 1e9) as u64;
        (NODE.to_owned(), machine.at, ns)
    });
    let rates = rates.next(of_pods.chain(of_containers).chain(of_machine));
    let pods = samples.pods.iter();
    let pods: Vec<Value> = pods
        .map(|(name, stats)| pod(name, stats, samples, around, &rates))
        .collect();
    let node = node(around, rates.get(NODE).copied());
    without_nulls(json!({ "node": node, "pods": pods }))
}

fn node(around: &Around, rate: Option<u64>) -> Value {
    let machine = around.machine;
    let time = machine.map_or_else(Timestamp::now, |machine| machine.at);
    let time = time_text(time);
    json!({
        "nodeName": around.node,
        "startTime": around.booted.map(time_text),
        "cpu": machine.map(|machine| json!({
            "time": time,
            "usageNanoCores": rate,
            "usageCoreNanoSeconds": (machine.cpu_seconds * 1e9) as u64,
        })),
        "memory": machine.map(|machine| json!({
            "time": time,
            "availableBytes": around.memory_available_bytes,
            "usageBytes": around.memory_used_bytes,
            "workingSetBytes": machine.memory_working_set_bytes,
        })),
        "network": traffic::summary(&around.interfaces, around.way_out.as_deref(), &time),
        "fs": around.disk.map(|space| file_system(space, &time)),
        "runtime": around.images.map(|space| json!({ "imageFs": file_system(space, &time) })),
        "rlimit": around.tasks.map(|(most, now)| json!({ "time": time, "maxpid": most, "curproc": now })),
    })
}

fn pod(
    name: &PodName,
    stats: &Stats,
    samples: &Samples,
    around: &Around,
    rates: &HashMap<String, u64>,
) -> Value {
    let none = PodFacts::default();
    let facts = around.pods.get(&name.uid).unwrap_or(&none);
    let time = time_text(stats.at);
    let containers = samples.containers.iter();
    let containers: Vec<Value> = containers
        .filter(|(status, _)| PodName::of(status).uid == name.uid)
        .map(|(status, stats)| container(status, stats, rates.get(&status.id).copied()))
        .collect();
    let volumes: Vec<Value> = facts
        .volumes
        .iter()
        .map(|(mounted, space)| {
            let mut volume = file_system(*space, &time);
            volume["name"] = mounted.volume.as_str().into();
            volume["pvcRef"] = json!({ "name": mounted.claim, "namespace": name.namespace });
            volume
        })
        .collect();
    json!({
        "podRef": { "name": name.name, "namespace": name.namespace, "uid": name.uid },
        "startTime": facts.started.map(time_text),
        "containers": containers,
        "cpu": cpu(stats, rates.get(&name.uid).copied()),
        "memory": memory(stats),
        "network": traffic::summary(&facts.interfaces, Some("eth0"), &time),
        "volume": (!volumes.is_empty()).then_some(volumes),
        "process_stats": { "process_count": stats.pids },
    })
}

fn container(status: &ContainerStatus, stats: &Stats, rate: Option<u64>) -> Value {
    json!({
        "name": status.spec.name,
        "startTime": status.started_at.map(time_text),
        "cpu": cpu(stats, rate),
        "memory": memory(stats),
    })
}

fn cpu(stats: &Stats, rate: Option<u64>) -> Value {
    json!({
        "time": time_text(stats.at),
        "usageNanoCores": rate,
        "usageCoreNanoSeconds": stats.cpu_usage_ns,
    })
}

fn memory(stats: &Stats) -> Value {
    let working_set = stats.memory_working_set_bytes;
    json!({
        "time": time_text(stats.at),
        "availableBytes": stats.memory_limit_bytes.map(|limit| limit.saturating_sub(working_set)),
        "usageBytes": stats.memory_usage_bytes,
        "workingSetBytes": working_set,
    })
}

fn file_system(space: Space, time: &str) -> Value {
    json!({
        "time": time,
        "availableBytes": space.available_bytes,
        "capacityBytes": space.capacity_bytes,
        "usedBytes": space.used_bytes,
        "inodesFree": space.inodes_free,
        "inodes": space.inodes,
        "inodesUsed": space.inodes_used(),
    })
}

fn time_text(time: Timestamp) -> String {
    // whole seconds, as all times of the API
    format!("{time:.0}")
}

/// What is not known is not told.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let known = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                known
                    .map(|(name, value)| (name, without_nulls(value)))
                    .collect(),
            )
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::State;

    use super::*;
    use crate::container::label;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).expect("a time")
    }

    fn stats(seconds: i64, cpu_usage_ns: u64) -> Stats {
        Stats {
            at: at(seconds),
            cpu_usage_ns,
            memory_usage_bytes: 300,
            memory_working_set_bytes: 200,
            memory_limit_bytes: Some(1000),
            pids: 3,
            periods: 0,
            throttled_periods: 0,
            throttled_ns: 0,
            oom_kills: 0,
        }
    }

    fn samples(seconds: i64, cpu_usage_ns: u64) -> Samples {
        let labels = [
            (label::POD_UID, "u"),
            (label::POD_NAME, "web-0"),
            (label::POD_NAMESPACE, "shop"),
        ];
        let spec = engine::ContainerSpec {
            name: "web".into(),
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Default::default()
        };
        let status = ContainerStatus {
            id: "c".into(),
            sandbox: "u".into(),
            spec: Arc::new(spec),
            state: State::Running,
            pid: Some(1),
            paused: false,
            created_at: at(0),
            started_at: Some(at(0)),
            exit: None,
        };
        Samples {
            pods: vec![(PodName::of(&status), stats(seconds, cpu_usage_ns + 7))],
            containers: vec![(status, stats(seconds, cpu_usage_ns))],
            complete: true,
        }
    }

    #[test]
    fn the_document() {
        let mounted = Mounted {
            volume: "data".into(),
            claim: "db".into(),
            path: "/srv".into(),
        };
        let space = Space {
            capacity_bytes: 100,
            available_bytes: 50,
            used_bytes: 40,
            inodes: 10,
            inodes_free: 7,
        };
        let facts = PodFacts {
            started: Some(at(0)),
            interfaces: Vec::new(),
            volumes: vec![(mounted, space)],
        };
        let around = Around {
            node: "n".into(),
            pods: [("u".to_owned(), facts)].into(),
            disk: Some(space),
            ..Around::default()
        };
        let found = document(&samples(5, 1_000), &around, &Rates::default());
        assert_eq!(found["node"]["nodeName"], "n");
        assert_eq!(found["node"]["fs"]["inodesUsed"], 3);
        assert_eq!(found["node"].get("cpu"), None, "not known, not told");
        let pod = &found["pods"][0];
        assert_eq!(
            pod["podRef"],
            json!({ "name": "web-0", "namespace": "shop", "uid": "u" })
        );
        assert_eq!(
            pod["cpu"],
            json!({ "time": "2023-11-14T22:13:25Z", "usageCoreNanoSeconds": 1007 })
        );
        assert_eq!(
            pod["volume"][0]["pvcRef"],
            json!({ "name": "db", "namespace": "shop" })
        );
        assert_eq!(pod["volume"][0]["usedBytes"], 40);
        let container = &pod["containers"][0];
        assert_eq!(container["name"], "web");
        assert_eq!(container["memory"]["workingSetBytes"], 200);
        assert_eq!(container["memory"]["availableBytes"], 800);
    }

    #[test]
    fn rates_follow_from_two_readings() {
        let (around, rates) = (Around::default(), Rates::default());
        let rate = |seconds, total| {
            let found = document(&samples(seconds, total), &around, &rates);
            found["pods"][0]["containers"][0]["cpu"]["usageNanoCores"].as_u64()
        };
        assert_eq!(rate(0, 1_000), None);
        assert_eq!(rate(10, 6_000), Some(500));
        assert_eq!(rate(10, 9_000), Some(500), "too soon to say something else");
        assert_eq!(rate(20, 6_000), Some(0));
        assert_eq!(rate(30, 1_000), None, "it started again");
        document(&Samples::default(), &around, &rates);
        assert!(rates.0.lock().is_empty(), "what is gone is forgotten");
    }
}
