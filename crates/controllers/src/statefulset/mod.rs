//! The StatefulSet controller: pods with names and claims of their own, made and updated in order.
//!
//! Follows `pkg/controller/statefulset` of kube-controller-manager.

mod act;
mod identity;
mod plan;
mod retention;
mod status;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use tokio_util::sync::CancellationToken;

use crate::claim::claim;
use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::events::Recorder;
use crate::expectations::{self, Expectations};
use crate::history::{self, History};
use crate::informer::Informer;
use crate::objects::{self, Matcher};
use crate::own_writes::OwnWrites;
use crate::shared::Shared;
use plan::{View, plan};
use status::Revisions;

/// The label of a revision with its hash.
const HASH: &str = "controller.kubernetes.io/hash";

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let config = || watcher::Config::default().any_semantic();
    let sets: Informer<StatefulSet> = Informer::start(
        Api::all(shared.client.clone()),
        config(),
        |_| Vec::new(),
        |_| {},
        shutdown.clone(),
    );
    let claims: Informer<PersistentVolumeClaim> = Informer::start(
        Api::all(shared.client.clone()),
        config(),
        |_| Vec::new(),
        |claim| {
            claim.spec = None;
            claim.status = None;
        },
        shutdown.clone(),
    );
    if !(sets.ready().await && claims.ready().await) {
        return;
    }
    let context = Arc::new(Context {
        recorder: Recorder::start(shared.client.clone(), "statefulset-controller"),
        expectations: Expectations::default(),
        own_writes: OwnWrites::default(),
        sets: sets.clone(),
        claims,
        shared: shared.clone(),
    });
    let of_pods = context.clone();
    let controller = Controller::for_shared_stream(sets.stream(), sets.store())
        .watches_shared_stream(shared.pods.stream(), move |pod| of_pods.owners(&pod));
    drive("statefulset", controller, shutdown, move |set| {
        let context = context.clone();
        async move { context.reconcile(set).await }
    })
    .await;
}

struct Context {
    shared: Shared,
    sets: Informer<StatefulSet>,
    claims: Informer<PersistentVolumeClaim>,
    recorder: Recorder,
    expectations: Expectations,
    own_writes: OwnWrites,
}

impl Context {
    /// The set that manages the pod; for a pod without one, those that could adopt it.
    fn owners(&self, pod: &Pod) -> Vec<ObjectRef<StatefulSet>> {
        let namespace = objects::namespace(pod);
        if let Some(owner) = objects::controller_of(pod) {
            if owner.kind != "StatefulSet" {
                return Vec::new();
            }
            return vec![ObjectRef::new(&owner.name).within(namespace)];
        }
        if objects::is_terminating(pod) {
            return Vec::new();
        }
        let sets = self.sets.all();
        let could = sets.iter().filter(|set| {
            objects::namespace(&***set) == namespace
                && is_of(set, pod)
                && objects::selects(&set.spec.selector, pod.metadata.labels.as_ref())
        });
        could.map(|set| ObjectRef::from_obj(&**set)).collect()
    }

    async fn reconcile(&self, set: Arc<StatefulSet>) -> Result<Option<Duration>, Error> {
        if self.own_writes.is_behind(&*set) {
            return Ok(Some(expectations::TIMEOUT));
        }
        let uid = objects::uid(&*set);
        if self.expectations.satisfied(uid, &self.shared.pods).is_err() {
            // The pod events that are still to come bring the set back; the delay only guards against a lost one.
            return Ok(Some(expectations::TIMEOUT));
        }
        if objects::is_terminating(&*set) {
            return Ok(None);
        }
        let matcher = Matcher::new(&set.spec.selector);
        let history = History {
            client: &self.shared.client,
            cache: &self.shared.revisions,
            owner: &*set,
            label: HASH,
        };
        let revisions = history.revisions(&matcher).await?;
        let pods = claim(
            &self.shared.client,
            &*set,
            &self.shared.pods,
            |pod: &Pod| is_of(&set, pod) && matcher.matches(pod.metadata.labels.as_ref()),
            |_| true,
        )
        .await?;
        let before = set.status.clone().unwrap_or_default();
        let mut collisions = before.collision_count.unwrap_or(0);
        let update = history
            .present(&set.spec.template, &revisions, &mut collisions)
            .await?;
        let current = revisions
            .iter()
            .find(|one| before.current_revision.as_deref() == Some(objects::name(&***one)))
            .unwrap_or(&update);
        let outcome = self.step(&set, &pods, current, &update, collisions).await;
        let surplus = surplus(&set, &pods, &revisions, [current, &update]);
        history.delete(&surplus).await?;
        outcome
    }

    /// Does what is to be done next, and tells it in the status, also when it failed.
    async fn step(
        &self,
        set: &StatefulSet,
        pods: &[Arc<Pod>],
        current: &ControllerRevision,
        update: &ControllerRevision,
        collisions: i32,
    ) -> Result<Option<Duration>, Error> {
        let now = Timestamp::now();
        let revisions = Revisions {
            current: objects::name(current),
            update: objects::name(update),
        };
        let namespace = Some(objects::namespace(set));
        let claim = |name: &str| self.claims.get(namespace, name);
        let plan = plan(&View {
            set,
            pods,
            revisions,
            claim: &claim,
            now,
        });
        let done = self.act(set, current, update, plan.steps).await;
        let status = status::calculate(set, pods, revisions, collisions, plan.leaving, now);
        self.write_status(set, status).await?;
        done.map(|()| plan.look_again)
    }

    async fn write_status(
        &self,
        set: &StatefulSet,
        status: StatefulSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api: Api<StatefulSet> =
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
                "update the status of StatefulSet",
                objects::key(set),
            )(error)),
        }
    }
}

/// The pod's name is one of the set's.
fn is_of(set: &StatefulSet, pod: &Pod) -> bool {
    identity::ordinal(objects::name(set), objects::name(pod)).is_some()
}

/// The oldest revisions beyond the set's limit; those of pods and those between which they are do not count.
fn surplus(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    revisions: &[Arc<ControllerRevision>],
    live: [&Arc<ControllerRevision>; 2],
) -> Vec<Arc<ControllerRevision>> {
    let Ok(limit) = usize::try_from(set.spec.revision_history_limit.unwrap_or(10)) else {
        return Vec::new();
    };
    let mut needed: HashSet<&str> = pods.iter().map(|pod| identity::revision(pod)).collect();
    needed.extend(live.map(|one| objects::name(&**one)));
    let is_needed = |one: &ControllerRevision| needed.contains(objects::name(one));
    let free = revisions.iter().filter(|one| !is_needed(one)).count();
    history::surplus(revisions, is_needed, free.saturating_sub(limit))
}
