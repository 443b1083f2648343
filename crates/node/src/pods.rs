//! Which pods are bound here: one worker each, nudged when the API or the engine has news.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::Event;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use parking_lot::RwLock;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::confinement;
use crate::container::{self, label};
use crate::pressure;
use crate::volumes::{self, ObjectKind};
use crate::worker::{self, Handle, Shared, Wanted};

/// Pods bound to this node as the API last showed them, by UID; shared with the kubelet's API.
pub type Pods = Arc<RwLock<HashMap<String, Arc<Pod>>>>;

/// Whether anything of the pod runs or may run.
pub fn is_active(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Follows the API and the engine until `shutdown`.
pub async fn run(
    client: Client,
    shared: Arc<Shared>,
    pods: Pods,
    mut evictions: mpsc::Receiver<pressure::Order>,
    shutdown: CancellationToken,
) {
    let config =
        watcher::Config::default().fields(&format!("spec.nodeName={}", shared.config.name));
    let maps = crate::informer::changes::<ConfigMap>(client.clone())
        .map(|name| (ObjectKind::ConfigMap, name));
    let secrets =
        crate::informer::changes::<Secret>(client.clone()).map(|name| (ObjectKind::Secret, name));
    let mut contents = futures::stream::select(maps, secrets).boxed();
    let mut changes = crate::informer::events(Api::<Pod>::all(client), config).boxed();
    let mut news = shared.engine.events();
    let (done_in, mut done) = mpsc::unbounded_channel();
    let mut dispatch = Dispatch {
        shared,
        pods,
        workers: HashMap::new(),
        done: done_in,
        listed: None,
        refused: HashSet::new(),
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(change) = changes.next() => dispatch.change(change).await,
            event = news.recv() => dispatch.news(event),
            Some((kind, (namespace, name))) = contents.next() => dispatch.content(kind, &namespace, &name),
            Some(ended) = done.recv() => dispatch.done(&ended),
            Some(order) = evictions.recv() => dispatch.evict(order),
        }
    }
}

struct Dispatch {
    shared: Arc<Shared>,
    pods: Pods,
    workers: HashMap<String, Handle>,
    done: mpsc::UnboundedSender<worker::Done>,
    listed: Option<HashMap<String, Arc<Pod>>>,
    /// Pods that are not run here, though the API may not show it yet.
    refused: HashSet<String>,
}

