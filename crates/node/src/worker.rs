//! One pod's life on this node: a task that compares what the API wants with what the engine has, and acts.
//!
//! Level-triggered: each round looks at everything again, so a restart of the daemon continues where the last one stopped.

mod describe;
mod failing;
mod generation;
mod probing;
mod pull;
mod report;
mod resizing;
mod restart;
mod sandbox;
mod start;
mod stop;
mod volumes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use engine::{ContainerStatus, Engine};
use image::Images;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::{Client, ResourceExt};
use network::Network;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::container::{self, label};
use crate::events::Recorder;
use crate::pods::Pods;
use crate::probe::Verdict;
use crate::resize::Resizing;
use crate::volumes::{Place, Tokens};
use crate::{Config, ending, pressure, traffic::Traffic};

/// What all workers of a node share.
pub struct Shared {
    pub config: Config,
    pub client: Client,
    pub engine: Engine,
    pub images: Images,
    pub network: Network,
    pub recorder: Recorder,
    pub traffic: Arc<Traffic>,
    /// So many containers are prepared and started at once; more would only wait for the same disk and cores.
    pub starts: Semaphore,
    pub memory_capacity_bytes: u64,
    pub cpu_capacity_milli: i64,
    /// The daemon's own OOM score.
    pub oom_score: i32,
    pub division: pressure::Division,
    pub pods: Pods,
    pub conditions: pressure::Conditions,
}

/// What the API last said about the pod.
#[derive(Clone)]
pub enum Wanted {
    Present(Arc<Pod>),
    /// The object is gone: whatever runs has a moment to end.
    Gone,
}

/// A worker has ended.
pub struct Done {
    pub uid: String,
    /// By a bug, not because nothing of the pod is left.
    pub panicked: bool,
}

/// A worker's handle.
pub struct Handle {
    pub wanted: watch::Sender<Wanted>,
    /// Something happened to the pod's containers.
    pub nudge: Arc<Notify>,
    /// An object changed that a volume is filled from; nudge after setting it.
    pub stale: Arc<AtomicBool>,
    /// Why the pod has to go, as its status shall tell; nudge after setting it.
    pub evicted: watch::Sender<Option<String>>,
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
    /// The image whose lack `retry_at` is about.
    lacking: Option<String>,
}

#[derive(Default)]
struct Probes {
    stop: CancellationToken,
    ready: bool,
    started: bool,
    /// A liveness or startup probe has condemned this container, with so much grace if not the pod's own.
    condemned: Option<Option<Duration>>,
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
    /// When this worker began, and how old the pod was then: what follows is measured by a clock that does not jump.
    began: (Instant, Duration),
    /// The pod's, the first one first; none before it has been given any.
    addresses: Vec<String>,
    sandbox_ready: bool,
    /// How often the sandbox has been made anew.
    sandboxes: u32,
    volumes: Option<BTreeMap<String, Place>>,
    tokens: Tokens,
    stale: Arc<AtomicBool>,
    evicted: watch::Receiver<Option<String>>,
    /// The labels and annotations that volumes show.
    shown: volumes::Shown,
    /// How often the volumes could not be had, in a row.
    unmounted: u32,
    /// When emptyDirs are measured again.
    measure_at: Option<Instant>,
    /// The engine's containers of this pod.
    ids: BTreeSet<String>,
    /// Reason and message, when the pod has failed as a whole.
    failure: Option<(String, String)>,
    /// The node had the pod end: why, for its condition.
    disruption: Option<String>,
    /// What only a running pod needs has been removed.
    given_back: bool,
    /// Resources that running containers do not have yet.
    resizing: Option<Resizing>,
    written: Option<PodStatus>,
    /// What the API had then.
    told: Option<report::Told>,
    again_at: Option<Instant>,
}

/// Starts the task of one pod. It ends when nothing of the pod is left here.
///
/// `gone`: the object is not in the API any more, and `pod` only says what to remove. `refusal`: reason and message of a pod that is
/// not run here.
pub fn spawn(
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    gone: bool,
    refusal: Option<(String, String)>,
    done: mpsc::UnboundedSender<Done>,
) -> Handle {
    let (wanted_in, wanted) = watch::channel(if gone {
        Wanted::Gone
    } else {
        Wanted::Present(pod.clone())
    });
    let nudge = Arc::new(Notify::new());
    let (evicted_in, evicted) = watch::channel(None);
    let handle = Handle {
        wanted: wanted_in,
        nudge: nudge.clone(),
        stale: Arc::new(AtomicBool::new(false)),
        evicted: evicted_in,
    };
    let stale = handle.stale.clone();
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
        told: None,
        pod,
        wanted,
        nudge,
        attempts: HashMap::new(),
        probes: HashMap::new(),
        verdicts,
        verdicts_in,
        start_time,
        began: (Instant::now(), age(start_time, Timestamp::now())),
        addresses: Vec::new(),
        sandbox_ready: false,
        sandboxes: 0,
        volumes: None,
        tokens: Tokens::default(),
        stale,
        evicted,
        shown: volumes::Shown::default(),
        unmounted: 0,
        measure_at: None,
        ids: BTreeSet::new(),
        failure: refusal,
        disruption: None,
        given_back: false,
        resizing: None,
        again_at: None,
    };
    tokio::spawn(async move {
        // a bug in one pod's handling must not take the node down; the pod is picked up again at the next event
        let task = tokio::spawn(worker.run());
        let panicked = match task.await {
            Err(error) if error.is_panic() => {
                tracing::error!(%error, uid, "the worker of a pod panicked; it starts again in 1 s");
                tokio::time::sleep(Duration::from_secs(1)).await;
                true
            }
            _ => false,
        };
        let _ = done.send(Done { uid, panicked });
    });
    handle
}

