//! The kubelet's `/metrics`: this process, how much runs here, and how full the claims of pods are.

use std::fmt::Write;

use super::claims::{Mounted, Space};
use super::samples::PodName;

/// The kernel counts in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures of this process; what cannot be read is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    pub cpu_seconds: Option<f64>,
    pub start_seconds: Option<f64>,
    pub resident_bytes: Option<f64>,
    pub virtual_bytes: Option<f64>,
    pub open_files: Option<f64>,
    pub open_files_max: Option<f64>,
}

impl Process {
    /// Reads /proc.
    pub fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let open = std::fs::read_dir("/proc/self/fd").ok();
        Self {
            open_files: open.map(|open| open.count() as f64),
            ..Self::of(
                &text("/proc/self/stat"),
                &text("/proc/self/status"),
                &text("/proc/self/limits"),
                super::boot_seconds(&text("/proc/stat")),
            )
        }
    }

    fn of(stat: &str, status: &str, limits: &str, booted_seconds: Option<u64>) -> Self {
        // the second field is a name in brackets, which may hold anything
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let number: f64 = line.split_whitespace().next()?.parse().ok()?;
            Some(number * 1024.0)
        };
        let limit = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        Self {
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            start_seconds: booted_seconds
                .zip(field(22))
                .map(|(booted, ticks)| booted as f64 + ticks / TICKS_PER_SECOND),
            resident_bytes: bytes("VmRSS:"),
            virtual_bytes: bytes("VmSize:"),
            open_files: None,
            open_files_max: limit.and_then(|line| line.split_whitespace().next()?.parse().ok()),
        }
    }
}

/// What the page tells beside the process.
pub struct Figures<'a> {
    pub node: &'a str,
    pub process: Process,
    pub running_pods: usize,
    /// Containers by their state, in upstream's words.
    pub containers: &'a [(&'static str, usize)],
    pub claims: &'a [(PodName, Mounted, Space)],
}

/// The page.
pub fn render(figures: &Figures<'_>) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: &[(String, f64)]| {
        if lines.is_empty() {
            return;
        }
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let one = |value: Option<f64>| -> Vec<(String, f64)> {
        value
            .map(|value| (String::new(), value))
            .into_iter()
            .collect()
    };
    let node = format!("{{node=\"{}\"}}", figures.node);
    let gauge = "gauge";
    family(
        "kubelet_node_name",
        gauge,
        "The node's name. The count is always 1.",
        &[(node, 1.0)],
    );
    let pods = one(Some(figures.running_pods as f64));
    family(
        "kubelet_running_pods",
        gauge,
        "Number of pods that have a running pod sandbox",
        &pods,
    );
    let containers = figures.containers.iter();
    let containers: Vec<_> = containers
        .map(|(state, count)| (format!("{{container_state=\"{state}\"}}"), *count as f64))
        .collect();
    let help = "Number of containers currently running";
    family("kubelet_running_containers", gauge, help, &containers);
    type Figure = fn(&Space) -> u64;
    let of_claims: [(&str, &str, Figure); 6] = [
        ("capacity_bytes", "Capacity in bytes of the volume", |s| {
            s.capacity_bytes
        }),
        (
            "available_bytes",
            "Number of available bytes in the volume",
            |s| s.available_bytes,
        ),
        ("used_bytes", "Number of used bytes in the volume", |s| {
            s.used_bytes
        }),
        ("inodes", "Maximum number of inodes in the volume", |s| {
            s.inodes
        }),
        ("inodes_free", "Number of free inodes in the volume", |s| {
            s.inodes_free
        }),
        (
            "inodes_used",
            "Number of used inodes in the volume",
            Space::inodes_used,
        ),
    ];
    for (name, help, figure) in of_claims {
        // a claim that several pods have is told once
        let mut rows: Vec<(String, f64)> = figures
            .claims
            .iter()
            .map(|(pod, mounted, space)| {
                let (namespace, claim) = (&pod.namespace, &mounted.claim);
                let labels =
                    format!("{{namespace=\"{namespace}\",persistentvolumeclaim=\"{claim}\"}}");
                (labels, figure(space) as f64)
            })
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.dedup_by(|a, b| a.0 == b.0);
        family(&format!("kubelet_volume_stats_{name}"), gauge, help, &rows);
    }
    let process = &figures.process;
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            process.cpu_seconds,
        ),
        (
            "process_max_fds",
            gauge,
            "Maximum number of open file descriptors.",
            process.open_files_max,
        ),
        (
            "process_open_fds",
            gauge,
            "Number of open file descriptors.",
            process.open_files,
        ),
        (
            "process_resident_memory_bytes",
            gauge,
            "Resident memory size in bytes.",
            process.resident_bytes,
        ),
        (
            "process_start_time_seconds",
            gauge,
            "Start time of the process since unix epoch in seconds.",
            process.start_seconds,
        ),
        (
            "process_virtual_memory_bytes",
            gauge,
            "Virtual memory size in bytes.",
            process.virtual_bytes,
        ),
    ] {
        family(name, kind, help, &one(value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page() {
        let pod = |name: &str| PodName {
            namespace: "shop".into(),
            name: name.into(),
            uid: name.into(),
        };
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
        let claims = [
            (pod("a"), mounted.clone(), space),
            (pod("b"), mounted, space),
        ];
        let text = render(&Figures {
            node: "n",
            process: Process {
                open_files: Some(3.0),
                ..Process::default()
            },
            running_pods: 2,
            containers: &[("running", 4), ("exited", 1)],
            claims: &claims,
        });
        for line in [
            "kubelet_node_name{node=\"n\"} 1",
            "kubelet_running_pods 2",
            "kubelet_running_containers{container_state=\"running\"} 4",
            "kubelet_running_containers{container_state=\"exited\"} 1",
            "kubelet_volume_stats_capacity_bytes{namespace=\"shop\",persistentvolumeclaim=\"db\"} 100",
            "kubelet_volume_stats_inodes_used{namespace=\"shop\",persistentvolumeclaim=\"db\"} 3",
            "process_open_fds 3",
        ] {
            let count = text.lines().filter(|l| *l == line).count();
            assert_eq!(count, 1, "{line} in\n{text}");
        }
        assert!(
            !text.contains("process_max_fds"),
            "what is not known is not told"
        );
    }

    #[test]
    fn figures_of_a_process() {
        let stat = "7 (a b) c) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 4 0 200 1 1";
        let status = "Name:\ta\nVmSize:\t 10 kB\nVmRSS:\t  4 kB\n";
        let limits = "Limit Soft Hard Units\nMax open files            1024  4096 files\n";
        let process = Process::of(stat, status, limits, Some(1000));
        let expected = Process {
            cpu_seconds: Some(2.0),
            start_seconds: Some(1002.0),
            resident_bytes: Some(4096.0),
            virtual_bytes: Some(10240.0),
            open_files: None,
            open_files_max: Some(1024.0),
        };
        assert_eq!(process, expected);
        assert_eq!(Process::of("", "", "", None), Process::default());
        assert!(Process::read().cpu_seconds.is_some());
    }
}
