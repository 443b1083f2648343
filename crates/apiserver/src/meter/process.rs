//! What every program tells about its process: memory, processor time, open files, when it began. Read from /proc.

use std::fmt::Write as _;

/// Ticks of /proc's clocks in a second, on every Linux that is built for use.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends the numbers that can be had.
pub fn write(out: &mut String) {
    let mut tell = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            );
        }
    };
    let stat = std::fs::read_to_string("/proc/self/stat").ok();
    let stat = stat.as_deref().and_then(fields);
    let field = |at: usize| stat.as_ref()?.get(at)?.parse::<f64>().ok();
    let used = field(11)
        .zip(field(12))
        .map(|(user, system)| (user + system) / TICKS_PER_SECOND);
    tell(
        "process_cpu_seconds_total",
        "counter",
        "Processor time that this process has taken.",
        used,
    );
    tell(
        "process_virtual_memory_bytes",
        "gauge",
        "Address space of this process.",
        field(20),
    );
    let status = std::fs::read_to_string("/proc/self/status").ok();
    let resident = status
        .as_deref()
        .and_then(|text| line(text, "VmRSS:"))
        .map(|kib| kib * 1024.0);
    tell(
        "process_resident_memory_bytes",
        "gauge",
        "Memory of this process.",
        resident,
    );
    let files = std::fs::read_dir("/proc/self/fd")
        .ok()
        .map(|files| files.count() as f64);
    tell(
        "process_open_fds",
        "gauge",
        "Open files of this process.",
        files,
    );
    let limits = std::fs::read_to_string("/proc/self/limits").ok();
    let most = limits
        .as_deref()
        .and_then(|text| line(text, "Max open files"));
    tell(
        "process_max_fds",
        "gauge",
        "Files that this process may open.",
        most,
    );
    let boot = std::fs::read_to_string("/proc/stat").ok();
    let boot = boot.as_deref().and_then(|text| line(text, "btime"));
    let began = boot
        .zip(field(19))
        .map(|(boot, ticks)| boot + ticks / TICKS_PER_SECOND);
    tell(
        "process_start_time_seconds",
        "gauge",
        "When this process began, since the epoch.",
        began,
    );
}

/// The fields of /proc/PID/stat behind the name, which may hold anything, from the third on.
fn fields(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().collect())
}

/// The first number of the line that begins so.
fn line(text: &str, start: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(start))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_where_they_are_looked_for() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 5 0 12345 9999 77";
        let fields = fields(stat).expect("fields");
        assert_eq!(
            (fields[11], fields[12], fields[19], fields[20]),
            ("250", "150", "12345", "9999")
        );
        assert_eq!(line("a 1\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12.0));
        assert_eq!(line("a 1", "b"), None);
        let mut out = String::new();
        write(&mut out);
        for name in [
            "cpu_seconds_total",
            "resident_memory_bytes",
            "open_fds",
            "start_time_seconds",
        ] {
            assert!(out.contains(&format!("\nprocess_{name} ")), "{name}: {out}");
        }
    }
}
