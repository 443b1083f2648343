//! Bringing a pod up: sandbox and address, volumes, init containers in turn, then every container; again after they end.

use std::time::Duration;

use engine::{ContainerStatus, PublishedPort, SandboxNetwork, SandboxSpec, SandboxState, SandboxUpdate, State};
use image::Image;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::{Api, ResourceExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Probes, Wanted, Worker, restarts};
use crate::container::{self, label};
use crate::environment::{self, Sources};
use crate::{probe, resources, volumes};

const RETRY: Duration = Duration::from_secs(2);

impl Worker {
    /// One round towards a running pod.
    pub(super) async fn advance(&mut self) {
        if let Err(reason) = self.ensure_sandbox().await {
            self.fail("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {reason}"));
            return;
        }
        if self.volumes.is_none() {
            match volumes::prepare(&self.shared.client, &self.pod, &self.directory().join("volumes")).await {
                Ok(paths) => self.volumes = Some(paths),
                Err(error) => {
                    self.fail("FailedMount", error.to_string());
                    return;
                }
            }
        }
        let spec = self.pod.spec.clone().unwrap_or_default();
        let policy = spec.restart_policy.as_deref().unwrap_or("Always");
        let init_policy = if policy == "Always" { "OnFailure" } else { policy };
        for container in spec.init_containers.iter().flatten() {
            self.step(container, init_policy).await;
            let records = self.records().await;
            let done = records.get(&container.name).and_then(|attempts| attempts.last()).is_some_and(|last| {
                last.state == State::Exited && last.exit.as_ref().is_some_and(|exit| exit.code == 0)
            });
            if !done {
                return;
            }
        }
        for container in &spec.containers {
            self.step(container, policy).await;
        }
    }

    fn fail(&mut self, reason: &str, message: String) {
        self.shared.recorder.warning(&self.pod, None, reason, message);
        self.retry_at(Instant::now() + RETRY);
    }

    /// Looks at one container and does what is due.
    async fn step(&mut self, container: &Container, policy: &str) {
        let records = self.records().await;
        let attempts = records.get(&container.name).map(Vec::as_slice).unwrap_or_default();
        let step = match attempts.last() {
            None => Step::Start { restarts: 0, crashes: 0 },
            Some(last) if last.state == State::Created => {
                // an attempt that never ran, because the daemon ended or the start failed: made anew under the same number
                let crashes = crashes(last);
                self.drop_attempt(last).await;
                Step::Start { restarts: restarts(last), crashes }
            }
            Some(last) if last.state == State::Running => {
                self.watch_running(container, last);
                if self.probes.get(&last.id).is_some_and(|probes| probes.condemned) {
                    let grace = self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30).max(0);
                    let _ = self.shared.engine.stop_container(&last.id, None, Duration::from_secs(grace as u64)).await;
                    self.retry_at(Instant::now());
                }
                Step::Leave
            }
            Some(last) => {
                if let Some(probes) = self.probes.remove(&last.id) {
                    probes.stop.cancel();
                }
                let now = Timestamp::now();
                let finished = last.exit.as_ref().map_or(now, |exit| exit.finished_at);
                let ran_s = last.started_at.map_or(0, |started| finished.as_second() - started.as_second());
                let code = last.exit.as_ref().map_or(137, |exit| exit.code);
                after_exit(policy, code, ran_s, finished, restarts(last), crashes(last), now)
            }
        };
        match step {
            Step::Leave => {}
            Step::BackOff { until, seconds } => {
                let name = &container.name;
                let pod = format!("{}_{}({})", self.pod.name_any(), self.pod.namespace().unwrap_or_default(), self.uid);
                let attempt = self.attempts.entry(name.clone()).or_default();
                if attempt.waiting.as_ref().is_none_or(|(reason, _)| reason != "CrashLoopBackOff") {
                    let message = format!("back-off {seconds}s restarting failed container={name} pod={pod}");
                    attempt.waiting = Some(("CrashLoopBackOff".into(), message));
                    let event = format!("Back-off restarting failed container {name} in pod {pod}");
                    self.shared.recorder.warning(&self.pod, Some(name), "BackOff", event);
                }
                let left = until.as_millisecond().saturating_sub(Timestamp::now().as_millisecond()).max(0);
                self.retry_at(Instant::now() + Duration::from_millis(left as u64 + 5));
            }
            Step::Start { restarts, crashes } => {
                let due = self.attempts.get(&container.name).and_then(|attempt| attempt.retry_at);
                match due {
                    Some(due) if due > Instant::now() => self.retry_at(due),
                    _ => {
                        for old in attempts.iter().rev().skip(1) {
                            self.drop_attempt(old).await;
                        }
                        self.start(container, restarts, crashes).await;
                    }
                }
            }
        }
    }

    async fn drop_attempt(&self, attempt: &ContainerStatus) {
        if let Err(error) = self.shared.engine.remove_container(&attempt.id).await {
            tracing::warn!(%error, id = attempt.id, "an old container could not be removed");
            return;
        }
        let (images, id, log) = (self.shared.images.clone(), attempt.id.clone(), attempt.spec.log.path.clone());
        let _ = tokio::task::spawn_blocking(move || {
            if let Err(error) = images.remove_snapshot(&id) {
                tracing::warn!(%error, id, "an old snapshot could not be removed");
            }
            let _ = std::fs::remove_file(log);
        })
        .await;
    }

    async fn start(&mut self, container: &Container, restarts: i32, crashes: u32) {
        let Some(image) = self.image(container).await else { return };
        let shared = self.shared.clone();
        let Ok(_turn) = shared.starts.acquire().await else { return };
        let attempt = self.attempts.entry(container.name.clone()).or_default();
        attempt.image_id.clone_from(&image.id);
        let id = format!("{}-{restarts}-{}", container.name, self.uid);
        match self.try_start(container, &image, &id, restarts, crashes).await {
            Ok(status) => {
                let attempt = self.attempts.entry(container.name.clone()).or_default();
                (attempt.waiting, attempt.retry_at) = (None, None);
                self.shared.recorder.normal(&self.pod, Some(&container.name), "Created", format!("Container created: {}", container.name));
                self.shared.recorder.normal(&self.pod, Some(&container.name), "Started", format!("Container started: {}", container.name));
                self.watch_running(container, &status);
                self.post_start(container, &id).await;
            }
            Err((reason, message)) => {
                let first = self.attempts.get(&container.name).is_none_or(|a| a.waiting.as_ref().is_none_or(|w| w.1 != message));
                if first {
                    self.shared.recorder.warning(&self.pod, Some(&container.name), "Failed", format!("Error: {message}"));
                }
                let wait = Duration::from_secs((CRASH_BACKOFF_S << crashes.min(5)).min(CRASH_BACKOFF_S_MAX));
                let due = Instant::now() + if reason == "CreateContainerConfigError" { RETRY } else { wait };
                let attempt = self.attempts.entry(container.name.clone()).or_default();
                attempt.waiting = Some((reason.to_owned(), message));
                attempt.retry_at = Some(due);
                self.retry_at(due);
            }
        }
    }

    async fn post_start(&mut self, container: &Container, id: &str) {
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.clone()) else { return };
        if let Err(reason) = self.run_hook(id, &container.name, &hook).await {
            self.shared.recorder.warning(&self.pod, Some(&container.name), "FailedPostStartHook", format!("PostStartHook failed: {reason}"));
            let _ = self.shared.engine.stop_container(id, None, Duration::from_secs(2)).await;
        }
    }

    async fn try_start(
        &self,
        container: &Container,
        image: &Image,
        id: &str,
        restarts: i32,
        crashes: u32,
    ) -> Result<ContainerStatus, (&'static str, String)> {
        let shared = &self.shared;
        let config_error = |message: String| ("CreateContainerConfigError", message);
        let create_error = |message: String| ("CreateContainerError", message);
        let sources = self.sources(container).await.map_err(config_error)?;
        let environment =
            environment::environment(&self.pod, container, &sources).map_err(|e| config_error(e.to_string()))?;
        let entrypoint = image.config.entrypoint.clone().unwrap_or_default();
        let cmd = image.config.cmd.clone().unwrap_or_default();
        let argv = environment::command(container, &environment, &entrypoint, &cmd);
        if argv.is_empty() {
            return Err(create_error("no command specified: neither the container nor its image names one".to_owned()));
        }
        let volumes = self.volumes.clone().unwrap_or_default();
        let mounts = volumes::mounts(container, &volumes).map_err(config_error)?;
        let (images, of, snapshot) = (shared.images.clone(), image.clone(), id.to_owned());
        let rootfs = tokio::task::spawn_blocking(move || images.prepare(&of, &snapshot))
            .await
            .map_err(|e| create_error(e.to_string()))?
            .map_err(|e| create_error(e.to_string()))?;
        let spec = container::spec(
            &self.pod,
            container,
            container::Attempt {
                id: id.to_owned(),
                sandbox: self.sandbox_id(),
                restarts,
                crashes,
                rootfs,
                image,
                environment,
                argv,
                mounts,
                logs: container::log_directory(&shared.config.logs_dir, &self.pod),
                memory_capacity_bytes: shared.memory_capacity_bytes,
            },
        );
        if shared.engine.container(id).await.is_none() {
            shared.engine.create_container(spec).await.map_err(|e| create_error(e.to_string()))?;
        }
        shared.engine.start_container(id).await.map_err(|e| ("RunContainerError", e.to_string()))?;
        shared.engine.container(id).await.ok_or_else(|| create_error("it vanished while it started".to_owned()))
    }

    async fn sources(&self, container: &Container) -> Result<Sources, String> {
        let namespace = self.pod.namespace().unwrap_or_default();
        let (map_names, secret_names) = environment::references(container);
        let mut sources = Sources {
            services: self.shared.services.read().clone(),
            pod_ip: self.address.clone().unwrap_or_default(),
            host_ip: self.shared.config.address.to_string(),
            node_name: self.shared.config.name.clone(),
            node_cpu_milli: self.shared.cpu_capacity_milli,
            node_memory_bytes: i64::try_from(self.shared.memory_capacity_bytes).unwrap_or(i64::MAX),
            ..Sources::default()
        };
        let maps: Api<ConfigMap> = Api::namespaced(self.shared.client.clone(), &namespace);
        for name in map_names {
            if let Some(map) = maps.get_opt(&name).await.map_err(|e| e.to_string())? {
                sources.config_maps.insert(name, map);
            }
        }
        let secrets: Api<Secret> = Api::namespaced(self.shared.client.clone(), &namespace);
        for name in secret_names {
            if let Some(secret) = secrets.get_opt(&name).await.map_err(|e| e.to_string())? {
                sources.secrets.insert(name, secret);
            }
        }
        Ok(sources)
    }
}

fn crashes(status: &ContainerStatus) -> u32 {
    status.spec.labels.get(label::CRASHES).and_then(|text| text.parse().ok()).unwrap_or(0)
}

