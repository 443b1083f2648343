//! `GET /containers/ID/stats` and `/top`.

use std::time::Duration;

use bytes::Bytes;
use engine::Stats;
use serde_json::{Value, json};

use super::{Container, find};
use crate::Docker;
use crate::query::Query;
use crate::reply::{Answer, Refusal, json_of, stream};

const PERIOD: Duration = Duration::from_secs(1);

pub async fn stats(docker: Docker, container: Container, query: &Query) -> Answer {
    let once = query.get("stream").is_some() && !query.flag("stream");
    if once {
        if !container.running() {
            return json_of(&nothing(&container));
        }
        let before = sample(&docker, container.id()).await?;
        if query.flag("one-shot") {
            return json_of(&render(&container, None, &before));
        }
        tokio::time::sleep(PERIOD).await;
        let now = sample(&docker, container.id()).await?;
        return json_of(&render(&container, Some(&before), &now));
    }
    let endless = futures::stream::unfold(
        (docker, container, None::<Sample>, false),
        async |(docker, container, before, later)| {
            if later {
                tokio::time::sleep(PERIOD).await;
            }
            // one that does not run has nothing to tell, and may run again
            let (shown, now) = match sample(&docker, container.id()).await {
                Ok(now) => (render(&container, before.as_ref(), &now), Some(now)),
                Err(_) => (nothing(&find(&docker, container.id()).await.ok()?), None),
            };
            let text = Bytes::from(format!("{shown}\n"));
            Some((text, (docker, container, now, true)))
        },
    );
    stream("application/json", endless)
}

/// Of a container that does not run.
fn nothing(container: &Container) -> Value {
    json!({ "id": container.id(), "name": format!("/{}", container.record.name) })
}

struct Sample {
    stats: Stats,
    system_ns: u64,
}

async fn sample(docker: &Docker, id: &str) -> Result<Sample, Refusal> {
    let stats = docker.inner.engine.stats(id).await?;
    let text = std::fs::read_to_string("/proc/stat")?;
    Ok(Sample {
        stats,
        system_ns: system_ns(&text),
    })
}

/// All time of all cores; the kernel counts in hundredths of a second.
fn system_ns(stat: &str) -> u64 {
    let fields = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8);
    fields
        .filter_map(|field| field.parse::<u64>().ok())
        .sum::<u64>()
        .saturating_mul(10_000_000)
}

fn render(container: &Container, before: Option<&Sample>, now: &Sample) -> Value {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu = |sample: Option<&Sample>| {
        json!({
            "cpu_usage": { "total_usage": sample.map_or(0, |s| s.stats.cpu_usage_ns), "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
            "system_cpu_usage": sample.map_or(0, |s| s.system_ns), "online_cpus": cores,
            "throttling_data": {
                "periods": sample.map_or(0, |s| s.stats.periods), "throttled_periods": sample.map_or(0, |s| s.stats.throttled_periods),
                "throttled_time": sample.map_or(0, |s| s.stats.throttled_ns),
            },
        })
    };
    let inactive = now
        .stats
        .memory_usage_bytes
        .saturating_sub(now.stats.memory_working_set_bytes);
    json!({
        "id": container.id(), "name": format!("/{}", container.record.name),
        "read": format!("{:.9}", now.stats.at), "preread": before.map_or("0001-01-01T00:00:00Z".into(), |s| format!("{:.9}", s.stats.at)),
        "pids_stats": { "current": now.stats.pids }, "num_procs": 0, "networks": {}, "blkio_stats": {}, "storage_stats": {},
        "cpu_stats": cpu(Some(now)), "precpu_stats": cpu(before),
        "memory_stats": {
            "usage": now.stats.memory_usage_bytes, "limit": now.stats.memory_limit_bytes.unwrap_or_else(machine_memory_bytes),
            "stats": { "inactive_file": inactive, "total_inactive_file": inactive },
        },
    })
}

fn machine_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Processes of the container, found by their pid namespace.
pub fn top(container: &Container) -> Answer {
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = container
        .status
        .pid
        .and_then(namespace)
        .filter(|_| container.running())
    else {
        return Err(Refusal::conflict(format!(
            "container {} is not running",
            container.id()
        )));
    };
    let mut rows: Vec<[String; 2]> = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if namespace(pid).as_ref() == Some(&own) {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = command
                .split(|b| *b == 0)
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>()
                .join(" ");
            rows.push([pid.to_string(), command.trim_end().to_owned()]);
        }
    }
    rows.sort();
    json_of(&json!({ "Titles": ["PID", "CMD"], "Processes": rows }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_of_all_cores() {
        assert_eq!(
            super::system_ns("cpu  1 2 3 4 0 0 0 0 0 0\ncpu0 1\n"),
            100_000_000
        );
        assert_eq!(super::system_ns(""), 0);
    }
}
