//! Bringing a pod up: sandbox and address, volumes, init containers in turn, then every container; again after they end.

use std::collections::HashMap;
use std::time::Duration;

use engine::{ContainerStatus, State};
use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use kube::ResourceExt;
use tokio::time::Instant;

use super::restart::{Ended, Step, after_exit, backoff_s, comes_again, starts_again};
use super::{Worker, restarts, sandboxes};
use crate::confinement;
use crate::container::{self, label};
use crate::ending::{self, note};

const RETRY: Duration = Duration::from_secs(2);

pub(super) type Records = HashMap<String, Vec<ContainerStatus>>;

impl Worker {
    /// One round towards a running pod.
    pub(super) async fn advance(&mut self) {
        let begun = Instant::now();
        if let Err(reason) = self.ensure_sandbox().await {
            self.fail(
                "FailedCreatePodSandBox",
                format!("Failed to create pod sandbox: {reason}"),
            );
            return;
        }
        if !self.ensure_volumes().await {
            return;
        }
        tracing::debug!(
            pod = self.pod.name_any(),
            ms = begun.elapsed().as_millis() as u64,
            "sandbox and volumes are there"
        );
        let spec = self.pod.spec.clone().unwrap_or_default();
        let policy = spec.restart_policy.as_deref().unwrap_or("Always");
        let init_policy = if policy == "Always" {
            "OnFailure"
        } else {
            policy
        };
        self.begin_resizing(&spec).await;
        for container in container::ephemeral(&self.pod) {
            // once, whatever the pod's policy
            self.step(&container, "Never").await;
        }
        for container in spec.init_containers.iter().flatten() {
            let sidecar = container::is_sidecar(container);
            if !sidecar {
                self.forget_preparation(container, init_policy).await;
            }
            self.step(container, if sidecar { "Always" } else { init_policy })
                .await;
            let records = self.records().await;
            let last = last_of(&records, &container.name);
            let done = if sidecar {
                last.is_some_and(|last| {
                    self.probes
                        .get(&last.id)
                        .is_some_and(|probes| probes.started)
                })
            } else {
                last.and_then(ending::code)
                    .is_some_and(|(code, _)| code == 0)
            };
            // a sidecar that starts again later does not hold up what runs beside it
            let begun = |one: &Container| {
                let last = last_of(&records, &one.name);
                last.is_some_and(|last| sandboxes(last) == self.sandboxes)
            };
            if !done && !spec.containers.iter().any(begun) {
                return;
            }
        }
        for container in &spec.containers {
            self.step(container, policy).await;
        }
        self.end_resizing(&spec).await;
    }

    /// What an init container prepared is gone with the sandbox that it ran in: it runs once more, as after a failure.
    async fn forget_preparation(&mut self, container: &Container, policy: &str) {
        let records = self.records().await;
        let Some(last) = last_of(&records, &container.name) else {
            return;
        };
        let prepared = ending::code(last).is_some_and(|(code, _)| code == 0);
        if let Some(due) = self.held_until(container) {
            self.retry_at(due);
        } else if prepared && sandboxes(last) != self.sandboxes {
            let restarts = restarts(last).saturating_add(1);
            let attempts = records.get(&container.name).into_iter().flatten();
            for old in attempts.rev().skip(1) {
                self.drop_attempt(old).await;
            }
            self.start(container, policy, restarts, 0).await;
        }
    }

    fn fail(&mut self, reason: &str, message: String) {
        self.shared
            .recorder
            .warning(&self.pod, None, reason, message);
        self.retry_at(Instant::now() + RETRY);
    }

