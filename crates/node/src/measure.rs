//! What runs here uses so much: CPU and memory of containers ([`samples`]), and of the machine; as kubelets tell it in
//! `/metrics/resource` ([`resource`]), `/metrics` ([`own`]) and `/stats/summary` ([`summary`]).

use jiff::Timestamp;

pub mod claims;
pub mod own;
pub mod resource;
pub mod samples;
pub mod summary;
pub mod traffic;

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

/// When the machine started, in seconds since 1970.
pub fn boot_seconds(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// Memory that is in use for anything. In bytes.
pub fn memory_not_free(meminfo: &str) -> Option<u64> {
    let (total, free) = (field(meminfo, "MemTotal")?, field(meminfo, "MemFree")?);
    Some(total.saturating_sub(free) * 1024)
}

/// All memory, and what of it can be had without swapping: the kernel's own estimate. In bytes.
pub fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let bytes = |name: &str| Some(field(meminfo, name)? * 1024);
    Some((bytes("MemTotal")?, bytes("MemAvailable")?))
}

fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
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
        assert_eq!(
            memory_not_free("MemTotal: 100 kB\nMemFree: 1 kB\n"),
            Some(99 * 1024)
        );
        assert_eq!(
            boot_seconds("cpu 1\nbtime 1700000000\n"),
            Some(1_700_000_000)
        );
    }
}
