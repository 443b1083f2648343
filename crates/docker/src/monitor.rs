//! What happens when a container ends: its sandbox goes, it is removed or started again as its configuration says.

use std::collections::BTreeSet;
use std::time::Duration;

use engine::Event;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::containers::{self, Container, lifecycle};
use crate::record::OWNER;
use crate::{Docker, health, names, runner};

const RESTART_MS: u64 = 100;
const RESTART_MS_MAX: u64 = 60_000;
/// A container that ran this long has recovered: its next restart comes quickly again.
const RECOVERED_S: i64 = 10;

/// Once, before requests are taken: removes what a daemon that was killed left half done.
pub async fn recover(docker: &Docker) {
    let (engine, network, images) = (
        &docker.inner.engine,
        &docker.inner.network,
        docker.inner.images.clone(),
    );
    for sandbox in engine.sandboxes().await {
        let owner = sandbox.spec.labels.get(OWNER.0).map(String::as_str);
        if owner == Some(runner::BUILD.1) {
            runner::clean(docker, &sandbox.id).await;
        }
        // of a container that was being made
        if owner == Some(OWNER.1)
            && engine.container(&sandbox.id).await.is_none()
            && let Err(error) = engine.remove_sandbox(&sandbox.id).await
        {
            tracing::warn!(%error, id = sandbox.id, "a sandbox without a container could not be removed");
        }
    }
    let mut known = BTreeSet::new();
    for sandbox in engine.sandboxes().await {
        known.insert(sandbox.id);
    }
    for id in network.attached() {
        if !known.contains(&id)
            && let Err(error) = network.detach(&id).await
        {
            tracing::warn!(%error, id, "the address of a container that is gone could not be released");
        }
    }
    let uploads = docker.inner.uploads.clone();
    let cleaned = tokio::task::spawn_blocking(move || {
        let _ = std::fs::remove_dir_all(uploads);
        for snapshot in images
            .snapshots()
            .into_iter()
            .filter(|snapshot| names::is_id(&snapshot.id) && !known.contains(&snapshot.id))
        {
            if let Err(error) = images.remove_snapshot(&snapshot.id) {
                tracing::warn!(%error, id = snapshot.id, "the files of a container that is gone could not be removed");
            }
        }
    });
    let _ = cleaned.await;
}

/// Follows the engine until `shutdown`.
pub async fn run(docker: Docker, shutdown: CancellationToken) {
    let mut events = docker.inner.engine.events();
    forget_stops(&docker).await;
    sweep(&docker).await;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.recv() => event,
        };
        match event {
            Ok(Event::ContainerStarted { id, .. }) => health::watch(&docker, &id).await,
            Ok(Event::ContainerExited { id, .. }) => {
                docker.inner.healths.ended(&id);
                settle(docker.clone(), id);
            }
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => sweep(&docker).await,
            Err(RecvError::Closed) => return,
        }
    }
}

/// Docker's rule: a container that is to run always starts with the daemon, also when somebody had stopped it; one that is to
/// run unless stopped does not.
async fn forget_stops(docker: &Docker) {
    for container in containers::all(docker).await {
        let mut record = container.record.clone();
        if container.running()
            || !record.stopped_by_user
            || record.host.restart_policy.name != "always"
        {
            continue;
        }
        record.stopped_by_user = false;
        if let Err(refusal) = containers::save(docker, container.id(), &record).await {
            tracing::warn!(
                id = container.id(),
                message = refusal.message,
                "a container that should always run stays stopped"
            );
        }
    }
}

/// What ended while nobody looked.
async fn sweep(docker: &Docker) {
    for container in containers::all(docker).await {
        if container.status.state == engine::State::Exited {
            settle(docker.clone(), container.id().to_owned());
        } else if container.running() && !docker.inner.healths.is_asked(container.id()) {
            health::watch(docker, container.id()).await;
        }
    }
}

fn settle(docker: Docker, id: String) {
    tokio::spawn(async move {
        let container = {
            let _turn = docker.inner.turns.of(&id).await;
            // someone may have started or removed it in the meantime
            let Ok(container) = containers::find(&docker, &id).await else {
                return;
            };
            if container.running() {
                return;
            }
            if container.record.host.auto_remove && !docker.inner.turns.is_restarting(&id) {
                if let Err(refusal) = lifecycle::remove_now(&docker, &id).await {
                    tracing::warn!(
                        id,
                        message = refusal.message,
                        "a container could not be removed after its end"
                    );
                } else {
                    lifecycle::remove_volumes(&docker, &container).await;
                }
                return;
            }
            lifecycle::release(&docker, &id).await;
            container
        };
        restart(&docker, &container).await;
    });
}

/// Starts a container again as its policy says; what prevents that, a full disk for instance, is outlived.
async fn restart(docker: &Docker, container: &Container) {
    let ran_s = match (&container.status.exit, container.status.started_at) {
        (Some(exit), Some(at)) => exit.finished_at.as_second().saturating_sub(at.as_second()),
        _ => 0,
    };
    let mut backoff = after_run(container.record.backoff, ran_s);
    let mut told = false;
    loop {
        tokio::time::sleep(delay(backoff)).await;
        let id = container.id();
        let _turn = docker.inner.turns.of(id).await;
        let Ok(mut now) = containers::find(docker, id).await else {
            return;
        };
        let Some(exit) = &now.status.exit else {
            return;
        };
        let record = &now.record;
        let wanted =
            record
                .host
                .restart_policy
                .applies(exit.code, record.restarts, record.stopped_by_user);
        if now.running() || !wanted {
            return;
        }
        backoff = backoff.saturating_add(1);
        now.record.restarts = now.record.restarts.saturating_add(1);
        now.record.backoff = backoff;
        let done = match containers::save(docker, id, &now.record).await {
            Ok(()) => lifecycle::start_now(docker, &now).await,
            Err(refusal) => Err(refusal),
        };
        let Err(refusal) = done else {
            return;
        };
        if !told {
            told = true;
            tracing::warn!(
                id,
                message = refusal.message,
                "a container could not be started again; more attempts follow"
            );
        }
    }
}

/// Short runs in a row, as a restart after this run counts them.
fn after_run(before: u32, ran_s: i64) -> u32 {
    if ran_s >= RECOVERED_S { 0 } else { before }
}

/// Twice as long each time.
fn delay(backoff: u32) -> Duration {
    Duration::from_millis((RESTART_MS << backoff.min(10)).min(RESTART_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_makes_restarts_quick_again() {
        let (mut backoff, mut waits) = (0, Vec::new());
        for ran_s in [0, 1, 0, 11, 0, 9] {
            backoff = after_run(backoff, ran_s);
            waits.push(delay(backoff).as_millis());
            backoff += 1;
        }
        assert_eq!(waits, [100, 200, 400, 100, 200, 400]);
        assert_eq!(delay(9), Duration::from_millis(51_200));
        assert_eq!(delay(u32::MAX), Duration::from_millis(60_000));
    }
}