    /// Looks at one container and does what is due.
    async fn step(&mut self, container: &Container, policy: &str) {
        let records = self.records().await;
        let attempts = records
            .get(&container.name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let stopped = match attempts.last() {
            Some(last) if last.state == State::Running => self.follow(container, last).await,
            _ => false,
        };
        let step = match attempts.last() {
            None => Step::Start {
                restarts: 0,
                crashes: 0,
            },
            Some(last) if stopped => {
                // whatever the policy says of containers that end
                Step::Start {
                    restarts: restarts(last).saturating_add(1),
                    crashes: 0,
                }
            }
            Some(last) if last.state == State::Running => {
                self.watch_running(container, last);
                let condemned = self
                    .probes
                    .get(&last.id)
                    .and_then(|probes| probes.condemned.inspect(|_| probes.stop.cancel()));
                if let Some(grace) = condemned {
                    self.note_condemned(last).await;
                    if container.readiness_probe.is_some() {
                        // it is asked no more, and would be sent requests until its end
                        if let Some(probes) = self.probes.get_mut(&last.id) {
                            probes.ready = false;
                        }
                        self.report().await;
                    }
                    tokio::select! {
                        () = self.stop_one(&last.id, &container.name, grace.unwrap_or(self.grace())) => {}
                        () = self.interrupted() => {}
                    }
                    self.retry_at(Instant::now() + Duration::from_millis(1));
                }
                Step::Leave
            }
            Some(last) => match ending::code(last) {
                None => {
                    // an attempt that never ran, because the daemon ended meanwhile: made anew under the same number
                    self.drop_attempt(last).await;
                    Step::Start {
                        restarts: restarts(last),
                        crashes: crashes(last),
                    }
                }
                Some((code, finished)) => {
                    if let Some(probes) = self.probes.remove(&last.id) {
                        probes.stop.cancel();
                    }
                    let ended = Ended {
                        started: last.started_at,
                        finished,
                        restarts: restarts(last),
                        // that the machine went down is not the container's fault, and another image has not crashed yet
                        crashes: if last.exit.as_ref().is_some_and(|exit| exit.lost)
                            || is_of_another_image(container, last)
                        {
                            0
                        } else {
                            crashes(last)
                        },
                    };
                    after_exit(
                        comes_again(container, policy, last, code),
                        &ended,
                        Timestamp::now(),
                    )
                }
            },
        };
        match step {
            Step::Leave => {}
            Step::BackOff { until, seconds } => self.back_off(container, until, seconds),
            Step::Start { restarts, crashes } => {
                if self.interrupted().now_or_never().is_some() {
                    // it ends: nothing begins any more
                    return;
                }
                match self.held_until(container) {
                    Some(due) => self.retry_at(due),
                    None => {
                        for old in attempts.iter().rev().skip(1) {
                            self.drop_attempt(old).await;
                        }
                        self.start(container, policy, restarts, crashes).await;
                    }
                }
            }
        }
    }

    /// A probe wants the container to start anew: remembered before it is asked to end, because its exit code does not tell.
    async fn note_condemned(&self, last: &ContainerStatus) {
        let mut notes = last.spec.annotations.clone();
        notes.insert(note::CONDEMNED.to_owned(), "true".to_owned());
        if let Err(error) = self.shared.engine.set_annotations(&last.id, notes).await {
            tracing::warn!(%error, id = last.id, "it could not be recorded that a probe ended a container");
        }
    }

    fn back_off(&mut self, container: &Container, until: Timestamp, seconds: u64) {
        let name = &container.name;
        let pod = format!(
            "{}_{}({})",
            self.pod.name_any(),
            self.pod.namespace().unwrap_or_default(),
            self.uid
        );
        let attempt = self.attempts.entry(name.clone()).or_default();
        if attempt
            .waiting
            .as_ref()
            .is_none_or(|(reason, _)| reason != "CrashLoopBackOff")
        {
            let message = format!(
                "back-off {} restarting failed container={name} pod={pod}",
                go_duration(seconds)
            );
            attempt.waiting = Some(("CrashLoopBackOff".into(), message));
            let event = format!("Back-off restarting failed container {name} in pod {pod}");
            self.shared
                .recorder
                .warning(&self.pod, Some(name), "BackOff", event);
        }
        let left = until
            .as_millisecond()
            .saturating_sub(Timestamp::now().as_millisecond())
            .max(0);
        self.retry_at(Instant::now() + Duration::from_millis(left as u64 + 5));
    }

    async fn drop_attempt(&mut self, attempt: &ContainerStatus) {
        if let Err(error) = self.shared.engine.remove_container(&attempt.id).await {
            tracing::warn!(%error, id = attempt.id, "an old container could not be removed");
            return;
        }
        self.ids.remove(&attempt.id);
        let (images, id, log) = (
            self.shared.images.clone(),
            attempt.id.clone(),
            attempt.spec.log.path.clone(),
        );
        let message = attempt.spec.annotations.get(note::MESSAGE_FILE).cloned();
        let _ = tokio::task::spawn_blocking(move || {
            if let Err(error) = images.remove_snapshot(&id) {
                tracing::warn!(%error, id, "an old snapshot could not be removed");
            }
            container::remove_log(&log);
            if let Some(message) = message {
                let _ = std::fs::remove_file(message);
            }
        })
        .await;
    }

    async fn start(&mut self, container: &Container, policy: &str, restarts: i32, crashes: u32) {
        let Some(image) = self.image(container).await else {
            return;
        };
        let shared = self.shared.clone();
        let turn = tokio::select! {
            biased;
            () = self.interrupted() => return,
            turn = shared.starts.acquire() => turn,
        };
        let Ok(turn) = turn else {
            return;
        };
        let name = container.name.clone();
        self.attempts
            .entry(name.clone())
            .or_default()
            .image_id
            .clone_from(&image.id);
        let id = container::attempt_id(&self.uid, &name, restarts);
        let outcome = self
            .try_start(container, &image, &id, restarts, crashes)
            .await;
        // hooks take as long as they like; nobody else waits for them
        drop(turn);
        match outcome {
            Ok(status) => {
                let attempt = self.attempts.entry(name.clone()).or_default();
                (attempt.waiting, attempt.retry_at, attempt.lacking) = (None, None, None);
                shared.recorder.normal(
                    &self.pod,
                    Some(&name),
                    "Created",
                    format!("Container created: {name}"),
                );
                shared.recorder.normal(
                    &self.pod,
                    Some(&name),
                    "Started",
                    format!("Container started: {name}"),
                );
                // it is asked how it is once its hook has ended
                self.post_start(container, &id).await;
                let now = shared.engine.container(&id).await;
                if now.is_some_and(|now| now.state == State::Running) {
                    self.watch_running(container, &status);
                }
            }
            Err((reason, message)) => {
                let attempt = self.attempts.entry(name.clone()).or_default();
                let first = attempt
                    .waiting
                    .as_ref()
                    .is_none_or(|waiting| waiting.1 != message);
                if reason == "RunContainerError" {
                    // the record tells how it went: the next round treats it as a container that ended
                    attempt.waiting = starts_again(container, policy, 1)
                        .then(|| (reason.to_owned(), message.clone()));
                    self.retry_at(Instant::now() + Duration::from_millis(1));
                } else {
                    let wait = if reason == "CreateContainerConfigError" {
                        RETRY
                    } else {
                        Duration::from_secs(backoff_s(crashes))
                    };
                    let due = Instant::now() + wait;
                    attempt.waiting = Some((reason.to_owned(), message.clone()));
                    (attempt.retry_at, attempt.lacking) = (Some(due), None);
                    self.retry_at(due);
                }
                if first {
                    shared.recorder.warning(
                        &self.pod,
                        Some(&name),
                        "Failed",
                        format!("Error: {message}"),
                    );
                }
            }
        }
    }

    async fn post_start(&mut self, container: &Container, id: &str) {
        let Some(hook) = container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.post_start.clone())
        else {
            return;
        };
        let outcome = tokio::select! {
            outcome = self.run_hook(id, &container.name, &hook) => outcome,
            () = self.interrupted() => return,
        };
        if let Err(reason) = outcome {
            let message = format!("PostStartHook failed: {reason}");
            self.shared.recorder.warning(
                &self.pod,
                Some(&container.name),
                "FailedPostStartHook",
                message,
            );
            let event = "FailedPostStartHook";
            self.shared
                .recorder
                .normal(&self.pod, Some(&container.name), "Killing", event);
            tokio::select! {
                () = self.stop_one(id, &container.name, self.grace()) => {}
                () = self.interrupted() => {}
            }
        }
    }

