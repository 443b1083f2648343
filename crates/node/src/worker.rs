//! One pod's life on this node: a task that compares what the API wants with what the engine has, and acts.
//!
//! Level-triggered: each round looks at everything again, so a restart of the daemon continues where the last one stopped.

mod start;
mod stop;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::{ContainerStatus, Engine, State};
use image::Images;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use network::Network;
use serde_json::json;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::container::label;
use crate::events::Recorder;
use crate::probe::{self, Verdict};
use crate::status::{Doing, Observed, View, pod_status};
use crate::{Config, services};

/// What all workers of a node share.
pub struct Shared {
    pub config: Config,
    pub client: Client,
    pub engine: Engine,
    pub images: Images,
    pub network: Network,
    pub recorder: Recorder,
    pub services: services::Known,
    /// So many containers are prepared and started at once; more would only wait for the same disk and cores.
    pub starts: Semaphore,
    pub memory_capacity_bytes: u64,
    pub cpu_capacity_milli: i64,
}

/// What the API last said about the pod.
#[derive(Clone)]
pub enum Wanted {
    Present(Arc<Pod>),
    /// The object is gone: whatever runs is killed at once.
    Gone,
}

/// A worker's handle.
pub struct Handle {
    pub wanted: watch::Sender<Wanted>,
    /// Something happened to the pod's containers.
    pub nudge: Arc<Notify>,
}

/// One container's present attempt, beside what the engine's record holds.
#[derive(Default)]
struct Attempt {
    id: Option<String>,
    image_id: String,
    waiting: Option<(String, String)>,
    retry_at: Option<Instant>,
    /// Pull failures in a row.
    pull_failures: u32,
}

#[derive(Default)]
struct Probes {
    stop: CancellationToken,
    ready: bool,
    started: bool,
    /// A liveness or startup probe has condemned this container.
    condemned: bool,
    /// The startup question has been put.
    asked: bool,
    /// Readiness and liveness are being asked.
    settled: bool,
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    uid: String,
    wanted: watch::Receiver<Wanted>,
    nudge: Arc<Notify>,
    attempts: HashMap<String, Attempt>,
    probes: HashMap<String, Probes>,
    verdicts: mpsc::Receiver<Verdict>,
    verdicts_in: mpsc::Sender<Verdict>,
    start_time: Timestamp,
    address: Option<String>,
    sandbox_ready: bool,
    volumes: Option<BTreeMap<String, PathBuf>>,
    written: Option<PodStatus>,
    again_at: Option<Instant>,
}

/// Starts the task of one pod. It ends when nothing of the pod is left here.
pub fn spawn(shared: Arc<Shared>, pod: Arc<Pod>, done: mpsc::UnboundedSender<String>) -> Handle {
    let (wanted_in, wanted) = watch::channel(Wanted::Present(pod.clone()));
    let nudge = Arc::new(Notify::new());
    let handle = Handle { wanted: wanted_in, nudge: nudge.clone() };
    let (verdicts_in, verdicts) = mpsc::channel(64);
    let uid = pod.uid().unwrap_or_default();
    let start_time = pod
        .status
        .as_ref()
        .and_then(|status| status.start_time.as_ref().map(|time| time.0))
        .unwrap_or_else(Timestamp::now);
    let worker = Worker {
        shared,
        uid: uid.clone(),
        written: None,
        pod,
        wanted,
        nudge,
        attempts: HashMap::new(),
        probes: HashMap::new(),
        verdicts,
        verdicts_in,
        start_time,
        address: None,
        sandbox_ready: false,
        volumes: None,
        again_at: None,
    };
    tokio::spawn(async move {
        // a bug in one pod's handling must not take the node down; the pod is picked up again at the next event
        let task = tokio::spawn(worker.run());
        if let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!(%error, uid, "the worker of a pod panicked; it starts again in 1 s");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let _ = done.send(uid);
    });
    handle
}

