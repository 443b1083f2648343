//! The ReplicaSet controller: keeps as many pods of a template as are wanted. ReplicationControllers are kept by the
//! same code.
//!
//! Follows `pkg/controller/replicaset` and `pkg/controller/replication` of kube-controller-manager.

mod kind;
mod ranking;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::claim::claim;
use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::events::Recorder;
use crate::expectations::{self, Expectations};
use crate::informer::Informer;
use crate::objects::{self, Matcher};
use crate::own_writes::OwnWrites;
use crate::pod_control::{Failure, PodControl, from_template};
use crate::shared::{Shared, owned_by};
use kind::Replicated;

/// Pods created or deleted in one reconcile, as upstream.
const BURST_REPLICAS: usize = 500;

/// Keeps ReplicaSets until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let sets = shared.replica_sets.clone();
    keep(shared, sets, shutdown).await;
}

/// Keeps ReplicationControllers until `shutdown`.
pub async fn run_replication_controllers(shared: Shared, shutdown: CancellationToken) {
    let controllers: Informer<ReplicationController> = Informer::start(
        Api::all(shared.client.clone()),
        watcher::Config::default().any_semantic(),
        |_| Vec::new(),
        |_| {},
        shutdown.clone(),
    );
    if controllers.ready().await {
        keep(shared, controllers, shutdown).await;
    }
}

async fn keep<K: Replicated>(shared: Shared, sets: Informer<K>, shutdown: CancellationToken) {
    let context = Arc::new(Context {
        recorder: Recorder::start(shared.client.clone(), K::COMPONENT),
        expectations: Expectations::default(),
        own_writes: OwnWrites::default(),
        sets: sets.clone(),
        shared: shared.clone(),
    });
    let orphans = context.clone();
    let controller = Controller::for_shared_stream(sets.stream(), sets.store())
        .watches_shared_stream(shared.pods.stream(), move |pod| orphans.owners(&pod));
    drive(K::NAME, controller, shutdown, move |object| {
        let context = context.clone();
        async move { context.reconcile(object).await }
    })
    .await;
}

struct Context<K: Replicated> {
    shared: Shared,
    sets: Informer<K>,
    recorder: Recorder,
    expectations: Expectations,
    own_writes: OwnWrites,
}

impl<K: Replicated> Context<K> {
    /// The object that manages the pod; for a pod without one, those that could adopt it.
    fn owners(&self, pod: &Pod) -> Vec<ObjectRef<K>> {
        let namespace = objects::namespace(pod);
        if let Some(owner) = objects::controller_of(pod) {
            if owner.kind != K::kind(&()) {
                return Vec::new();
            }
            return vec![ObjectRef::new(&owner.name).within(namespace)];
        }
        if objects::is_terminating(pod) {
            return Vec::new();
        }
        self.sets
            .all()
            .iter()
            .filter(|object| objects::namespace(&***object) == namespace)
            .filter(|object| {
                let set = K::as_set(object);
                objects::selects(&set.spec.selector, pod.metadata.labels.as_ref())
            })
            .map(|object| ObjectRef::from_obj(&**object))
            .collect()
    }

    async fn reconcile(&self, object: Arc<K>) -> Result<Option<Duration>, Error> {
        if self.own_writes.is_behind(&*object) {
            return Ok(Some(expectations::TIMEOUT));
        }
        let set = K::as_set(&object);
        let satisfied = self
            .expectations
            .satisfied(objects::uid(&*set), &self.shared.pods);
        if satisfied.is_err() && !objects::is_terminating(&*set) {
            // The pod events that are still to come bring the set back; the delay only guards against a lost one.
            return Ok(Some(expectations::TIMEOUT));
        }
        let matcher = Matcher::new(&set.spec.selector);
        let pods = claim(
            &self.shared.client,
            &*object,
            &self.shared.pods,
            |pod: &Pod| matcher.matches(pod.metadata.labels.as_ref()),
            // A finished pod is not worth adopting: it would only be collected with the set.
            |pod| !objects::is_finished(pod),
        )
        .await?;
        let active: Vec<Arc<Pod>> = pods
            .iter()
            .filter(|pod| objects::is_active(pod))
            .cloned()
            .collect();
        let failure = if objects::is_terminating(&*set) {
            None
        } else {
            self.manage(&object, &set, &active).await
        };
        let now = Timestamp::now();
        let observed =
            status::calculate(&set, &pods, failure.as_ref().map(Failure::condition), now);
        self.write_status(&object, observed.status).await?;
        match failure {
            Some(failure) => Err(failure.error),
            None => Ok(observed.look_again),
        }
    }

    async fn manage(&self, object: &K, set: &ReplicaSet, active: &[Arc<Pod>]) -> Option<Failure> {
        let control = PodControl {
            client: &self.shared.client,
            recorder: &self.recorder,
            owner: object,
        };
        let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
        let (mut created, mut deleted, mut failure) = (Vec::new(), Vec::new(), None);
        if active.len() < wanted {
            let template = set.spec.template.clone().unwrap_or_default();
            let pod = Arc::new(from_template(template, object));
            let missing = vec![pod; (wanted - active.len()).min(BURST_REPLICAS)];
            (created, failure) = control.create(&missing).await;
        } else if active.len() > wanted {
            let surplus = (active.len() - wanted).min(BURST_REPLICAS);
            let related = self.related_pods(set);
            let victims = ranking::choose(active, &related, surplus, Timestamp::now());
            (deleted, failure) = control.delete(victims).await;
        }
        self.expectations
            .wrote(objects::uid(set), &self.shared.pods, &created, deleted);
        failure
    }

    /// Pods of every ReplicaSet with the same managing owner: several on one node make each less needed there.
    fn related_pods(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let siblings = match objects::controller_of(set) {
            Some(owner) => self.shared.replica_sets.by_index(&owned_by(&owner.uid)),
            None => Vec::new(),
        };
        let mut uids: Vec<&str> = siblings
            .iter()
            .map(|sibling| objects::uid(&**sibling))
            .collect();
        if !uids.contains(&objects::uid(set)) {
            uids.push(objects::uid(set));
        }
        uids.into_iter()
            .flat_map(|uid| self.shared.pods.by_index(&owned_by(uid)))
            .filter(|pod| objects::is_active(pod))
            .collect()
    }

    async fn write_status(
        &self,
        object: &K,
        status: k8s_openapi::api::apps::v1::ReplicaSetStatus,
    ) -> Result<(), Error> {
        let changed = object.with_status(status);
        if changed == *object {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.shared.client.clone(), objects::namespace(object));
        match api
            .replace_status(&object.name_any(), &PostParams::default(), &changed)
            .await
        {
            Ok(written) => {
                self.own_writes.wrote(&written);
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(Error::api("update the status of", objects::key(object))(
                error,
            )),
        }
    }
}

/// The condition of this type.
pub(crate) fn condition<'a>(set: &'a ReplicaSet, type_: &str) -> Option<&'a ReplicaSetCondition> {
    set.status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some(type_))
}
