//! The two kinds that keep a number of pods. The older one is looked at as the newer one, as upstream does.

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use serde::Serialize;

use crate::informer::Cached;

/// A kind that keeps a number of pods.
pub trait Replicated:
    Cached + Serialize + PartialEq + Resource<Scope = NamespaceResourceScope>
{
    /// The controller's name.
    const NAME: &str;
    /// Who its events are from.
    const COMPONENT: &str;

    /// It as a ReplicaSet.
    fn as_set(object: &Arc<Self>) -> Arc<ReplicaSet>;

    /// It with this status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicated for ReplicaSet {
    const NAME: &str = "replicaset";
    const COMPONENT: &str = "replicaset-controller";

    fn as_set(object: &Arc<Self>) -> Arc<ReplicaSet> {
        object.clone()
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self {
            status: Some(status),
            ..self.clone()
        }
    }
}

impl Replicated for ReplicationController {
    const NAME: &str = "replicationcontroller";
    const COMPONENT: &str = "replication-controller";

    fn as_set(object: &Arc<Self>) -> Arc<ReplicaSet> {
        let spec = object.spec.clone().unwrap_or_default();
        let mut set = ReplicaSet {
            metadata: object.metadata.clone(),
            status: object.status.clone().map(set_status),
            ..Default::default()
        };
        set.spec.replicas = spec.replicas;
        set.spec.min_ready_seconds = spec.min_ready_seconds;
        set.spec.template = spec.template;
        set.spec.selector = LabelSelector {
            match_labels: spec.selector,
            match_expressions: None,
        };
        Arc::new(set)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self {
            status: Some(controller_status(status)),
            ..self.clone()
        }
    }
}

fn set_status(status: ReplicationControllerStatus) -> ReplicaSetStatus {
    let condition = |condition: ReplicationControllerCondition| {
        k8s_openapi::api::apps::v1::ReplicaSetCondition {
            type_: Some(condition.type_),
            status: Some(condition.status),
            reason: condition.reason,
            message: condition.message,
            last_transition_time: condition.last_transition_time,
        }
    };
    ReplicaSetStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        observed_generation: status.observed_generation,
        terminating_replicas: None,
        conditions: status
            .conditions
            .map(|all| all.into_iter().map(condition).collect()),
    }
}

/// The older kind does not tell how many pods are terminating.
fn controller_status(status: ReplicaSetStatus) -> ReplicationControllerStatus {
    let condition = |condition: k8s_openapi::api::apps::v1::ReplicaSetCondition| {
        ReplicationControllerCondition {
            type_: condition.type_.unwrap_or_default(),
            status: condition.status.unwrap_or_default(),
            reason: condition.reason,
            message: condition.message,
            last_transition_time: condition.last_transition_time,
        }
    };
    ReplicationControllerStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        observed_generation: status.observed_generation,
        conditions: status
            .conditions
            .map(|all| all.into_iter().map(condition).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_replication_controller_is_looked_at_as_a_set_and_back() {
        let controller: ReplicationController = serde_json::from_value(json!({
            "metadata": {"name": "old", "namespace": "shop", "uid": "u", "generation": 2},
            "spec": {"replicas": 3, "minReadySeconds": 4, "selector": {"app": "old"},
                "template": {"metadata": {"labels": {"app": "old"}}, "spec": {"containers": []}}},
            "status": {"replicas": 1, "readyReplicas": 1, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}]},
        }))
        .unwrap();
        let controller = Arc::new(controller);
        let set = ReplicationController::as_set(&controller);
        assert_eq!(
            (set.spec.replicas, set.spec.min_ready_seconds),
            (Some(3), Some(4))
        );
        assert_eq!(
            json!(set.spec.selector),
            json!({"matchLabels": {"app": "old"}})
        );
        assert_eq!(
            json!(set.spec.template),
            json!(controller.spec.as_ref().unwrap().template)
        );
        assert_eq!(set.metadata, controller.metadata);
        let mut status = set.status.clone().unwrap();
        status.terminating_replicas = Some(7);
        assert_eq!(controller.with_status(status), *controller);
    }
}
