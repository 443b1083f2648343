//! Counters read from a group's files.

use super::Cgroups;
use crate::error::Error;
use crate::status::Stats;
use jiff::Timestamp;
use std::fs;
use std::path::Path;

impl Cgroups {
    /// Reads the group's counters; an error when there is no such group. Counters of missing controllers are zero.
    pub fn stats(&self, path: &str) -> Result<Stats, Error> {
        if self.unified() {
            self.stats_v2(path)
        } else {
            self.stats_v1(path)
        }
    }

    fn stats_v1(&self, path: &str) -> Result<Stats, Error> {
        let dir = |controller| self.dir_of(controller, path).unwrap_or_default();
        let (memory, cpu) = (dir("memory"), dir("cpu"));
        let usage_file = dir("cpuacct").join("cpuacct.usage");
        let cpu_usage_ns = required(&usage_file)?;
        let memory_usage_bytes = number(&memory.join("memory.usage_in_bytes"));
        let inactive = field(&memory.join("memory.stat"), "total_inactive_file");
        let limit = number(&memory.join("memory.limit_in_bytes"));
        let throttling = cpu.join("cpu.stat");
        Ok(Stats {
            at: Timestamp::now(),
            cpu_usage_ns,
            memory_usage_bytes,
            memory_working_set_bytes: memory_usage_bytes.saturating_sub(inactive),
            // "No limit" is the largest number of whole pages.
            memory_limit_bytes: (limit > 0 && limit < (1 << 62)).then_some(limit),
            pids: number(&dir("pids").join("pids.current")),
            periods: field(&throttling, "nr_periods"),
            throttled_periods: field(&throttling, "nr_throttled"),
            throttled_ns: field(&throttling, "throttled_time"),
            oom_kills: self.oom_kills(path),
        })
    }

    fn stats_v2(&self, path: &str) -> Result<Stats, Error> {
        let dir = self.hierarchies[0].dir(path);
        let cpu = dir.join("cpu.stat");
        let text = fs::read_to_string(&cpu).map_err(|error| Error::io("read", &cpu, error))?;
        let memory_usage_bytes = number(&dir.join("memory.current"));
        let inactive = field(&dir.join("memory.stat"), "inactive_file");
        Ok(Stats {
            at: Timestamp::now(),
            cpu_usage_ns: field_of(&text, "usage_usec") * 1000,
            memory_usage_bytes,
            memory_working_set_bytes: memory_usage_bytes.saturating_sub(inactive),
            memory_limit_bytes: fs::read_to_string(dir.join("memory.max"))
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            pids: number(&dir.join("pids.current")),
            periods: field_of(&text, "nr_periods"),
            throttled_periods: field_of(&text, "nr_throttled"),
            throttled_ns: field_of(&text, "throttled_usec") * 1000,
            oom_kills: self.oom_kills(path),
        })
    }

    /// How many processes of the group the kernel killed for memory.
    pub fn oom_kills(&self, path: &str) -> u64 {
        let file = if self.unified() {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        self.dir_of("memory", path)
            .map_or(0, |dir| field(&dir.join(file), "oom_kill"))
    }
}

fn required(path: &Path) -> Result<u64, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::io("read", path, error))?;
    Ok(text.trim().parse().unwrap_or(0))
}

fn number(path: &Path) -> u64 {
    required(path).unwrap_or(0)
}

fn field(path: &Path, name: &str) -> u64 {
    field_of(&fs::read_to_string(path).unwrap_or_default(), name)
}

fn field_of(text: &str, name: &str) -> u64 {
    let value = |line: &str| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    };
    text.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_whole_words() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\nbad x\n";
        for (name, value) in [
            ("oom_kill", 3),
            ("under_oom", 0),
            ("bad", 0),
            ("oom", 0),
            ("absent", 0),
        ] {
            assert_eq!(field_of(text, name), value, "{name}");
        }
    }
}
