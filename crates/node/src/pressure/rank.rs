//! In which order pods have to go: those that take more than they asked for, then those that matter less, then those that
//! take most. A pure function.
//!
//! Follows `rankMemoryPressure`, `rankDiskPressureFunc` and `rankPIDPressure` of the kubelet's `pkg/kubelet/eviction`.

use std::cmp::Reverse;

use super::signal::Signal;

/// Pods of this priority or above are the system's own; as `scheduling.SystemCriticalPriority`.
const CRITICAL: i32 = 2_000_000_000;

/// What a pod, or one container of it, takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Working set.
    pub memory_bytes: i64,
    /// What containers wrote into their root file systems.
    pub root_bytes: i64,
    pub root_inodes: i64,
    /// Logs, and volumes that end with the pod.
    pub local_bytes: i64,
    pub local_inodes: i64,
    pub pids: i64,
}

/// One container of a pod that may have to go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    pub name: String,
    pub usage: Usage,
    /// As they were written; empty where nothing is requested.
    pub memory_request: String,
    pub disk_request: String,
    pub memory_request_bytes: i64,
    pub disk_request_bytes: i64,
}

/// A pod that may have to go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    pub uid: String,
    /// `namespace/name`: what is alike otherwise goes in this order.
    pub name: String,
    pub priority: i32,
    /// Mirrors a file of the machine; such a pod would not come back.
    pub is_static: bool,
    pub memory_request_bytes: i64,
    pub disk_request_bytes: i64,
    /// Unknown if it could not be measured.
    pub usage: Option<Usage>,
    pub parts: Vec<Part>,
}

impl Candidate {
    /// Never evicted.
    pub fn is_critical(&self) -> bool {
        self.is_static || self.priority >= CRITICAL
    }
}

/// Sorts: the first has to go first. `apart`: images have a file system of their own.
pub fn rank(candidates: &mut [Candidate], signal: Signal, apart: bool) {
    candidates.sort_by_cached_key(|pod| {
        let used = pod.usage.map(|usage| taken(&usage, signal, apart));
        let requested = match signal.resource() {
            "memory" => pod.memory_request_bytes,
            "ephemeral-storage" => pod.disk_request_bytes,
            _ => 0,
        };
        // a pod that could not be measured comes before those that could
        let beyond = used.map_or(i64::MAX, |used| used.saturating_sub(requested));
        // nobody can ask for process ids: everybody takes more
        let exceeds = signal == Signal::Pids || beyond > 0;
        (
            used.is_some(),
            Reverse(exceeds),
            pod.priority,
            Reverse(beyond),
            pod.name.clone(),
        )
    });
}

fn taken(usage: &Usage, signal: Signal, apart: bool) -> i64 {
    match signal {
        Signal::Memory | Signal::PodsMemory => usage.memory_bytes,
        Signal::Pids => usage.pids,
        Signal::NodeFs if apart => usage.local_bytes,
        Signal::NodeFsInodes if apart => usage.local_inodes,
        Signal::ImageFs if apart => usage.root_bytes,
        Signal::ImageFsInodes if apart => usage.root_inodes,
        Signal::NodeFs | Signal::ImageFs => usage.root_bytes.saturating_add(usage.local_bytes),
        Signal::NodeFsInodes | Signal::ImageFsInodes => {
            usage.root_inodes.saturating_add(usage.local_inodes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32, request: i64, usage: Usage) -> Candidate {
        Candidate {
            name: name.into(),
            priority,
            memory_request_bytes: request,
            disk_request_bytes: request,
            usage: Some(usage),
            ..Candidate::default()
        }
    }

    fn order(mut pods: Vec<Candidate>, signal: Signal, apart: bool) -> String {
        rank(&mut pods, signal, apart);
        let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        names.join(" ")
    }

    /// The table of upstream's `TestOrderedByExceedsRequestMemoryPriority` and its neighbours, in our units.
    #[test]
    fn by_excess_then_priority_then_consumption() {
        let memory = |bytes| Usage {
            memory_bytes: bytes,
            ..Usage::default()
        };
        let pods = || {
            vec![
                pod("below-high", 10, 900, memory(400)),
                pod("exceeds-high", 10, 100, memory(400)),
                pod("exceeds-low", 0, 100, memory(300)),
                pod("exceeds-low-more", 0, 100, memory(350)),
                pod("best-effort-little", 0, 0, memory(10)),
                pod("below-low-near", 0, 500, memory(499)),
                pod("below-low-far", 0, 500, memory(100)),
                pod("exactly", 0, 200, memory(200)),
            ]
        };
        assert_eq!(
            order(pods(), Signal::Memory, false),
            "exceeds-low-more exceeds-low best-effort-little exceeds-high exactly below-low-near below-low-far below-high"
        );
        assert_eq!(
            order(pods(), Signal::PodsMemory, false),
            order(pods(), Signal::Memory, true)
        );
    }

    #[test]
    fn disks_count_what_lies_on_them() {
        let disk = |root_bytes, local_bytes| Usage {
            root_bytes,
            local_bytes,
            root_inodes: local_bytes,
            local_inodes: root_bytes,
            ..Usage::default()
        };
        let pods = || {
            vec![
                pod("root", 0, 0, disk(90, 0)),
                pod("local", 0, 0, disk(0, 80)),
                pod("both", 0, 0, disk(50, 50)),
                pod("asked", 0, 1000, disk(400, 400)),
            ]
        };
        for (signal, apart, want) in [
            (Signal::NodeFs, false, "both root local asked"),
            (Signal::ImageFs, false, "both root local asked"),
            (Signal::NodeFs, true, "local both root asked"),
            (Signal::ImageFs, true, "root both local asked"),
            (Signal::NodeFsInodes, true, "asked root both local"),
            (Signal::ImageFsInodes, true, "asked local both root"),
        ] {
            let got = order(pods(), signal, apart);
            assert_eq!(got, want, "{signal}, apart: {apart}");
        }
    }

    #[test]
    fn process_ids_go_by_priority_first() {
        let pids = |pids| Usage {
            pids,
            ..Usage::default()
        };
        let pods = vec![
            pod("few", 0, 0, pids(2)),
            pod("many-high", 1, 0, pids(5000)),
            pod("many", 0, 0, pids(3000)),
        ];
        assert_eq!(order(pods, Signal::Pids, false), "many few many-high");
    }

    #[test]
    fn who_cannot_be_measured_goes_first() {
        let unknown = Candidate {
            name: "unknown".into(),
            priority: 100,
            ..Candidate::default()
        };
        let known = pod(
            "known",
            0,
            0,
            Usage {
                memory_bytes: 1 << 40,
                ..Usage::default()
            },
        );
        assert_eq!(
            order(vec![known, unknown], Signal::Memory, false),
            "unknown known"
        );
    }

    #[test]
    fn the_systems_own_are_critical() {
        let with = |priority, is_static| Candidate {
            priority,
            is_static,
            ..Candidate::default()
        };
        assert!(with(CRITICAL, false).is_critical() && with(0, true).is_critical());
        assert!(!with(1_000_000_000, false).is_critical());
    }
}
