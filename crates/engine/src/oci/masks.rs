//! Files of the kernel that a container cannot read or write.

use std::path::Path;

/// What a container cannot read, as Docker masks it; the temperature counters of each CPU as well.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Directories of the CPUs, each of which may count how often it was throttled: what others do shows in it.
pub(super) const CPUS: &str = "/sys/devices/system/cpu";
/// What a container cannot write, as Docker has it, and its cgroup, which Docker mounts read-only.
pub(super) const READ_ONLY_PATHS: [&str; 6] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/sys/fs/cgroup",
];

/// What is covered in a container; `cpus` is [`CPUS`].
pub(super) fn unreadable(cpus: &Path) -> Vec<String> {
    let cpu = |name: String| {
        let number = name.strip_prefix("cpu")?;
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let counters = cpus.join(&name).join("thermal_throttle");
        (plain && counters.exists()).then(|| counters.to_string_lossy().into_owned())
    };
    let mut counters: Vec<String> = std::fs::read_dir(cpus)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| cpu(entry.file_name().into_string().ok()?))
        .collect();
    counters.sort();
    let mut paths: Vec<String> = MASKED_PATHS.iter().map(|path| (*path).to_owned()).collect();
    paths.extend(counters);
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_masks_is_masked() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-masked-")
            .tempdir()
            .expect("temp dir");
        for made in [
            "cpu0/thermal_throttle",
            "cpu12/thermal_throttle",
            "cpu1",
            "cpufreq/thermal_throttle",
        ] {
            std::fs::create_dir_all(dir.path().join(made)).expect("mkdir");
        }
        let prefix = dir.path().display().to_string();
        let paths = unreadable(dir.path());
        let paths: Vec<String> = paths.iter().map(|path| path.replace(&prefix, "")).collect();
        // daemon/pkg/oci/defaults.go of Docker 29.
        let expected = [
            "/proc/acpi",
            "/proc/asound",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/sys/devices/virtual/powercap",
            "/sys/firmware",
            "/cpu0/thermal_throttle",
            "/cpu12/thermal_throttle",
        ];
        assert_eq!(paths, expected);
        for read_only in [
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger",
        ] {
            assert!(READ_ONLY_PATHS.contains(&read_only), "{read_only}");
        }
    }
}