    /// The running container whose processes an ephemeral one wants to see; empty if it names none.
    async fn target(&self, name: &str) -> Result<String, String> {
        let Some(target) = container::target_of(&self.pod, name) else {
            return Ok(String::new());
        };
        let records = self.records().await;
        last_of(&records, target)
            .filter(|last| last.state == State::Running)
            .map(|last| last.id.clone())
            .ok_or_else(|| format!("the target container {target:?} does not run"))
    }

    async fn try_start(
        &mut self,
        container: &Container,
        image: &image::Image,
        id: &str,
        restarts: i32,
        crashes: u32,
    ) -> Result<ContainerStatus, (&'static str, String)> {
        let begun = Instant::now();
        let shared = self.shared.clone();
        let create_error = |message: String| ("CreateContainerError", message);
        // from here on there is something to remove, whatever fails
        self.ids.insert(id.to_owned());
        let (images, of, snapshot) = (shared.images.clone(), image.clone(), id.to_owned());
        let sandbox = shared.engine.sandbox(&self.sandbox_id()).await;
        let owners = sandbox.and_then(|sandbox| sandbox.user_namespace);
        let preparing = tokio::task::spawn_blocking(move || match owners {
            Some(namespace) => {
                let owners = image::Owners {
                    first_id: namespace.first_id,
                    user_namespace: namespace.path,
                };
                images.prepare_owned(&of, &snapshot, &owners)
            }
            None => images.prepare(&of, &snapshot),
        });
        let described = self.describe(container, image, restarts).await;
        let rootfs = preparing
            .await
            .map_err(|e| create_error(e.to_string()))?
            .map_err(|e| create_error(e.to_string()))?;
        let (environment, argv, mounts, message_file) = described?;
        let seccomp = confinement::seccomp(&self.pod, container, &shared.config.seccomp_dir)
            .map_err(create_error)?;
        let app_armor_profile =
            confinement::app_armor::profile(&self.pod, container, engine::app_armor_profile_loaded)
                .map_err(create_error)?;
        let processes_of = self.target(&container.name).await.map_err(create_error)?;
        let spec = container::spec(
            &self.pod,
            container,
            container::Attempt {
                id: id.to_owned(),
                sandbox: self.sandbox_id(),
                processes_of,
                restarts,
                crashes,
                sandboxes: self.sandboxes,
                rootfs,
                image,
                environment,
                argv,
                mounts,
                annotations: ending::notes(container, &message_file),
                logs: container::log_directory(&shared.config.logs_dir, &self.pod),
                seccomp,
                app_armor_profile,
                memory_capacity_bytes: shared.memory_capacity_bytes,
                oom_score: shared.oom_score,
            },
        );
        let notes = spec.annotations.clone();
        if shared.engine.container(id).await.is_none() {
            shared
                .engine
                .create_container(spec)
                .await
                .map_err(|e| create_error(e.to_string()))?;
        }
        let prepared = begun.elapsed();
        if let Err(error) = shared.engine.start_container(id).await {
            let message = match &error {
                engine::Error::Start { reason, .. } => {
                    format!("failed to start container \"{}\": {reason}", container.name)
                }
                other => other.to_string(),
            };
            let mut notes = notes;
            notes.insert(note::START_ERROR.to_owned(), message.clone());
            notes.insert(
                note::START_FAILED_AT.to_owned(),
                Timestamp::now().to_string(),
            );
            if let Err(error) = shared.engine.set_annotations(id, notes).await {
                tracing::warn!(%error, id, "the failed start of a container could not be recorded");
            }
            return Err(("RunContainerError", message));
        }
        tracing::debug!(
            pod = self.pod.name_any(),
            prepared_ms = prepared.as_millis() as u64,
            started_ms = begun.elapsed().as_millis() as u64,
            "a container was started"
        );
        shared
            .engine
            .container(id)
            .await
            .ok_or_else(|| create_error("it vanished while it started".to_owned()))
    }
}

/// As Go prints whole seconds: `10s`, `1m20s`, `5m0s`.
fn go_duration(seconds: u64) -> String {
    if seconds < 60 {
        format!("{seconds}s")
    } else {
        format!("{}m{}s", seconds / 60, seconds % 60)
    }
}

/// Whether the container is to have another image than its last attempt had.
fn is_of_another_image(container: &Container, last: &ContainerStatus) -> bool {
    let had = last.spec.labels.get(label::IMAGE);
    had.is_some() && had != container.image.as_ref()
}

fn last_of<'a>(records: &'a Records, name: &str) -> Option<&'a ContainerStatus> {
    records.get(name).and_then(|attempts| attempts.last())
}

fn crashes(status: &ContainerStatus) -> u32 {
    status
        .spec
        .labels
        .get(label::CRASHES)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_as_go_prints_them() {
        for (seconds, want) in [(10, "10s"), (59, "59s"), (80, "1m20s"), (300, "5m0s")] {
            assert_eq!(super::go_duration(seconds), want);
        }
    }
}
