//! The DaemonSet controller: one pod on each node that should have it.
//!
//! Follows `pkg/controller/daemon` of kube-controller-manager. Its pods are placed by the scheduler, by an affinity that
//! names their node.

mod failures;
mod plan;
mod pod;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, NodeSpec, Pod, Taint};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::claim::claim;
use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::events::{Recorder, Severity};
use crate::expectations::{self, Expectations};
use crate::history::{self, History};
use crate::informer::Informer;
use crate::objects::{self, Matcher};
use crate::own_writes::OwnWrites;
use crate::pod_control::PodControl;
use crate::shared::Shared;
use failures::Failures;
use plan::{Plan, Spots, View, plan};

/// Pods created or deleted in one reconcile, as upstream.
const BURST_REPLICAS: usize = 250;

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let config = || watcher::Config::default().any_semantic();
    let sets: Informer<DaemonSet> = Informer::start(
        Api::all(shared.client.clone()),
        config(),
        |_| Vec::new(),
        |_| {},
        shutdown.clone(),
    );
    let nodes: Informer<Node> = Informer::start(
        Api::all(shared.client.clone()),
        config(),
        |_| Vec::new(),
        |node| {
            node.status = None;
            node.metadata.annotations = None;
        },
        shutdown.clone(),
    );
    if !(sets.ready().await && nodes.ready().await) {
        return;
    }
    let context = Arc::new(Context {
        recorder: Recorder::start(shared.client.clone(), "daemonset-controller"),
        expectations: Expectations::default(),
        own_writes: OwnWrites::default(),
        failures: Mutex::default(),
        seen: Mutex::default(),
        sets: sets.clone(),
        nodes: nodes.clone(),
        shared: shared.clone(),
    });
    let (of_pods, of_nodes, of_revisions) = (context.clone(), context.clone(), context.clone());
    let controller = Controller::for_shared_stream(sets.stream(), sets.store())
        .watches_shared_stream(shared.pods.stream(), move |pod| of_pods.owners(&*pod))
        .watches_shared_stream(shared.revisions.stream(), move |revision| {
            of_revisions.owners(&*revision)
        })
        .watches_shared_stream(nodes.stream(), move |node| of_nodes.concerned(&node));
    drive("daemonset", controller, shutdown, move |set| {
        let context = context.clone();
        async move { context.reconcile(set).await }
    })
    .await;
}

struct Context {
    shared: Shared,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    recorder: Recorder,
    expectations: Expectations,
    own_writes: OwnWrites,
    failures: Mutex<Failures>,
    /// What of each node was last looked at.
    seen: Mutex<HashMap<String, Seen>>,
}

/// What of a node decides whether it has a pod.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    labels: Option<BTreeMap<String, String>>,
    taints: Option<Vec<Taint>>,
}

impl Context {
    /// The set that manages the object; for one without a manager, those that could adopt it.
    fn owners<K: kube::Resource>(&self, object: &K) -> Vec<ObjectRef<DaemonSet>> {
        let namespace = objects::namespace(object);
        if let Some(owner) = objects::controller_of(object) {
            if owner.kind != "DaemonSet" {
                return Vec::new();
            }
            return vec![ObjectRef::new(&owner.name).within(namespace)];
        }
        if objects::is_terminating(object) {
            return Vec::new();
        }
        let sets = self.sets.all();
        let could = sets.iter().filter(|set| {
            objects::namespace(&***set) == namespace
                && objects::selects(&set.spec.selector, object.meta().labels.as_ref())
        });
        could.map(|set| ObjectRef::from_obj(&**set)).collect()
    }

    /// Every set, if the node is new, gone, or differs in what sets look at. Nodes report each few seconds.
    fn concerned(&self, node: &Node) -> Vec<ObjectRef<DaemonSet>> {
        let name = objects::name(node);
        let mut seen = self.seen.lock();
        match self.nodes.get(None, name) {
            Some(live) => {
                let is = Seen {
                    labels: live.metadata.labels.clone(),
                    taints: live.spec.clone().and_then(|spec: NodeSpec| spec.taints),
                };
                if seen.get(name) == Some(&is) {
                    return Vec::new();
                }
                seen.insert(name.to_owned(), is);
            }
            None => drop(seen.remove(name)),
        }
        let sets = self.sets.all();
        sets.iter().map(|set| ObjectRef::from_obj(&**set)).collect()
    }

    async fn reconcile(&self, set: Arc<DaemonSet>) -> Result<Option<Duration>, Error> {
        if self.own_writes.is_behind(&*set) {
            return Ok(Some(expectations::TIMEOUT));
        }
        let uid = objects::uid(&*set);
        if objects::is_terminating(&*set) {
            return Ok(None);
        }
        if self.expectations.satisfied(uid, &self.shared.pods).is_err() {
            // The pod events that are still to come bring the set back; the delay only guards against a lost one.
            return Ok(Some(expectations::TIMEOUT));
        }
        let matcher = Matcher::new(&set.spec.selector);
        let history = History {
            client: &self.shared.client,
            cache: &self.shared.revisions,
            owner: &*set,
            label: pod::HASH,
        };
        let revisions = history.revisions(&matcher).await?;
        let status = set.status.as_ref();
        let mut collisions = status
            .and_then(|status| status.collision_count)
            .unwrap_or(0);
        let present = history
            .present(&set.spec.template, &revisions, &mut collisions)
            .await?;
        let hash = hash_of(&present);
        let pods = claim(
            &self.shared.client,
            &*set,
            &self.shared.pods,
            |pod: &Pod| matcher.matches(pod.metadata.labels.as_ref()),
            |_| true,
        )
        .await?;
        let now = Timestamp::now();
        let spots = self.spots(&set, &pods);
        let plan = plan(&View {
            set: &set,
            spots: &spots,
            hash,
            now,
            due: &|node, pod| {
                let (failures, place) = (self.failures.lock(), place_of(&set, node));
                objects::phase(pod) != "Failed" || failures.is_due(&place, Instant::now())
            },
        });
        let done = self.act(&set, hash, plan).await;
        if done.is_ok() {
            let surplus = surplus(&set, &pods, &revisions, &present);
            history.delete(&surplus).await?;
        }
        let observed = status::calculate(&set, &spots, hash, collisions, now);
        self.write_status(&set, observed.status).await?;
        let waits = [done?, observed.look_again];
        Ok(waits.into_iter().flatten().min())
    }