impl Worker {
    async fn run(mut self) {
        loop {
            self.again_at = None;
            let wanted = self.wanted.borrow_and_update().clone();
            match wanted {
                Wanted::Present(pod) => self.pod = pod,
                Wanted::Gone => {
                    self.terminate(Some(Duration::ZERO)).await;
                    self.forget().await;
                    return;
                }
            }
            if self.pod.metadata.deletion_timestamp.is_some() {
                self.terminate(None).await;
                self.report_end().await;
                self.forget().await;
                return;
            }
            if self.finished() {
                self.terminate(Some(Duration::ZERO)).await;
            } else {
                self.advance().await;
            }
            self.report().await;
            self.wait().await;
        }
    }

    /// Until something changes or a retry is due.
    async fn wait(&mut self) {
        let due = self.again_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        tokio::select! {
            changed = self.wanted.changed() => {
                if changed.is_err() {
                    // the node role is shutting down; the pod stays as it is
                    std::future::pending::<()>().await;
                }
            }
            () = self.nudge.notified() => {}
            Some(verdict) = self.verdicts.recv() => self.judge(verdict),
            () = tokio::time::sleep_until(due) => {}
        }
        while let Ok(verdict) = self.verdicts.try_recv() {
            self.judge(verdict);
        }
    }

    fn retry_at(&mut self, at: Instant) {
        self.again_at = Some(self.again_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Phase Succeeded or Failed: nothing starts again.
    fn finished(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
            || self.written.as_ref().is_some_and(|s| matches!(s.phase.as_deref(), Some("Succeeded" | "Failed")))
    }

    fn sandbox_id(&self) -> String {
        self.uid.clone()
    }

    fn directory(&self) -> PathBuf {
        self.shared.config.state_dir.join("pods").join(&self.uid)
    }

    fn host_network(&self) -> bool {
        self.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
    }

    fn container(&self, name: &str) -> Option<Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name).cloned()
    }

    fn judge(&mut self, verdict: Verdict) {
        let Some(probes) = self.probes.get_mut(&verdict.container_id) else { return };
        let name = self.attempts.iter().find(|(_, a)| a.id.as_deref() == Some(&verdict.container_id)).map(|(n, _)| n.clone());
        if let (Some(failure), Some(name)) = (&verdict.failure, &name) {
            let message = format!("{} probe failed: {failure}", verdict.kind.word());
            self.shared.recorder.warning(&self.pod, Some(name), "Unhealthy", message);
        }
        let Some(turned) = verdict.turned else { return };
        match verdict.kind {
            probe::Kind::Readiness => probes.ready = turned,
            probe::Kind::Startup if turned => probes.started = true,
            probe::Kind::Startup | probe::Kind::Liveness if !turned => {
                probes.condemned = true;
                if let Some(name) = name {
                    let message = format!(
                        "Container {name} failed {} probe, will be restarted",
                        verdict.kind.word().to_lowercase()
                    );
                    self.shared.recorder.normal(&self.pod, Some(&name), "Killing", message);
                }
            }
            _ => {}
        }
    }

    /// The engine's containers of this pod by name, oldest attempt first.
    async fn records(&self) -> HashMap<String, Vec<ContainerStatus>> {
        let mut by_name: HashMap<String, Vec<ContainerStatus>> = HashMap::new();
        for status in self.shared.engine.containers().await {
            if status.sandbox == self.sandbox_id() {
                by_name.entry(status.spec.name.clone()).or_default().push(status);
            }
        }
        for attempts in by_name.values_mut() {
            attempts.sort_by_key(restarts);
        }
        by_name
    }

    async fn views(&self, containers: &[Container], init: bool) -> Vec<View> {
        let records = self.records().await;
        let idle = if init || self.pod.spec.as_ref().and_then(|s| s.init_containers.as_ref()).is_none_or(Vec::is_empty) {
            "ContainerCreating"
        } else {
            "PodInitializing"
        };
        containers
            .iter()
            .map(|container| {
                let attempts = records.get(&container.name).map(Vec::as_slice).unwrap_or_default();
                self.view(container, attempts, init, idle)
            })
            .collect()
    }

