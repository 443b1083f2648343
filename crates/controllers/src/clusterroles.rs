//! Aggregated ClusterRoles: a role with an aggregation rule has the rules of all roles that it selects (upstream's
//! clusterrole-aggregation controller).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::informer::Informer;
use crate::objects::{self, Matcher};
use crate::shared::Shared;

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let roles: Informer<ClusterRole> = Informer::start(
        Api::all(shared.client.clone()),
        watcher::Config::default().any_semantic(),
        |_| Vec::new(),
        |_| {},
        shutdown.clone(),
    );
    if !roles.ready().await {
        return;
    }
    let all = roles.clone();
    // whom a change concerns its labels tell, and those that it had: there are few, so each is looked at
    let controller = Controller::for_shared_stream(roles.stream(), roles.store())
        .watches_shared_stream(roles.stream(), move |_| {
            let aggregated = all.all().into_iter().filter(|role| is_aggregated(role));
            let refs: Vec<_> = aggregated.map(|role| ObjectRef::from_obj(&*role)).collect();
            refs
        });
    let client = shared.client;
    drive(
        "clusterrole-aggregation",
        controller,
        shutdown,
        move |role| {
            let (client, roles) = (client.clone(), roles.clone());
            async move { reconcile(&client, &role, &roles.all()).await }
        },
    )
    .await;
}

fn is_aggregated(role: &ClusterRole) -> bool {
    role.aggregation_rule.is_some()
}

async fn reconcile(
    client: &kube::Client,
    role: &ClusterRole,
    all: &[Arc<ClusterRole>],
) -> Result<Option<Duration>, Error> {
    let Some(rules) = aggregate(role, all) else {
        return Ok(None);
    };
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Ok(None);
    }
    let name = objects::name(role);
    // of another version of the role this would not be true
    let change = json!({
        "metadata": {"resourceVersion": role.metadata.resource_version, "uid": role.metadata.uid}, "rules": rules,
    });
    let api: Api<ClusterRole> = Api::all(client.clone());
    match api
        .patch(name, &PatchParams::default(), &Patch::Merge(&change))
        .await
    {
        Ok(_) => Ok(None),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(Error::api("aggregate ClusterRole", name)(error)),
    }
}

/// The rules that an aggregated role should have: those of the roles that its selectors choose, selector by selector and
/// by name, each once.
pub fn aggregate(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let aggregation = role.aggregation_rule.as_ref()?;
    let mut by_name: Vec<&Arc<ClusterRole>> = all.iter().collect();
    by_name.sort_by_key(|role| objects::name(&***role).to_owned());
    let mut rules = Vec::new();
    for selector in aggregation.cluster_role_selectors.iter().flatten() {
        let selector = Matcher::new(selector);
        let selected = by_name.iter().filter(|other| {
            objects::name(&****other) != objects::name(role)
                && selector.matches(other.metadata.labels.as_ref())
        });
        for rule in selected.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn role(name: &str, labels: Value, from: Value, resources: &[&str]) -> Arc<ClusterRole> {
        let rules: Vec<Value> = resources
            .iter()
            .map(|resource| json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]}))
            .collect();
        let mut object = json!({"metadata": {"name": name, "labels": labels}, "rules": rules});
        if !from.is_null() {
            object["aggregationRule"] = json!({"clusterRoleSelectors": from});
        }
        Arc::new(serde_json::from_value(object).expect("a ClusterRole"))
    }

    #[test]
    fn rules_of_the_selected_by_name_and_once() {
        let from = |labels: &[&str]| -> Value {
            labels
                .iter()
                .map(|label| json!({"matchLabels": {*label: "true"}}))
                .collect()
        };
        let all = [
            role("c", json!({"a": "true"}), Value::Null, &["pods", "nodes"]),
            role(
                "b",
                json!({"a": "true", "z": "true"}),
                Value::Null,
                &["services", "pods"],
            ),
            role("d", json!({"a": "false"}), Value::Null, &["secrets"]),
            role("e", json!({"y": "true"}), Value::Null, &["events"]),
            role("self", json!({"a": "true"}), from(&["a"]), &["old"]),
        ];
        let resources = |role: &ClusterRole| -> Option<Vec<String>> {
            let rules = aggregate(role, &all)?.into_iter();
            Some(rules.flat_map(|rule| rule.resources).flatten().collect())
        };
        let of = |labels: &[&str]| {
            resources(&role("self", json!({}), from(labels), &[])).expect("aggregated")
        };
        assert_eq!(of(&["a"]), ["services", "pods", "nodes"]);
        assert_eq!(of(&["y", "a"]), ["events", "services", "pods", "nodes"]);
        assert_eq!(of(&["none"]), [""; 0]);
        assert_eq!(of(&[]), [""; 0]);
        assert_eq!(resources(&all[0]), None, "without a rule nothing is done");
    }
}