    /// The nodes with the set's pods; one that has ended and is going is as good as gone.
    fn spots(&self, set: &DaemonSet, pods: &[Arc<Pod>]) -> Spots {
        let mut spots = Spots::new();
        for node in self.nodes.all() {
            let spot = spots.entry(objects::name(&*node).to_owned()).or_default();
            spot.place = Some(pod::place(set, &node));
        }
        for pod in pods {
            if objects::is_finished(pod) && objects::is_terminating(&**pod) {
                continue;
            }
            if let Some(node) = pod::target(pod) {
                let spot = spots.entry(node.to_owned()).or_default();
                spot.pods.push(pod.clone());
            }
        }
        spots
    }

    /// Does the plan; returns when to look again at pods that fail too often.
    async fn act(
        &self,
        set: &DaemonSet,
        hash: &str,
        plan: Plan,
    ) -> Result<Option<Duration>, Error> {
        let mut victims = plan.delete;
        let mut wait: Option<Duration> = None;
        for (node, pod) in plan.ended {
            match self.end(set, &node, &pod) {
                Ok(()) => victims.push(pod),
                Err(delay) => wait = Some(wait.map_or(delay, |known| known.min(delay))),
            }
        }
        let control = PodControl {
            client: &self.shared.client,
            recorder: &self.recorder,
            owner: set,
        };
        let wanted: Vec<Arc<Pod>> = plan
            .create
            .iter()
            .take(BURST_REPLICAS)
            .map(|node| Arc::new(pod::pod(set, hash, node)))
            .collect();
        let (created, not_created) = control.create(&wanted).await;
        victims.truncate(BURST_REPLICAS);
        let (deleted, not_deleted) = control.delete(victims).await;
        self.expectations
            .wrote(objects::uid(set), &self.shared.pods, &created, deleted);
        match not_created.or(not_deleted) {
            Some(failure) => Err(failure.error),
            None => Ok(wait),
        }
    }

    /// Tells of a pod that has ended, unless it did so too often: then how long to wait.
    fn end(&self, set: &DaemonSet, node: &str, pod: &Pod) -> Result<(), Duration> {
        let key = objects::key(pod);
        if objects::phase(pod) != "Failed" {
            let text =
                format!("Found succeeded daemon pod {key} on node {node}, will try to delete it");
            self.recorder
                .record(set, Severity::Normal, "SucceededDaemonPod", text);
            return Ok(());
        }
        self.failures
            .lock()
            .admit(&place_of(set, node), Instant::now())?;
        let text = format!("Found failed daemon pod {key} on node {node}, will try to kill it");
        self.recorder
            .record(set, Severity::Warning, "FailedDaemonPod", text);
        Ok(())
    }

    async fn write_status(&self, set: &DaemonSet, status: DaemonSetStatus) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api: Api<DaemonSet> =
            Api::namespaced(self.shared.client.clone(), objects::namespace(set));
        let mut changed = set.clone();
        changed.status = Some(status);
        match api
            .replace_status(objects::name(set), &PostParams::default(), &changed)
            .await
        {
            Ok(written) => {
                self.own_writes.wrote(&written);
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(Error::api(
                "update the status of DaemonSet",
                objects::key(set),
            )(error)),
        }
    }
}

/// The hash by which pods tell their revision; the name of a revision that has none.
fn hash_of(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(pod::HASH))
        .map_or_else(|| objects::name(revision), String::as_str)
}

/// The oldest revisions beyond the set's limit, except those of pods.
fn surplus(
    set: &DaemonSet,
    pods: &[Arc<Pod>],
    revisions: &[Arc<ControllerRevision>],
    present: &ControllerRevision,
) -> Vec<Arc<ControllerRevision>> {
    let limit = usize::try_from(set.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    let is_present = |one: &ControllerRevision| objects::uid(one) == objects::uid(present);
    let old = revisions.iter().filter(|one| !is_present(one)).count();
    let is_needed = |one: &ControllerRevision| {
        is_present(one) || pods.iter().any(|pod| plan::is_updated(pod, hash_of(one)))
    };
    history::surplus(revisions, is_needed, old.saturating_sub(limit))
}

/// What failures of the set's present generation on a node are counted under.
fn place_of(set: &DaemonSet, node: &str) -> String {
    let status = set.status.as_ref();
    let generation = status.and_then(|status| status.observed_generation);
    let uid = objects::uid(set);
    format!("{uid}/{}/{node}", generation.unwrap_or_default())
}
