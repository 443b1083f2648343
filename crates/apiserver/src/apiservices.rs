//! The APIServices of what this server answers itself: one for each group version, as upstream's aggregator makes them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::Error;
use crate::object;
use crate::server::State;

/// Marks those that the server makes and takes away.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Groups by weight: the one that is listed first wins where two groups have a resource of a name.
const GROUPS: [(&str, i64); 19] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
];
/// Of groups that users and extensions bring.
const OTHERS: (i64, i64) = (1000, 100);

/// The object of a group version that is answered here.
fn local(group: &str, version: &str) -> Value {
    let known = GROUPS.iter().find(|(known, _)| *known == group);
    let (of_group, of_version) = match (known, version) {
        (None, _) => OTHERS,
        (Some(("", weight)), _) => (*weight, 1),
        (Some((_, weight)), "v2") => (*weight, 30),
        (Some((_, weight)), _) => (*weight, 15),
    };
    json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: "onstart"}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version},
    })
}

/// What the server answers: every group version but the one of APIServices themselves.
fn served(state: &State) -> Vec<(String, String)> {
    let mut all = vec![(String::new(), "v1".to_owned())];
    for (group, versions) in crate::discovery::groups(state) {
        if group != "apiregistration.k8s.io" {
            all.extend(versions.into_iter().map(|version| (group.clone(), version)));
        }
    }
    all
}

/// Makes those that are missing, all at once: each would wait for a sync of its own otherwise.
pub(crate) async fn ensure(state: &Arc<State>) -> Result<(), Error> {
    let missing = served(state)
        .into_iter()
        .map(|(group, version)| local(&group, &version))
        .map(|object| {
            crate::bootstrap::ensure(
                state,
                "apiregistration.k8s.io",
                "v1",
                "apiservices",
                "",
                object,
            )
        });
    futures::future::try_join_all(missing).await.map(drop)
}

/// Takes away those whose group version is not answered any more.
pub(crate) async fn sweep(state: &State) -> Result<(), store::Error> {
    let prefix = "/registry/apiregistration.k8s.io/apiservices/";
    let page = state.store.range(prefix, None, 0, None).await?;
    let served = served(state);
    for kv in &page.items {
        let value = object::parse(&kv.value, kv.mod_revision);
        let spec = |key: &str| object::text(&value, &["spec", key]).to_owned();
        let is_local = object::at(&value, &["spec", "service"]).is_none();
        if value["metadata"]["labels"][MANAGED].is_string()
            && is_local
            && !served.contains(&(spec("group"), spec("version")))
        {
            let expect = store::Expect::Revision(kv.mod_revision);
            state.store.delete(&kv.key, expect).await?;
        }
    }
    Ok(())
}

/// One that names a Service, for what this server answers itself, is available all the same.
pub(crate) fn settle(state: &State, value: &mut Value) {
    let spec = |key: &str| object::text(value, &["spec", key]).to_owned();
    if value["spec"]["service"].is_object()
        && state
            .aggregator
            .find(&spec("group"), &spec("version"))
            .is_some()
    {
        value["status"]["conditions"] = json!([{
            "type": "Available", "status": "True", "reason": "Local",
            "message": "this server answers the group version itself; the Service is not asked",
            "lastTransitionTime": crate::time::now(),
        }]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        let weights = |group: &str, version: &str| {
            let spec = local(group, version)["spec"].clone();
            (
                spec["groupPriorityMinimum"].clone(),
                spec["versionPriority"].clone(),
            )
        };
        assert_eq!(weights("", "v1"), (18_000.into(), 1.into()));
        assert_eq!(weights("autoscaling", "v2"), (17_500.into(), 30.into()));
        assert_eq!(weights("apps", "v1"), (17_800.into(), 15.into()));
        assert_eq!(weights("example.com", "v1"), (1000.into(), 100.into()));
        assert_eq!(local("", "v1")["metadata"]["name"], "v1.");
    }
}
