//! The Deployment controller: moves pods from one template to the next through ReplicaSets.
//!
//! Follows `pkg/controller/deployment` of kube-controller-manager.

pub mod arithmetic;
mod conditions;
pub(crate) mod revision;
mod rollout;
mod scaling;
mod sets;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::Controller;
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use crate::claim::claim;
use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::events::{Recorder, Severity};
use crate::objects::{self, Matcher};
use crate::own_writes::OwnWrites;
use crate::shared::Shared;
use arithmetic::Goal;
use conditions::PROGRESSING;
use status::Sets;

/// Guards against a lost event only: the newer version brings the Deployment back by itself.
const CACHE_WAIT: Duration = Duration::from_secs(5);

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let context = Arc::new(Context {
        recorder: Recorder::start(shared.client.clone(), "deployment-controller"),
        own_writes: OwnWrites::default(),
        shared: shared.clone(),
    });
    let (of_sets, of_pods) = (context.clone(), context.clone());
    let controller =
        Controller::for_shared_stream(shared.deployments.stream(), shared.deployments.store())
            .watches_shared_stream(shared.replica_sets.stream(), move |set| {
                of_sets.owners(&set)
            })
            .watches_shared_stream(shared.pods.stream(), move |pod| of_pods.waiting_for(&pod));
    drive("deployment", controller, shutdown, move |deployment| {
        let context = context.clone();
        async move { context.reconcile(deployment).await }
    })
    .await;
}

struct Context {
    shared: Shared,
    recorder: Recorder,
    own_writes: OwnWrites,
}

impl Context {
    fn owners(&self, set: &ReplicaSet) -> Vec<ObjectRef<Deployment>> {
        let namespace = objects::namespace(set);
        if let Some(owner) = objects::controller_of(set) {
            if owner.kind != "Deployment" {
                return Vec::new();
            }
            return vec![ObjectRef::new(&owner.name).within(namespace)];
        }
        if objects::is_terminating(set) {
            return Vec::new();
        }
        self.shared
            .deployments
            .all()
            .iter()
            .filter(|deployment| objects::namespace(&***deployment) == namespace)
            .filter(|deployment| {
                objects::selects(&deployment.spec.selector, set.metadata.labels.as_ref())
            })
            .map(|deployment| ObjectRef::from_obj(&**deployment))
            .collect()
    }

    /// The Recreate Deployment that may go on now that this pod ended; pods are of no interest otherwise.
    fn waiting_for(&self, pod: &Pod) -> Option<ObjectRef<Deployment>> {
        if objects::is_active(pod) {
            return None;
        }
        let namespace = objects::namespace(pod);
        let owner = objects::controller_of(pod).filter(|owner| owner.kind == "ReplicaSet")?;
        let set = self.shared.replica_sets.get(Some(namespace), &owner.name)?;
        let owner = objects::controller_of(&*set).filter(|owner| owner.kind == "Deployment")?;
        let deployment = self.shared.deployments.get(Some(namespace), &owner.name)?;
        (!Goal::of(&deployment).rolling).then(|| ObjectRef::from_obj(&*deployment))
    }

    async fn reconcile(&self, deployment: Arc<Deployment>) -> Result<Option<Duration>, Error> {
        if self.own_writes.is_behind(&*deployment) {
            return Ok(Some(CACHE_WAIT));
        }
        let now = Timestamp::now();
        if selects_everything(&deployment) {
            self.recorder.record(
                &*deployment,
                Severity::Warning,
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required."
                    .to_owned(),
            );
            let mut status = deployment.status.clone().unwrap_or_default();
            status.observed_generation = deployment.metadata.generation;
            self.write_status(&deployment, status).await?;
            return Ok(None);
        }
        let matcher = Matcher::new(&deployment.spec.selector);
        let owned = claim(
            &self.shared.client,
            &*deployment,
            &self.shared.replica_sets,
            |set: &ReplicaSet| matcher.matches(set.metadata.labels.as_ref()),
            |_| true,
        )
        .await?;
        if objects::is_terminating(&*deployment) {
            let sets = sets::divide(&deployment, owned);
            return self.sync_status(&deployment, &sets, now).await;
        }
        let deployment = self.check_paused(deployment, now).await?;
        if deployment.spec.paused == Some(true) || scaling::is_scaling(&deployment, &owned) {
            return self.sync(&deployment, owned, now).await;
        }
        if Goal::of(&deployment).rolling {
            self.roll(deployment, owned, now).await
        } else {
            self.recreate(deployment, owned, now).await
        }
    }

    /// Says in the Progressing condition that the Deployment was paused or resumed: the deadline does not count
    /// meanwhile.
    async fn check_paused(
        &self,
        deployment: Arc<Deployment>,
        now: Timestamp,
    ) -> Result<Arc<Deployment>, Error> {
        if conditions::deadline(&deployment).is_none() {
            return Ok(deployment);
        }
        let mut status = deployment.status.clone().unwrap_or_default();
        let known = conditions::reason(&status, PROGRESSING).to_owned();
        if known == conditions::DEADLINE_EXCEEDED {
            return Ok(deployment);
        }
        let paused = deployment.spec.paused == Some(true);
        let (reason, message) = match (paused, known == conditions::PAUSED) {
            (true, false) => (conditions::PAUSED, "Deployment is paused"),
            (false, true) => (conditions::RESUMED, "Deployment is resumed"),
            _ => return Ok(deployment),
        };
        let condition = conditions::new(PROGRESSING, "Unknown", reason, message.to_owned(), now);
        conditions::set(&mut status, condition);
        self.write_status(&deployment, status).await
    }

    /// Status without progress: while paused, being scaled or being deleted.
    async fn sync_status(
        &self,
        deployment: &Arc<Deployment>,
        sets: &Sets,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        let status = status::calculate(deployment, sets, now);
        self.write_status(deployment, status).await?;
        Ok(None)
    }

    /// Writes the status if it differs; returns the Deployment as it is then.
    async fn write_status(
        &self,
        deployment: &Arc<Deployment>,
        status: DeploymentStatus,
    ) -> Result<Arc<Deployment>, Error> {
        if deployment.status.as_ref() == Some(&status) {
            return Ok(deployment.clone());
        }
        let mut changed = Deployment::clone(deployment);
        changed.status = Some(status);
        match self
            .api(deployment)
            .replace_status(
                objects::name(&**deployment),
                &PostParams::default(),
                &changed,
            )
            .await
        {
            Ok(written) => {
                self.own_writes.wrote(&written);
                Ok(Arc::new(written))
            }
            Err(error) if is_not_found(&error) => Ok(deployment.clone()),
            Err(error) => Err(Error::api(
                "update the status of Deployment",
                objects::key(&**deployment),
            )(error)),
        }
    }

    fn api(&self, deployment: &Deployment) -> Api<Deployment> {
        Api::namespaced(self.shared.client.clone(), objects::namespace(deployment))
    }

    fn sets_api(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        Api::namespaced(self.shared.client.clone(), objects::namespace(deployment))
    }
}

fn selects_everything(deployment: &Deployment) -> bool {
    let selector = &deployment.spec.selector;
    selector
        .match_labels
        .as_ref()
        .is_none_or(|labels| labels.is_empty())
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(|expressions| expressions.is_empty())
}