impl Dispatch {
    async fn change(&mut self, change: watcher::Event<Pod>) {
        match change {
            watcher::Event::Apply(pod) => self.present(Arc::new(pod)),
            watcher::Event::Delete(pod) => self.gone(&pod.uid().unwrap_or_default()),
            watcher::Event::Init => self.listed = Some(HashMap::new()),
            watcher::Event::InitApply(pod) => {
                self.listed
                    .get_or_insert_default()
                    .insert(pod.uid().unwrap_or_default(), Arc::new(pod));
            }
            watcher::Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let vanished: Vec<String> = self
                    .pods
                    .read()
                    .keys()
                    .filter(|uid| !listed.contains_key(*uid))
                    .cloned()
                    .collect();
                for uid in vanished {
                    self.gone(&uid);
                }
                self.remove_strangers(&listed).await;
                self.remove_orphans(&listed).await;
                // who runs already has his place before anybody new asks for one
                let (new, old): (Vec<_>, Vec<_>) =
                    listed.into_values().partition(|pod| is_new(pod));
                for pod in old.into_iter().chain(new) {
                    self.present(pod);
                }
            }
        }
    }

    fn present(&mut self, pod: Arc<Pod>) {
        let uid = pod.uid().unwrap_or_default();
        self.pods.write().insert(uid.clone(), pod.clone());
        match self.workers.get(&uid) {
            Some(handle) => {
                let _ = handle.wanted.send(Wanted::Present(pod));
            }
            None => {
                let refusal = self.refusal(&pod);
                let handle =
                    worker::spawn(self.shared.clone(), pod, false, refusal, self.done.clone());
                self.workers.insert(uid, handle);
            }
        }
    }

    /// Why a pod that is new here is not run; the pod's status says it, and an event.
    fn refusal(&mut self, pod: &Pod) -> Option<(String, String)> {
        if !is_new(pod) {
            return None;
        }
        let pods = self.pods.read();
        let others: Vec<&Pod> = pods
            .values()
            .map(|other| &**other)
            .filter(|other| is_active(other) && other.metadata.uid != pod.metadata.uid)
            .filter(|other| !self.refused.contains(&other.uid().unwrap_or_default()))
            .collect();
        let conditions = self.shared.conditions.borrow();
        let allocatable = &self.shared.division.allocatable;
        let enabled = engine::app_armor() != engine::AppArmor::Absent;
        let unconfinable = confinement::app_armor::refusal(pod, enabled)
            .or_else(|| confinement::sysctls::refusal(pod));
        let (reason, message) = match unconfinable {
            Some((reason, message)) => (reason.to_owned(), message),
            None => {
                let refusal = pressure::admit(pod, &others, &conditions, allocatable).err()?;
                (refusal.reason, refusal.message)
            }
        };
        self.shared
            .recorder
            .warning(pod, None, &reason, message.clone());
        self.refused.insert(pod.uid().unwrap_or_default());
        Some((reason, format!("Pod was rejected: {message}")))
    }

    fn evict(&self, order: pressure::Order) {
        if let Some(handle) = self.workers.get(&order.uid) {
            handle.evicted.send_replace(Some(order.message));
            handle.nudge.notify_one();
        }
    }

    fn gone(&mut self, uid: &str) {
        self.pods.write().remove(uid);
        self.refused.remove(uid);
        if let Some(handle) = self.workers.get(uid) {
            let _ = handle.wanted.send(Wanted::Gone);
        }
    }

    /// Sandboxes of pods that were deleted while the daemon was away.
    async fn remove_strangers(&mut self, listed: &HashMap<String, Arc<Pod>>) {
        for sandbox in self.shared.engine.sandboxes().await {
            let ours = sandbox
                .spec
                .labels
                .get(label::OWNER)
                .is_some_and(|owner| owner == label::OWNER_NODE);
            if !ours || listed.contains_key(&sandbox.id) || self.workers.contains_key(&sandbox.id) {
                continue;
            }
            tracing::info!(
                id = sandbox.id,
                "removing the sandbox of a pod that is gone"
            );
            let text = |key: &str| sandbox.spec.labels.get(key).cloned();
            let pod = Pod {
                metadata: kube::api::ObjectMeta {
                    uid: Some(sandbox.id.clone()),
                    name: text(label::POD_NAME),
                    namespace: text(label::POD_NAMESPACE),
                    ..Default::default()
                },
                ..Pod::default()
            };
            let handle = worker::spawn(
                self.shared.clone(),
                Arc::new(pod),
                true,
                None,
                self.done.clone(),
            );
            self.workers.insert(sandbox.id, handle);
        }
    }

    /// Removes files of containers of which a crash left no other trace: they were made for a start that never came.
    async fn remove_orphans(&self, listed: &HashMap<String, Arc<Pod>>) {
        let sandboxes = self.shared.engine.sandboxes().await;
        let known: HashSet<String> = sandboxes
            .into_iter()
            .map(|sandbox| sandbox.id)
            .chain(listed.keys().cloned())
            .chain(self.workers.keys().cloned())
            .collect();
        let images = self.shared.images.clone();
        let removing = tokio::task::spawn_blocking(move || {
            for snapshot in images.snapshots() {
                let Some(uid) = container::pod_of_attempt(&snapshot.id) else {
                    continue;
                };
                if known.contains(uid) {
                    continue;
                }
                if let Err(error) = images.remove_snapshot(&snapshot.id) {
                    tracing::warn!(%error, id = snapshot.id, "the files of a container that is gone could not be removed");
                }
            }
        });
        let _ = removing.await;
    }

    fn news(&self, event: Result<Event, broadcast::error::RecvError>) {
        let sandbox = match event {
            Ok(
                Event::ContainerStarted { sandbox, .. }
                | Event::ContainerExited { sandbox, .. }
                | Event::ContainerOomKilled { sandbox, .. },
            ) => sandbox,
            Ok(Event::SandboxStopped { id }) => id,
            Ok(_) => return,
            // some news were lost: everybody looks for himself
            Err(_) => {
                self.workers
                    .values()
                    .for_each(|handle| handle.nudge.notify_one());
                return;
            }
        };
        if let Some(handle) = self.workers.get(&sandbox) {
            handle.nudge.notify_one();
        }
    }

    /// An object changed that volumes may be filled from.
    fn content(&self, kind: ObjectKind, namespace: &str, name: &str) {
        let pods = self.pods.read();
        for (uid, pod) in pods.iter() {
            let ours = pod.metadata.namespace.as_deref() == Some(namespace)
                && volumes::objects(pod).contains(&(kind, name));
            if let Some(handle) = self.workers.get(uid).filter(|_| ours) {
                handle.stale.store(true, Ordering::Release);
                handle.nudge.notify_one();
            }
        }
    }

    fn done(&mut self, ended: &worker::Done) {
        self.workers.remove(&ended.uid);
        if !ended.panicked {
            return;
        }
        let pod = self.pods.read().get(&ended.uid).cloned();
        match pod {
            Some(pod) => self.present(pod),
            None => {
                // it was deleted meanwhile: what is left of it still has to go
                let pod = Pod {
                    metadata: kube::api::ObjectMeta {
                        uid: Some(ended.uid.clone()),
                        ..Default::default()
                    },
                    ..Pod::default()
                };
                let handle = worker::spawn(
                    self.shared.clone(),
                    Arc::new(pod),
                    true,
                    None,
                    self.done.clone(),
                );
                self.workers.insert(ended.uid.clone(), handle);
            }
        }
    }
}

/// Nothing of it has ever been here.
fn is_new(pod: &Pod) -> bool {
    let started = pod
        .status
        .as_ref()
        .is_some_and(|status| status.start_time.is_some());
    !started && is_active(pod) && pod.metadata.deletion_timestamp.is_none()
}