    fn view(&self, container: &Container, attempts: &[ContainerStatus], init: bool, idle: &str) -> View {
        let own = self.attempts.get(&container.name);
        let current = attempts.last();
        let previous = attempts.len().checked_sub(2).and_then(|index| attempts.get(index));
        let waiting = own.and_then(|attempt| attempt.waiting.clone());
        let (doing, last) = match (current, waiting) {
            (Some(status), None) => (doing(status), previous),
            (Some(status), Some((reason, message))) if status.state != State::Running => {
                let exited = status.state == State::Exited;
                (Doing::Waiting { reason, message }, if exited { Some(status) } else { previous })
            }
            (Some(status), Some(_)) => (doing(status), previous),
            (None, Some((reason, message))) => (Doing::Waiting { reason, message }, None),
            (None, None) => (Doing::waiting(idle), None),
        };
        let running = matches!(doing, Doing::Running { .. });
        let probes = current.and_then(|status| self.probes.get(&status.id));
        let completed_init = init && matches!(doing, Doing::Terminated { code: 0, .. });
        View {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            image_id: own
                .map(|attempt| attempt.image_id.clone())
                .filter(|id| !id.is_empty())
                .or_else(|| current.and_then(|status| status.spec.labels.get(label::IMAGE_ID).cloned()))
                .unwrap_or_default(),
            container_id: current.map(|status| format!("plimsoll://{}", status.id)),
            last: last.map(|status| (format!("plimsoll://{}", status.id), doing_of_exited(status))),
            restarts: current.map(restarts).unwrap_or(0),
            ready: completed_init || running && !init && probes.is_some_and(|p| p.ready && p.started),
            started: running && probes.is_some_and(|p| p.started),
            doing,
        }
    }

    /// Computes the status and writes it if it differs from what the API has.
    async fn report(&mut self) {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let init = self.views(spec.init_containers.as_deref().unwrap_or_default(), true).await;
        let containers = self.views(&spec.containers, false).await;
        let status = pod_status(&Observed {
            pod: &self.pod,
            init: &init,
            containers: &containers,
            sandbox_ready: self.sandbox_ready,
            pod_ip: self.address.as_deref(),
            host_ip: &self.shared.config.address.to_string(),
            start_time: self.start_time,
            now: Timestamp::now(),
        });
        if self.written.as_ref() == Some(&status) {
            return;
        }
        match self.patch_status(&status).await {
            Ok(pod) => {
                // the next comparison must see the conditions that others wrote
                self.pod = Arc::new(pod);
                self.written = Some(status);
            }
            Err(kube::Error::Api(error)) if error.code == 404 => {}
            Err(error) => {
                tracing::warn!(%error, pod = self.pod.name_any(), "the pod's status could not be written; trying again in 1 s");
                self.retry_at(Instant::now() + Duration::from_secs(1));
            }
        }
    }

    async fn patch_status(&self, status: &PodStatus) -> Result<Pod, kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.shared.client.clone(), &self.pod.namespace().unwrap_or_default());
        let patch = json!({ "metadata": { "uid": self.uid }, "status": status });
        pods.patch_status(&self.pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
    }
}

pub(crate) fn restarts(status: &ContainerStatus) -> i32 {
    status.spec.labels.get(label::RESTARTS).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(crate) fn doing(status: &ContainerStatus) -> Doing {
    match status.state {
        State::Created => Doing::waiting("ContainerCreating"),
        State::Running => Doing::Running { since: status.started_at.unwrap_or(status.created_at) },
        State::Exited => doing_of_exited(status),
    }
}

fn doing_of_exited(status: &ContainerStatus) -> Doing {
    let exit = status.exit.as_ref();
    Doing::Terminated {
        code: exit.map_or(137, |exit| exit.code),
        signal: exit.and_then(|exit| exit.signal),
        oom_killed: exit.is_some_and(|exit| exit.oom_killed),
        started: status.started_at,
        finished: exit.map_or(status.created_at, |exit| exit.finished_at),
        message: exit.filter(|exit| exit.lost).map(|_| "The container could not be located when the pod was examined".to_owned()),
    }
}