impl Worker {
    async fn run(mut self) {
        if self
            .shared
            .engine
            .sandbox(&self.sandbox_id())
            .await
            .is_some()
        {
            let ours = self
                .shared
                .engine
                .containers()
                .await
                .into_iter()
                .filter(|status| status.sandbox == self.uid);
            self.ids = ours.map(|status| status.id).collect();
            self.sandboxes = generation::read(&self.directory());
        }
        loop {
            self.again_at = None;
            let wanted = self.wanted.borrow_and_update().clone();
            match wanted {
                // the answer to our own write may be newer than what the watch has brought
                Wanted::Present(pod) if revision(&pod) < revision(&self.pod) => {}
                Wanted::Present(pod) => self.pod = pod,
                Wanted::Gone => {
                    // also who deletes it at once leaves it a moment to put its things in order
                    self.terminate(Some(self.grace().min(stop::LEAST))).await;
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
            self.check_deadline();
            self.check_sizes().await;
            self.check_eviction();
            if self.finished() || self.over().await {
                self.terminate(Some(self.ending_grace())).await;
                self.give_back().await;
            } else {
                self.advance().await;
            }
            self.report().await;
            self.wait().await;
        }
    }

    /// Until something changes or a retry is due.
    async fn wait(&mut self) {
        let due = self
            .again_at
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
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

    /// The pod's own time to end.
    fn grace(&self) -> Duration {
        let seconds = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds);
        Duration::from_secs(seconds.unwrap_or(30).max(0) as u64)
    }

    /// Every regular container has ended and none may start again: sidecars have nothing left to serve.
    async fn over(&self) -> bool {
        let Some(spec) = &self.pod.spec else {
            return false;
        };
        let policy = spec.restart_policy.as_deref().unwrap_or("Always");
        let records = self.records().await;
        spec.containers.iter().all(|container| {
            let last = records
                .get(&container.name)
                .and_then(|attempts| attempts.last());
            last.is_some_and(|last| {
                ending::code(last)
                    .is_some_and(|(code, _)| !restart::comes_again(container, policy, last, code))
            })
        })
    }

    /// Phase Succeeded or Failed: nothing starts again.
    fn finished(&self) -> bool {
        let phase = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        self.failure.is_some()
            || matches!(phase, Some("Succeeded" | "Failed"))
            || self
                .written
                .as_ref()
                .is_some_and(|s| matches!(s.phase.as_deref(), Some("Succeeded" | "Failed")))
    }

    fn sandbox_id(&self) -> String {
        self.uid.clone()
    }

    fn directory(&self) -> PathBuf {
        self.shared.config.state_dir.join("pods").join(&self.uid)
    }

    fn host_network(&self) -> bool {
        container::host_network(&self.pod)
    }

    fn container(&self, name: &str) -> Option<Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .find(|c| c.name == name)
            .cloned()
            .or_else(|| {
                container::ephemeral(&self.pod)
                    .into_iter()
                    .find(|c| c.name == name)
            })
    }

    /// The engine's containers of this pod by name, oldest attempt first.
    async fn records(&self) -> HashMap<String, Vec<ContainerStatus>> {
        let mut by_name: HashMap<String, Vec<ContainerStatus>> = HashMap::new();
        for id in &self.ids {
            if let Some(status) = self.shared.engine.container(id).await {
                by_name
                    .entry(status.spec.name.clone())
                    .or_default()
                    .push(status);
            }
        }
        for attempts in by_name.values_mut() {
            attempts.sort_by_key(restarts);
        }
        by_name
    }

    /// Comes true when what is being done may not matter any more: the pod is being deleted, is evicted, or its time is over.
    fn interrupted(&self) -> impl Future<Output = ()> + use<> {
        let (mut wanted, mut evicted) = (self.wanted.clone(), self.evicted.clone());
        let deadline = self.deadline();
        async move {
            let deleted = async {
                let ends = |wanted: &Wanted| match wanted {
                    Wanted::Present(pod) => pod.metadata.deletion_timestamp.is_some(),
                    Wanted::Gone => true,
                };
                wanted.wait_for(ends).await.is_ok()
            };
            let ordered = async { evicted.wait_for(Option::is_some).await.is_ok() };
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            // without anybody who could say so, it goes on
            tokio::select! {
                true = deleted => {}
                true = ordered => {}
                () = late => {}
            }
        }
    }
}

/// How long ago `start` was; no time if it is still to come.
fn age(start: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(start)).unwrap_or_default()
}

/// How often the sandbox had been made anew when this was made.
fn sandboxes(status: &ContainerStatus) -> u32 {
    let label = status.spec.labels.get(label::SANDBOX);
    label.and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(crate) fn restarts(status: &ContainerStatus) -> i32 {
    status
        .spec
        .labels
        .get(label::RESTARTS)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn revision(pod: &Pod) -> u64 {
    pod.metadata
        .resource_version
        .as_deref()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}
