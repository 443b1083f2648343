//! Limits as values of cgroup files, for v1 and v2.

use crate::spec::Resources;
use std::path::{Path, PathBuf};

const PERIOD_US_DEFAULT: u64 = 100_000;
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
const WEIGHT_MIN: u64 = 1;
const WEIGHT_MAX: u64 = 10_000;

/// Directory, file name and value of each limit, in the order in which they must be written.
pub(super) fn files(
    resources: &Resources,
    unified: bool,
    dir_of: impl Fn(&str) -> Option<PathBuf>,
) -> Vec<(PathBuf, &'static str, String)> {
    let wanted = if unified {
        v2(resources)
    } else {
        v1(resources)
    };
    wanted
        .into_iter()
        .filter_map(|(controller, file, value)| Some((dir_of(controller)?, file, value)))
        .collect()
}

/// Whether a kernel may do without this file and the limit still holds: without swap accounting there is no swap either, and
/// without `memory.oom.group` (before 4.19) one process is killed instead of all.
pub(super) fn may_be_missing(file: &Path) -> bool {
    file.file_name()
        .is_some_and(|name| name == MEMORY_AND_SWAP || name == SWAP || name == OOM_GROUP)
}

const MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";
const SWAP: &str = "memory.swap.max";
const OOM_GROUP: &str = "memory.oom.group";

type Wanted = Vec<(&'static str, &'static str, String)>;

fn v1(resources: &Resources) -> Wanted {
    let mut wanted: Wanted = Vec::new();
    if let Some(shares) = resources.cpu_shares.filter(|shares| *shares > 0) {
        wanted.push((
            "cpu",
            "cpu.shares",
            shares.clamp(SHARES_MIN, SHARES_MAX).to_string(),
        ));
    }
    if let Some(quota) = resources.cpu_quota_us {
        wanted.push(("cpu", "cpu.cfs_period_us", period(resources).to_string()));
        wanted.push((
            "cpu",
            "cpu.cfs_quota_us",
            if quota <= 0 {
                "-1".into()
            } else {
                quota.max(1000).to_string()
            },
        ));
    }
    if let Some(limit) = resources.memory_limit_bytes.filter(|limit| *limit > 0) {
        // Memory and swap together may not be below memory at any moment: open it, then close both.
        wanted.push(("memory", MEMORY_AND_SWAP, "-1".into()));
        wanted.push(("memory", "memory.limit_in_bytes", limit.to_string()));
        wanted.push(("memory", MEMORY_AND_SWAP, limit.to_string()));
    }
    if let Some(limit) = resources.pids_limit {
        wanted.push(("pids", "pids.max", max_or(limit)));
    }
    if let Some(cpus) = &resources.cpuset {
        wanted.push(("cpuset", "cpuset.cpus", cpus.clone()));
    }
    wanted
}

fn v2(resources: &Resources) -> Wanted {
    let mut wanted: Wanted = Vec::new();
    if let Some(shares) = resources.cpu_shares.filter(|shares| *shares > 0) {
        wanted.push(("cpu", "cpu.weight", weight_of_shares(shares).to_string()));
    }
    if let Some(quota) = resources.cpu_quota_us {
        let quota = if quota <= 0 {
            "max".into()
        } else {
            quota.max(1000).to_string()
        };
        wanted.push(("cpu", "cpu.max", format!("{quota} {}", period(resources))));
    }
    if let Some(limit) = resources.memory_limit_bytes.filter(|limit| *limit > 0) {
        wanted.push(("memory", "memory.max", limit.to_string()));
        wanted.push(("memory", SWAP, "0".into()));
    }
    if resources.memory_oom_group {
        wanted.push(("memory", OOM_GROUP, "1".into()));
    }
    if let Some(limit) = resources.pids_limit {
        wanted.push(("pids", "pids.max", max_or(limit)));
    }
    if let Some(cpus) = &resources.cpuset {
        wanted.push(("cpuset", "cpuset.cpus", cpus.clone()));
    }
    wanted
}

/// v1 shares (2 to 262144) as a v2 weight (1 to 10000), so that the least, the default (1024 and 100) and the most of the one
/// become those of the other: 10^(L²/612 + 125·L/612 − 7/34), L = log₂(shares), rounded up. As runc from 1.3.2 and crun from 1.23
/// (kubernetes.io/blog, "New conversion from cgroup v1 CPU shares to v2 CPU weight").
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= SHARES_MIN {
        return WEIGHT_MIN;
    }
    if shares >= SHARES_MAX {
        return WEIGHT_MAX;
    }
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    // what is whole but for the arithmetic's last bit is not rounded up
    (10f64.powf(exponent) - 1e-9).ceil() as u64
}

fn period(resources: &Resources) -> u64 {
    resources
        .cpu_period_us
        .filter(|period| *period > 0)
        .unwrap_or(PERIOD_US_DEFAULT)
        .clamp(1000, 1_000_000)
}

fn max_or(limit: i64) -> String {
    if limit <= 0 {
        "max".into()
    } else {
        limit.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(resources: &Resources, unified: bool) -> String {
        let dir_of = |controller: &str| (controller != "cpuset").then(|| PathBuf::from(controller));
        let lines = files(resources, unified, dir_of)
            .into_iter()
            .map(|(dir, file, value)| format!("{}/{file}={value}", dir.display()));
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn limits_become_files() {
        let all = Resources {
            cpu_shares: Some(512),
            cpu_quota_us: Some(50_000),
            cpu_period_us: None,
            memory_limit_bytes: Some(64 << 20),
            memory_oom_group: true,
            pids_limit: Some(10),
            cpuset: Some("0".into()),
        };
        let none = Resources {
            cpu_quota_us: Some(0),
            memory_limit_bytes: Some(0),
            pids_limit: Some(-1),
            ..Resources::default()
        };
        let rows = [
            (
                &all,
                false,
                "cpu/cpu.shares=512 cpu/cpu.cfs_period_us=100000 cpu/cpu.cfs_quota_us=50000 \
                memory/memory.memsw.limit_in_bytes=-1 memory/memory.limit_in_bytes=67108864 memory/memory.memsw.limit_in_bytes=67108864 \
                pids/pids.max=10",
            ),
            (
                &all,
                true,
                "cpu/cpu.weight=59 cpu/cpu.max=50000 100000 memory/memory.max=67108864 memory/memory.swap.max=0 memory/memory.oom.group=1 pids/pids.max=10",
            ),
            (
                &none,
                false,
                "cpu/cpu.cfs_period_us=100000 cpu/cpu.cfs_quota_us=-1 pids/pids.max=max",
            ),
            (&none, true, "cpu/cpu.max=max 100000 pids/pids.max=max"),
        ];
        for (resources, unified, expected) in rows {
            assert_eq!(text(resources, unified), expected);
        }
    }

    #[test]
    fn weights_cover_the_whole_range() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (3, 2),
            (102, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }
}
