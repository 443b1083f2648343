//! What runs here uses so much: CPU and memory of containers, pods and the machine, in Prometheus' text format.
//!
//! The names are those of the kubelet's `/metrics/resource`.

use std::collections::BTreeMap;
use std::fmt::Write;

use engine::{ContainerStatus, Engine, State, Stats};
use jiff::Timestamp;

use crate::container::label;

/// CPU and memory of the whole machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    pub cpu_seconds: f64,
    pub memory_working_set_bytes: u64,
    pub at: Timestamp,
}

impl Machine {
    /// Reads /proc.
    pub fn read() -> Option<Self> {
        Some(Self {
            cpu_seconds: cpu_seconds(&std::fs::read_to_string("/proc/stat").ok()?)?,
            memory_working_set_bytes: memory_used_bytes(
                &std::fs::read_to_string("/proc/meminfo").ok()?,
            )?,
            at: Timestamp::now(),
        })
    }
}

/// Busy time of all cores; the kernel counts in hundredths of a second.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let busy: u64 = [0, 1, 2, 5, 6, 7]
        .iter()
        .filter_map(|index| fields.get(*index))
        .sum();
    Some(busy as f64 / 100.0)
}

fn memory_used_bytes(meminfo: &str) -> Option<u64> {
    let (total, available) = memory(meminfo)?;
    Some(total.saturating_sub(available))
}

/// How much rather than others the kernel kills this process when memory runs out.
pub fn own_oom_score() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// All memory, and what of it can be had without swapping: the kernel's own estimate. In bytes.
pub fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((field("MemTotal")? * 1024, field("MemAvailable")? * 1024))
}

/// Samples every running container of a pod.
pub async fn sample(engine: &Engine) -> Vec<(ContainerStatus, Stats)> {
    let mut samples = Vec::new();
    for status in engine.containers().await {
        if status.state != State::Running || !status.spec.labels.contains_key(label::POD_UID) {
            continue;
        }
        // a container that ends while it is measured has no figures
        if let Ok(stats) = engine.stats(&status.id).await {
            samples.push((status, stats));
        }
    }
    samples
}

/// The whole answer to `/metrics/resource`.
pub fn render(samples: &[(ContainerStatus, Stats)], machine: Option<Machine>) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: &[(String, f64, Timestamp)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value, at) in lines {
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{labels}}}")
            };
            let _ = writeln!(text, "{name}{labels} {value} {}", at.as_millisecond());
        }
    };
    let seconds = |ns: u64| ns as f64 / 1e9;
    let rows =
        |value: &dyn Fn(&ContainerStatus, &Stats) -> Option<f64>| -> Vec<(String, f64, Timestamp)> {
            samples
                .iter()
                .filter_map(|(c, s)| Some((container_labels(c), value(c, s)?, s.at)))
                .collect()
        };
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        &rows(&|_, s| Some(seconds(s.cpu_usage_ns))),
    );
    family(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
        &rows(&|_, s| Some(s.memory_working_set_bytes as f64)),
    );
    family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        &rows(&|c, _| c.started_at.map(|at| at.as_millisecond() as f64 / 1e3)),
    );
    let mut pods: BTreeMap<String, (f64, f64, Timestamp)> = BTreeMap::new();
    for (status, stats) in samples {
        let sum = pods
            .entry(pod_labels(status))
            .or_insert((0.0, 0.0, stats.at));
        *sum = (
            sum.0 + seconds(stats.cpu_usage_ns),
            sum.1 + stats.memory_working_set_bytes as f64,
            sum.2.max(stats.at),
        );
    }
    let cpu: Vec<_> = pods
        .iter()
        .map(|(labels, sum)| (labels.clone(), sum.0, sum.2))
        .collect();
    let memory: Vec<_> = pods
        .into_iter()
        .map(|(labels, sum)| (labels, sum.1, sum.2))
        .collect();
    family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
        &cpu,
    );
    family(
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
        &memory,
    );
    if let Some(machine) = machine {
        let row = |value: f64| [(String::new(), value, machine.at)];
        family(
            "node_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the node in core-seconds",
            &row(machine.cpu_seconds),
        );
        family(
            "node_memory_working_set_bytes",
            "gauge",
            "Current working set of the node in bytes",
            &row(machine.memory_working_set_bytes as f64),
        );
    }
    text
}

fn pod_labels(status: &ContainerStatus) -> String {
    let label = |key: &str| {
        status
            .spec
            .labels
            .get(key)
            .map(String::as_str)
            .unwrap_or_default()
    };
    // names of pods and namespaces hold no character that the format would have to escape
    format!(
        "namespace=\"{}\",pod=\"{}\"",
        label(label::POD_NAMESPACE),
        label(label::POD_NAME)
    )
}

fn container_labels(status: &ContainerStatus) -> String {
    format!("container=\"{}\",{}", status.spec.name, pod_labels(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_figures() {
        assert_eq!(
            cpu_seconds("cpu  100 0 50 9999 7 1 2 3 0 0\ncpu0 1 1\n"),
            Some(1.56)
        );
        assert_eq!(cpu_seconds("nonsense"), None);
        assert_eq!(
            memory_used_bytes("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 40 kB\n"),
            Some(60 * 1024)
        );
    }

    #[test]
    fn families_and_sums() {
        let at = Timestamp::from_millisecond(1_700_000_000_123).expect("time");
        let sample = |name: &str, cpu_ns: u64| {
            let labels = [(label::POD_NAME, "web-1"), (label::POD_NAMESPACE, "shop")];
            let spec = engine::ContainerSpec {
                name: name.into(),
                labels: labels
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
                ..Default::default()
            };
            let status = ContainerStatus {
                id: name.into(),
                sandbox: "s".into(),
                spec: std::sync::Arc::new(spec),
                state: State::Running,
                pid: Some(1),
                paused: false,
                created_at: at,
                started_at: Some(at),
                exit: None,
            };
            let stats = Stats {
                at,
                cpu_usage_ns: cpu_ns,
                memory_usage_bytes: 4096,
                memory_working_set_bytes: 4096,
                memory_limit_bytes: None,
                pids: 1,
                periods: 0,
                throttled_periods: 0,
                throttled_ns: 0,
                oom_kills: 0,
            };
            (status, stats)
        };
        let text = render(
            &[sample("a", 1_500_000_000), sample("b", 500_000_000)],
            None,
        );
        for line in [
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"shop\",pod=\"web-1\"} 1.5 1700000000123",
            "pod_cpu_usage_seconds_total{namespace=\"shop\",pod=\"web-1\"} 2 1700000000123",
            "pod_memory_working_set_bytes{namespace=\"shop\",pod=\"web-1\"} 8192 1700000000123",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing from\n{text}"
            );
        }
    }
}
