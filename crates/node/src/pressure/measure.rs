//! What there is of everything that can run short, and what pods take of it.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{ContainerStatus, State};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

use super::admit;
use super::rank::{Candidate, Part, Usage};
use super::signal::{Observation, Observations, Signal};
use crate::container;
use crate::measure;
use crate::resources;
use crate::volumes;
use crate::worker::Shared;

/// Looks at everything once. What cannot be read is left out.
pub fn observe(shared: &Shared) -> Observations {
    let mut observed = Observations::new();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    if let Some((total, available)) = measure::memory(&read("/proc/meminfo")) {
        observed.insert(Signal::Memory, row(available, total));
    }
    if let Ok(stats) = shared.engine.sandboxes_stats()
        && let Some(limit) = stats.memory_limit_bytes
    {
        let available = whole(limit).saturating_sub(whole(stats.memory_working_set_bytes));
        let observation = Observation {
            available,
            capacity: whole(limit),
        };
        observed.insert(Signal::PodsMemory, observation);
    }
    let disks = [
        (
            shared.config.state_dir.as_path(),
            Signal::NodeFs,
            Signal::NodeFsInodes,
        ),
        (
            shared.images.directory(),
            Signal::ImageFs,
            Signal::ImageFsInodes,
        ),
    ];
    for (path, space, inodes) in disks {
        let Ok(stat) = rustix::fs::statvfs(path) else {
            continue;
        };
        let block = stat.f_frsize;
        let (available, all) = (stat.f_bavail * block, stat.f_blocks * block);
        observed.insert(space, row(available, all));
        // some file systems make inodes as they need them
        if stat.f_files > 0 {
            observed.insert(inodes, row(stat.f_favail, stat.f_files));
        }
    }
    if let Some((most, tasks)) = tasks_of_machine() {
        observed.insert(Signal::Pids, row(most.saturating_sub(tasks), most));
    }
    observed
}

/// How many tasks the machine may have, and has.
pub fn tasks_of_machine() -> Option<(u64, u64)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let least = limits
        .iter()
        .filter_map(|path| read(path).trim().parse::<u64>().ok())
        .min();
    Some((least?, tasks(&read("/proc/loadavg"))?))
}

/// Whether images have a file system of their own.
pub fn images_are_apart(shared: &Shared) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|data| data.dev()).ok();
    device(&shared.config.state_dir) != device(shared.images.directory())
}

/// What each of the pods takes. `disks`: also of the disk, which means to walk through their files.
pub async fn candidates(shared: &Arc<Shared>, pods: &[Arc<Pod>], disks: bool) -> Vec<Candidate> {
    let mut containers: HashMap<String, Vec<ContainerStatus>> = HashMap::new();
    for status in shared.engine.containers().await {
        containers
            .entry(status.sandbox.clone())
            .or_default()
            .push(status);
    }
    let mut candidates = Vec::new();
    for pod in pods {
        let uid = pod.uid().unwrap_or_default();
        let of_pod = containers.remove(&uid).unwrap_or_default();
        candidates.push(candidate(shared, pod, &of_pod, disks).await);
    }
    candidates
}

async fn candidate(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    containers: &[ContainerStatus],
    disks: bool,
) -> Candidate {
    let uid = pod.uid().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let mut usage = None;
    if let Ok(stats) = shared.engine.sandbox_stats(&uid).await {
        usage = Some(Usage {
            memory_bytes: whole(stats.memory_working_set_bytes),
            pids: whole(stats.pids),
            ..Usage::default()
        });
    }
    let mut parts = Vec::new();
    let all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    for container in all {
        let mut part = part(container);
        let mut roots = Vec::new();
        for status in containers
            .iter()
            .filter(|status| status.spec.name == container.name)
        {
            roots.push(root_of(shared, status));
            if status.state == State::Running
                && let Ok(stats) = shared.engine.stats(&status.id).await
            {
                part.usage.memory_bytes = whole(stats.memory_working_set_bytes);
            }
        }
        if disks {
            let logs = container::log_directory(&shared.config.logs_dir, pod);
            let walked = walk(roots, vec![logs.join(&container.name)]).await;
            add_disk(&mut part.usage, walked);
        }
        parts.push(part);
    }
    if disks && let Some(usage) = &mut usage {
        for part in &parts {
            let own = part.usage;
            add_disk(
                usage,
                [
                    (own.root_bytes, own.root_inodes),
                    (own.local_bytes, own.local_inodes),
                ],
            );
        }
        let directory = shared.config.state_dir.join("pods").join(&uid);
        add_disk(usage, walk(Vec::new(), vec![directory]).await);
    }
    Candidate {
        name: format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()),
        uid,
        priority: admit::priority(pod),
        is_static: admit::is_static(pod),
        memory_request_bytes: resources::pod_request(&spec, "memory"),
        disk_request_bytes: resources::pod_request(&spec, "ephemeral-storage"),
        usage,
        parts,
    }
}

fn part(container: &Container) -> Part {
    let request = |name: &str| resources::request(container, name).unwrap_or(0);
    let text = |name: &str| {
        let requests = container.resources.as_ref()?.requests.as_ref()?;
        Some(requests.get(name)?.0.clone())
    };
    Part {
        name: container.name.clone(),
        memory_request: text("memory").unwrap_or_default(),
        disk_request: text("ephemeral-storage").unwrap_or_default(),
        memory_request_bytes: request("memory"),
        disk_request_bytes: request("ephemeral-storage"),
        usage: Usage::default(),
    }
}

/// Where what a container writes lies.
fn root_of(shared: &Shared, status: &ContainerStatus) -> PathBuf {
    shared.images.snapshot_directory(&status.id).join("upper")
}

/// Bytes and inodes of both lists.
async fn walk(roots: Vec<PathBuf>, locals: Vec<PathBuf>) -> [(i64, i64); 2] {
    let walking = tokio::task::spawn_blocking(move || {
        [roots, locals].map(|paths| {
            let used = paths.iter().map(|path| volumes::usage(path));
            used.fold((0, 0), |sum: (i64, i64), (bytes, inodes)| {
                (
                    sum.0.saturating_add(whole(bytes)),
                    sum.1.saturating_add(whole(inodes)),
                )
            })
        })
    });
    walking.await.unwrap_or_default()
}

fn add_disk(usage: &mut Usage, [root, local]: [(i64, i64); 2]) {
    usage.root_bytes = usage.root_bytes.saturating_add(root.0);
    usage.root_inodes = usage.root_inodes.saturating_add(root.1);
    usage.local_bytes = usage.local_bytes.saturating_add(local.0);
    usage.local_inodes = usage.local_inodes.saturating_add(local.1);
}

fn row(available: u64, capacity: u64) -> Observation {
    Observation {
        available: whole(available),
        capacity: whole(capacity),
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Tasks of the machine: the second half of the fourth field.
fn tasks(loadavg: &str) -> Option<u64> {
    let field = loadavg.split_whitespace().nth(3)?;
    field.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_the_machine() {
        assert_eq!(tasks("0.20 0.18 0.12 1/80 11206\n"), Some(80));
        assert_eq!(tasks(""), None);
    }
}
