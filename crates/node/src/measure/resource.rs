//! The kubelet's `/metrics/resource`: CPU and memory of containers, pods and the machine, in Prometheus' text format.

use std::fmt::Write;

use engine::{ContainerStatus, Stats};
use jiff::Timestamp;

use super::Machine;
use super::samples::{PodName, Samples};

const SCRAPE_ERROR: &str = "resource_scrape_error";

/// The whole answer to `/metrics/resource`.
pub fn render(samples: &Samples, machine: Option<Machine>) -> String {
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
            let containers = samples.containers.iter();
            containers
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
    // The pod's own group: what a container that has ended has used stays in it.
    let of_pods = |value: &dyn Fn(&Stats) -> f64| -> Vec<(String, f64, Timestamp)> {
        let pods = samples.pods.iter();
        pods.map(|(pod, s)| (pod_labels(pod), value(s), s.at))
            .collect()
    };
    family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
        &of_pods(&|s| seconds(s.cpu_usage_ns)),
    );
    family(
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
        &of_pods(&|s| s.memory_working_set_bytes as f64),
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
    let failed = u8::from(!samples.complete || machine.is_none());
    let _ = writeln!(
        text,
        "# HELP {SCRAPE_ERROR} 1 if there was an error while getting container metrics, 0 otherwise\n# TYPE {SCRAPE_ERROR} gauge\n{SCRAPE_ERROR} {failed}"
    );
    text
}

fn pod_labels(pod: &PodName) -> String {
    // names of pods and namespaces hold no character that the format would have to escape
    format!("namespace=\"{}\",pod=\"{}\"", pod.namespace, pod.name)
}

fn container_labels(status: &ContainerStatus) -> String {
    let pod = pod_labels(&PodName::of(status));
    format!("container=\"{}\",{pod}", status.spec.name)
}

#[cfg(test)]
mod tests {
    use engine::State;

    use super::*;
    use crate::container::label;

    #[test]
    fn families_of_containers_and_pods() {
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
        let (a, b) = (sample("a", 1_500_000_000), sample("b", 500_000_000));
        // What a container has used that has started again since stays the pod's.
        let of_pod = Stats {
            cpu_usage_ns: 7_000_000_000,
            memory_working_set_bytes: 9000,
            ..a.1.clone()
        };
        let mut samples = Samples {
            pods: vec![(PodName::of(&a.0), of_pod)],
            containers: vec![a, b],
            complete: true,
        };
        let machine = Machine {
            cpu_seconds: 1.0,
            memory_working_set_bytes: 1,
            at,
        };
        let text = render(&samples, Some(machine));
        for line in [
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"shop\",pod=\"web-1\"} 1.5 1700000000123",
            "pod_cpu_usage_seconds_total{namespace=\"shop\",pod=\"web-1\"} 7 1700000000123",
            "pod_memory_working_set_bytes{namespace=\"shop\",pod=\"web-1\"} 9000 1700000000123",
            "# HELP resource_scrape_error 1 if there was an error while getting container metrics, 0 otherwise",
            "# TYPE resource_scrape_error gauge",
            "resource_scrape_error 0",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line} is missing from\n{text}"
            );
        }
        assert!(render(&samples, None).ends_with("\nresource_scrape_error 1\n"));
        samples.complete = false;
        assert!(render(&samples, Some(machine)).ends_with("\nresource_scrape_error 1\n"));
    }
}
