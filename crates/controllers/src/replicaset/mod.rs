//! The ReplicaSet controller: keeps as many pods of a template as are wanted.
//!
//! Follows `pkg/controller/replicaset` of kube-controller-manager.

mod claim;
pub(crate) mod expectations;
mod pods;
mod ranking;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::runtime::Controller;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::events::Recorder;
use crate::objects;
use crate::own_writes::OwnWrites;
use crate::shared::{Shared, owned_by};
use expectations::Expectations;

/// Pods created or deleted in one reconcile, as upstream.
const BURST_REPLICAS: usize = 500;

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let context = Arc::new(Context {
        recorder: Recorder::start(shared.client.clone(), "replicaset-controller"),
        expectations: Expectations::default(),
        own_writes: OwnWrites::default(),
        shared: shared.clone(),
    });
    let orphans = context.clone();
    let controller =
        Controller::for_shared_stream(shared.replica_sets.stream(), shared.replica_sets.store())
            .watches_shared_stream(shared.pods.stream(), move |pod| orphans.owners(&pod));
    drive("replicaset", controller, shutdown, move |replica_set| {
        let context = context.clone();
        async move { context.reconcile(replica_set).await }
    })
    .await;
}

struct Context {
    shared: Shared,
    recorder: Recorder,
    expectations: Expectations,
    own_writes: OwnWrites,
}

impl Context {
    /// The ReplicaSet that manages the pod; for a pod without one, those that could adopt it.
    fn owners(&self, pod: &Pod) -> Vec<ObjectRef<ReplicaSet>> {
        let namespace = objects::namespace(pod);
        if let Some(owner) = objects::controller_of(pod) {
            if owner.kind != "ReplicaSet" {
                return Vec::new();
            }
            return vec![ObjectRef::new(&owner.name).within(namespace)];
        }
        if objects::is_terminating(pod) {
            return Vec::new();
        }
        self.shared
            .replica_sets
            .all()
            .iter()
            .filter(|set| objects::namespace(&***set) == namespace)
            .filter(|set| objects::selects(&set.spec.selector, pod.metadata.labels.as_ref()))
            .map(|set| ObjectRef::from_obj(&**set))
            .collect()
    }

    async fn reconcile(&self, set: Arc<ReplicaSet>) -> Result<Option<Duration>, Error> {
        if self.own_writes.is_behind(&*set) {
            return Ok(Some(expectations::TIMEOUT));
        }
        let satisfied = self
            .expectations
            .satisfied(objects::uid(&*set), &self.shared.pods);
        if satisfied.is_err() && !objects::is_terminating(&*set) {
            // The pod events that are still to come bring the set back; the delay only guards against a lost one.
            return Ok(Some(expectations::TIMEOUT));
        }
        let pods = self.claim(&set).await?;
        let active: Vec<Arc<Pod>> = pods
            .iter()
            .filter(|pod| objects::is_active(pod))
            .cloned()
            .collect();
        let failure = if objects::is_terminating(&*set) {
            None
        } else {
            self.manage(&set, &active).await.err()
        };
        let now = Timestamp::now();
        let observed = status::calculate(
            &set,
            &pods,
            failure.as_ref().map(pods::Failure::condition),
            now,
        );
        self.write_status(&set, observed.status).await?;
        match failure {
            Some(failure) => Err(failure.error),
            None => Ok(observed.look_again),
        }
    }

    async fn manage(
        &self,
        set: &Arc<ReplicaSet>,
        active: &[Arc<Pod>],
    ) -> Result<(), pods::Failure> {
        let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
        if active.len() < wanted {
            self.create_pods(set, (wanted - active.len()).min(BURST_REPLICAS))
                .await
        } else if active.len() > wanted {
            let surplus = (active.len() - wanted).min(BURST_REPLICAS);
            let related = self.related_pods(set);
            let victims = ranking::choose(active, &related, surplus, Timestamp::now());
            self.delete_pods(set, victims).await
        } else {
            Ok(())
        }
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
        set: &ReplicaSet,
        status: k8s_openapi::api::apps::v1::ReplicaSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api: Api<ReplicaSet> =
            Api::namespaced(self.shared.client.clone(), objects::namespace(set));
        let mut changed = set.clone();
        changed.status = Some(status);
        match api
            .replace_status(&set.name_any(), &PostParams::default(), &changed)
            .await
        {
            Ok(written) => {
                self.own_writes.wrote(&written);
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(Error::api(
                "update the status of ReplicaSet",
                objects::key(set),
            )(error)),
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
