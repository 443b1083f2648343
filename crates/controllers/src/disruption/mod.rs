//! The disruption controller: counts the healthy pods of each PodDisruptionBudget, and how many of them may go.
//!
//! Follows `pkg/controller/disruption` of kube-controller-manager. Evictions take from `disruptionsAllowed` themselves and
//! note the pod; here it is counted as gone from then on, until it is, or for two minutes.

mod count;
mod scale;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::events::{Recorder, Severity};
use crate::informer::Informer;
use crate::objects::{self, Matcher};
use crate::own_writes::OwnWrites;
use crate::shared::{Shared, in_namespace};

/// The longest wait for a write of our own to come back by the watch.
const LOST_EVENT: Duration = Duration::from_secs(60);

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let budgets: Informer<PodDisruptionBudget> = Informer::start(
        Api::all(shared.client.clone()),
        watcher::Config::default().any_semantic(),
        |budget| vec![in_namespace(objects::namespace(budget))],
        |_| {},
        shutdown.clone(),
    );
    if !budgets.ready().await {
        return;
    }
    let context = Arc::new(Context {
        recorder: Recorder::start(shared.client.clone(), "controllermanager"),
        own_writes: OwnWrites::default(),
        shared: shared.clone(),
    });
    let (known, pods, labels) = (budgets.clone(), shared.pods.clone(), Labels::default());
    let of_pod = move |pod: Arc<Pod>| -> Vec<ObjectRef<PodDisruptionBudget>> {
        let there = pods.get(Some(objects::namespace(&*pod)), objects::name(&*pod));
        let there = there.is_some_and(|there| objects::uid(&*there) == objects::uid(&*pod));
        // it may have left a budget that does not select it any more
        let all = labels.have_changed(&pod, there);
        let budgets = known.by_index(&in_namespace(objects::namespace(&*pod)));
        budgets
            .iter()
            .filter(|budget| all || selects(budget, &pod))
            .map(|one| ObjectRef::from_obj(&**one))
            .collect()
    };
    let controller = Controller::for_shared_stream(budgets.stream(), budgets.store())
        .watches_shared_stream(shared.pods.stream(), of_pod);
    drive("disruption", controller, shutdown, move |budget| {
        let context = context.clone();
        async move { context.reconcile(budget).await }
    })
    .await;
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| Matcher::new(selector).matches(pod.metadata.labels.as_ref()))
}

/// The labels that pods had, by uid, told apart by their hashes: budgets are counted over all their pods, and most of what happens
/// to a pod concerns the few that select it.
#[derive(Default)]
struct Labels(Mutex<HashMap<String, u64>>);

impl Labels {
    /// Whether the pod had others when it was seen last.
    fn have_changed(&self, pod: &Pod, there: bool) -> bool {
        let mut hasher = DefaultHasher::new();
        pod.metadata.labels.hash(&mut hasher);
        let now = hasher.finish();
        let mut known = self.0.lock();
        let before = match there {
            true => known.insert(objects::uid(pod).to_owned(), now),
            false => known.remove(objects::uid(pod)),
        };
        before.is_some_and(|before| before != now)
    }
}

struct Context {
    shared: Shared,
    recorder: Recorder,
    own_writes: OwnWrites,
}

impl Context {
    async fn reconcile(&self, budget: Arc<PodDisruptionBudget>) -> Result<Option<Duration>, Error> {
        if self.own_writes.is_behind(&*budget) {
            return Ok(Some(LOST_EVENT));
        }
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let selects = selector.map(Matcher::new);
        let here = in_namespace(objects::namespace(&*budget));
        let pods: Vec<Arc<Pod>> = self
            .shared
            .pods
            .by_index(&here)
            .into_iter()
            .filter(|pod| {
                let labels = pod.metadata.labels.as_ref();
                selects
                    .as_ref()
                    .is_some_and(|selects| selects.matches(labels))
            })
            .collect();
        let scale = match count::needs_scale(&budget) {
            true => scale::expected(&self.shared, &pods).await,
            false => Ok(scale::Scale::default()),
        };
        let now = Timestamp::now();
        let counted = match &scale {
            Ok(scale) => count::count(&budget, &pods, scale.pods, now),
            Err(why) => Err(why.clone()),
        };
        let (status, again) = match counted {
            Ok(counted) => (counted.status, counted.again),
            Err(why) => (count::failed(&budget, &why, now), None),
        };
        if budget.status.as_ref() != Some(&status) {
            let unmanaged = scale.as_ref().is_ok_and(|scale| scale.unmanaged);
            let failure = scale.as_ref().err().map(String::as_str);
            self.tell(&budget, pods.is_empty(), unmanaged, failure);
            self.write_status(&budget, status).await?;
        }
        Ok(again)
    }

    fn tell(
        &self,
        budget: &PodDisruptionBudget,
        none: bool,
        unmanaged: bool,
        failure: Option<&str>,
    ) {
        if none {
            let message = "No matching pods found".to_owned();
            self.recorder
                .record(budget, Severity::Normal, "NoPods", message);
        }
        if let Some(why) = failure {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            let reason = "CalculateExpectedPodCountFailed";
            self.recorder
                .record(budget, Severity::Warning, reason, message);
        }
        if unmanaged {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let selector = serde_json::to_string(&selector).unwrap_or_default();
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            self.recorder
                .record(budget, Severity::Warning, "UnmanagedPods", message);
        }
    }

    async fn write_status(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), Error> {
        let api: Api<PodDisruptionBudget> =
            Api::namespaced(self.shared.client.clone(), objects::namespace(budget));
        let mut changed = budget.clone();
        changed.status = Some(status);
        let written = api
            .replace_status(objects::name(budget), &PostParams::default(), &changed)
            .await;
        match written {
            Ok(written) => {
                self.own_writes.wrote(&written);
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => {
                let what = "update the status of PodDisruptionBudget";
                Err(Error::api(what, objects::key(budget))(error))
            }
        }
    }
}
