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

const CRASH_BACKOFF_S: u64 = 10;
const CRASH_BACKOFF_S_MAX: u64 = 300;
/// A container that ran this long has recovered: its next crash is its first.
const RECOVERED_S: i64 = 600;
const RETRY: Duration = Duration::from_secs(2);

/// What to do about a container.
#[derive(Debug, PartialEq)]
enum Step {
    Leave,
    Start { restarts: i32, crashes: u32 },
    /// Not before this moment.
    BackOff { until: Timestamp, seconds: u64 },
}

/// Whether and when a container that ended starts again.
fn after_exit(policy: &str, ended_code: i32, ran_s: i64, finished: Timestamp, restarts: i32, crashes: u32, now: Timestamp) -> Step {
    let again = match policy {
        "Always" => true,
        "OnFailure" => ended_code != 0,
        _ => false,
    };
    if !again {
        return Step::Leave;
    }
    let crashes = if ran_s >= RECOVERED_S { 0 } else { crashes };
    // the first restart comes at once, then 10 s, 20 s, 40 s, … as the kubelet has it
    let seconds = if crashes == 0 { 0 } else { (CRASH_BACKOFF_S << (crashes - 1).min(5)).min(CRASH_BACKOFF_S_MAX) };
    let until = Timestamp::from_second(finished.as_second().saturating_add(seconds as i64)).unwrap_or(finished);
    if seconds > 0 && now < until {
        return Step::BackOff { until, seconds };
    }
    Step::Start { restarts: restarts.saturating_add(1), crashes: crashes.saturating_add(1) }
}

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

    async fn ensure_sandbox(&mut self) -> Result<(), String> {
        let id = self.sandbox_id();
        let shared = self.shared.clone();
        let (engine, network) = (&shared.engine, &shared.network);
        let present = engine.sandbox(&id).await;
        if present.as_ref().is_some_and(|sandbox| sandbox.state == SandboxState::Running) && self.sandbox_ready {
            return Ok(());
        }
        let spec = self.pod.spec.clone().unwrap_or_default();
        if present.is_none() {
            let sandbox = SandboxSpec {
                id: id.clone(),
                hostname: container::hostname(&self.pod),
                labels: container::pod_labels(&self.pod),
                network: if self.host_network() { SandboxNetwork::Host } else { SandboxNetwork::Own },
                resources: resources::pod_resources(&spec),
                hosts: container::hosts(&self.pod, None, &shared.config.cluster_domain),
                resolv_conf: self.resolv_conf(),
                ..SandboxSpec::default()
            };
            engine.create_sandbox(sandbox).await.map_err(|e| e.to_string())?;
        }
        let started = match present {
            Some(sandbox) if sandbox.state == SandboxState::Running => sandbox,
            _ => {
                if !self.attempts.is_empty() {
                    self.shared.recorder.normal(&self.pod, None, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
                }
                engine.start_sandbox(&id).await.map_err(|e| e.to_string())?
            }
        };
        let address = if self.host_network() {
            shared.config.address.to_string()
        } else {
            let namespace = started.netns.ok_or("the sandbox has no network namespace")?;
            network.attach(&namespace, &id).await.map_err(|e| e.to_string())?.address.to_string()
        };
        let published = host_ports(&self.pod, &address);
        let update = SandboxUpdate {
            hosts: Some(container::hosts(&self.pod, Some(&address), &shared.config.cluster_domain)),
            resolv_conf: None,
            published: (!published.is_empty()).then(|| published.clone()),
        };
        engine.update_sandbox(&id, update).await.map_err(|e| e.to_string())?;
        if !published.is_empty() {
            network.set_published(&id, published.iter().filter_map(translated).collect()).await.map_err(|e| e.to_string())?;
        }
        self.address = Some(address);
        self.sandbox_ready = true;
        Ok(())
    }

    fn resolv_conf(&self) -> String {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let namespace = self.pod.namespace().unwrap_or_default();
        let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
        let cluster = policy == "ClusterFirstWithHostNet" || policy == "ClusterFirst" && !self.host_network();
        let mut text = match policy {
            "None" => String::new(),
            _ if cluster => self.shared.network.resolv_conf(Some(&namespace)),
            _ if self.host_network() => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
            _ => self.shared.network.resolv_conf(None),
        };
        if let Some(config) = spec.dns_config {
            for server in config.nameservers.unwrap_or_default() {
                text += &format!("nameserver {server}\n");
            }
            let searches = config.searches.unwrap_or_default();
            if !searches.is_empty() {
                text += &format!("search {}\n", searches.join(" "));
            }
            let options: Vec<String> = config
                .options
                .unwrap_or_default()
                .into_iter()
                .filter_map(|option| Some(option.value.map_or(option.name.clone()?, |value| format!("{}:{value}", option.name.unwrap_or_default()))))
                .collect();
            if !options.is_empty() {
                text += &format!("options {}\n", options.join(" "));
            }
        }
        text
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

    /// Starts the probes of a running container, once.
    fn watch_running(&mut self, container: &Container, status: &ContainerStatus) {
        if let Some(attempt) = self.attempts.get_mut(&container.name) {
            attempt.waiting = None;
        }
        let attempt = self.attempts.entry(container.name.clone()).or_default();
        attempt.id = Some(status.id.clone());
        if attempt.image_id.is_empty() {
            attempt.image_id = status.spec.labels.get(label::IMAGE_ID).cloned().unwrap_or_default();
        }
        let (startup, readiness, liveness) =
            (container.startup_probe.clone(), container.readiness_probe.clone(), container.liveness_probe.clone());
        // after a restart of the daemon, what was ready stays so until a probe says otherwise
        let known = self.pod.status.as_ref().and_then(|before| {
            let id = format!("plimsoll://{}", status.id);
            before.container_statuses.iter().flatten().find(|c| c.container_id.as_ref() == Some(&id)).cloned()
        });
        let probes = self.probes.entry(status.id.clone()).or_insert_with(|| Probes {
            ready: known.as_ref().is_some_and(|c| c.ready),
            started: known.as_ref().is_some_and(|c| c.started == Some(true)),
            ..Probes::default()
        });
        let target = |probe, kind| probe::Target {
            engine: self.shared.engine.clone(),
            container_id: status.id.clone(),
            container: container.clone(),
            probe,
            pod_ip: self.address.clone().unwrap_or_default(),
            kind,
        };
        let run = |target, stop: &CancellationToken| {
            tokio::spawn(probe::run(target, self.verdicts_in.clone(), stop.clone()));
        };
        if !probes.asked {
            probes.asked = true;
            match startup.filter(|_| !probes.started) {
                Some(probe) => run(target(probe, probe::Kind::Startup), &probes.stop),
                None => probes.started = true,
            }
        }
        if probes.started && !probes.settled {
            probes.settled = true;
            match readiness {
                Some(probe) => run(target(probe, probe::Kind::Readiness), &probes.stop),
                None => probes.ready = true,
            }
            if let Some(probe) = liveness {
                run(target(probe, probe::Kind::Liveness), &probes.stop);
            }
        }
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

    /// The image as the pull policy wants it, or `None` with the reason noted and a retry planned.
    async fn image(&mut self, container: &Container) -> Option<Image> {
        let reference = container.image.clone().unwrap_or_default();
        let policy = container.image_pull_policy.clone().unwrap_or_else(|| default_policy(&reference).to_owned());
        let name = container.name.clone();
        let present = self.shared.images.resolve(&reference);
        // a tag that was last set on this machine (built, loaded, tagged) is as fresh as it can be
        let usable = present.filter(|image| policy != "Always" || image.local);
        if let Some(image) = usable {
            let message = format!("Container image \"{reference}\" already present on machine");
            self.shared.recorder.normal(&self.pod, Some(&name), "Pulled", message);
            self.attempts.entry(name).or_default().pull_failures = 0;
            return Some(image);
        }
        let outcome = if policy == "Never" {
            let message = format!("Container image \"{reference}\" is not present with pull policy of Never");
            self.shared.recorder.warning(&self.pod, Some(&name), "ErrImageNeverPull", message.clone());
            Err(("ErrImageNeverPull", message))
        } else {
            self.shared.recorder.normal(&self.pod, Some(&name), "Pulling", format!("Pulling image \"{reference}\""));
            let began = Instant::now();
            self.note_waiting(&name, "ContainerCreating", "");
            self.report().await;
            let (images, mut wanted) = (self.shared.images.clone(), self.wanted.clone());
            let pull = images.pull(&reference, None, None, image::silent());
            let ended = async {
                let _ = wanted
                    .wait_for(|wanted| match wanted {
                        Wanted::Gone => true,
                        Wanted::Present(pod) => pod.metadata.deletion_timestamp.is_some(),
                    })
                    .await;
            };
            let pulled = tokio::select! {
                pulled = pull => pulled,
                () = ended => {
                    self.retry_at(Instant::now());
                    return None;
                }
            };
            match pulled {
                Ok(image) => {
                    let message = format!(
                        "Successfully pulled image \"{reference}\" in {:.3}s. Image size: {} bytes.",
                        began.elapsed().as_secs_f64(),
                        image.size_bytes
                    );
                    self.shared.recorder.normal(&self.pod, Some(&name), "Pulled", message);
                    Ok(image)
                }
                Err(error) => {
                    let message = format!("failed to pull image \"{reference}\": {error}");
                    self.shared.recorder.warning(&self.pod, Some(&name), "Failed", format!("Failed to pull image \"{reference}\": {error}"));
                    self.shared.recorder.warning(&self.pod, Some(&name), "Failed", "Error: ErrImagePull");
                    Err(("ErrImagePull", message))
                }
            }
        };
        match outcome {
            Ok(image) => {
                self.attempts.entry(name).or_default().pull_failures = 0;
                Some(image)
            }
            Err((reason, message)) => {
                let attempt = self.attempts.entry(name.clone()).or_default();
                let failures = attempt.pull_failures;
                attempt.pull_failures = failures.saturating_add(1);
                let wait = Duration::from_secs((CRASH_BACKOFF_S << failures.min(5)).min(CRASH_BACKOFF_S_MAX));
                let due = Instant::now() + wait;
                attempt.retry_at = Some(due);
                self.retry_at(due);
                self.note_waiting(&name, reason, &message);
                if reason == "ErrImagePull" {
                    self.report().await;
                    self.note_waiting(&name, "ImagePullBackOff", &format!("Back-off pulling image \"{reference}\": {message}"));
                    self.shared.recorder.normal(&self.pod, Some(&name), "BackOff", format!("Back-off pulling image \"{reference}\""));
                }
                None
            }
        }
    }

    fn note_waiting(&mut self, name: &str, reason: &str, message: &str) {
        self.attempts.entry(name.to_owned()).or_default().waiting = Some((reason.to_owned(), message.to_owned()));
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

/// `Always` for the tag `latest` or none, else `IfNotPresent`.
fn default_policy(reference: &str) -> &'static str {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains('@') || last.split_once(':').is_some_and(|(_, tag)| tag != "latest") { "IfNotPresent" } else { "Always" }
}

fn host_ports(pod: &Pod, address: &str) -> Vec<PublishedPort> {
    let Ok(ip) = address.parse::<std::net::IpAddr>() else { return Vec::new() };
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.host_network == Some(true) {
        return Vec::new();
    }
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(PublishedPort {
                host_ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
                host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
                target: std::net::SocketAddr::new(ip, u16::try_from(port.container_port).ok()?),
                protocol: match port.protocol.as_deref().unwrap_or("TCP") {
                    "TCP" => engine::Protocol::Tcp,
                    "UDP" => engine::Protocol::Udp,
                    _ => return None,
                },
            })
        })
        .collect()
}

fn translated(port: &PublishedPort) -> Option<network::Published> {
    let std::net::SocketAddr::V4(target) = port.target else { return None };
    let protocol = match port.protocol {
        engine::Protocol::Tcp => network::Protocol::Tcp,
        engine::Protocol::Udp => network::Protocol::Udp,
    };
    Some(network::Published { host_ip: port.host_ip, host_port: port.host_port, target, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    #[test]
    fn restarts_back_off_as_the_kubelets_do() {
        let after = |policy, code, ran, crashes, now| after_exit(policy, code, ran, at(1000), 4, crashes, at(now));
        assert_eq!(after("Never", 1, 5, 0, 1000), Step::Leave);
        assert_eq!(after("OnFailure", 0, 5, 0, 1000), Step::Leave);
        assert_eq!(after("OnFailure", 1, 5, 0, 1000), Step::Start { restarts: 5, crashes: 1 });
        assert_eq!(after("Always", 0, 5, 1, 1000), Step::BackOff { until: at(1010), seconds: 10 });
        assert_eq!(after("Always", 0, 5, 1, 1010), Step::Start { restarts: 5, crashes: 2 });
        assert_eq!(after("Always", 1, 5, 3, 1001), Step::BackOff { until: at(1040), seconds: 40 });
        assert_eq!(after("Always", 1, 5, 900, 1001), Step::BackOff { until: at(1300), seconds: 300 });
        assert_eq!(after("Always", 1, 600, 900, 1001), Step::Start { restarts: 5, crashes: 1 }, "ten minutes heal");
    }

    #[test]
    fn policies_by_tag() {
        for (reference, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(default_policy(reference), policy, "{reference}");
        }
    }
}
