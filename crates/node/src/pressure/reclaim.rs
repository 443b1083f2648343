//! What can be had back without taking anything from a pod that runs: the files and logs of containers that have ended.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::{ContainerStatus, Engine, State};
use image::Images;

use crate::container::{self, label};

/// Deletes what containers of pods that have ended wrote, and their logs; their records stay, so that the pods' statuses still tell
/// how they ended. Of a container that was started again the last end counts as part of what runs: its log stays, its files go.
/// Docker's containers are their users' and are left alone.
pub async fn reclaim_dead(engine: &Engine, images: &Images) {
    let mut files = Vec::new();
    let mut logs = Vec::new();
    for dead in dead(&engine.containers().await) {
        files.push(dead.id);
        logs.extend(dead.log);
    }
    let images = images.clone();
    let removing = tokio::task::spawn_blocking(move || {
        for id in files {
            if let Err(error) = images.remove_snapshot(&id) {
                tracing::warn!(%error, id, "what a dead container wrote could not be removed");
            }
        }
        logs.iter().for_each(|path| container::remove_log(path));
    });
    let _ = removing.await;
}

#[derive(Debug, PartialEq)]
struct Dead {
    id: String,
    /// Of a pod of which nothing runs any more.
    log: Option<PathBuf>,
}

fn dead(containers: &[ContainerStatus]) -> Vec<Dead> {
    let mut runs: BTreeMap<&str, bool> = BTreeMap::new();
    for status in containers {
        // one that was made and not started yet is about to run
        let alive = status.state != State::Exited;
        *runs.entry(&status.sandbox).or_default() |= alive;
    }
    let ended = containers.iter().filter(|status| {
        let ours = status.spec.labels.get(label::OWNER);
        status.state == State::Exited && ours.is_some_and(|owner| owner == label::OWNER_NODE)
    });
    ended
        .map(|status| Dead {
            id: status.id.clone(),
            log: (!runs[status.sandbox.as_str()]).then(|| status.spec.log.path.clone()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::{ContainerSpec, LogConfig};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_dead_are_those_of_pods_and_logs_stay_while_something_runs() {
        let container = |id: &str, sandbox: &str, state, ours: bool| {
            let owner = (label::OWNER.to_owned(), label::OWNER_NODE.to_owned());
            let spec = ContainerSpec {
                labels: ours.then_some(owner).into_iter().collect(),
                log: LogConfig {
                    path: format!("/logs/{id}").into(),
                    ..LogConfig::default()
                },
                ..ContainerSpec::default()
            };
            ContainerStatus {
                id: id.into(),
                sandbox: sandbox.into(),
                spec: Arc::new(spec),
                state,
                pid: None,
                paused: false,
                created_at: Timestamp::UNIX_EPOCH,
                started_at: None,
                exit: None,
            }
        };
        let found = dead(&[
            container("old", "running", State::Exited, true),
            container("new", "running", State::Running, true),
            container("done", "finished", State::Exited, true),
            container("next", "starting", State::Created, true),
            container("first", "starting", State::Exited, true),
            container("docker", "docker", State::Exited, false),
        ]);
        let told: Vec<(&str, bool)> = found
            .iter()
            .map(|dead| (dead.id.as_str(), dead.log.is_some()))
            .collect();
        assert_eq!(told, [("old", false), ("done", true), ("first", false)]);
    }
}
