//! Aggregated roles and secrets with tokens, against the real API server.

use crate::cluster::Cluster;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

async fn resources(roles: &Api<ClusterRole>, name: &str) -> Vec<String> {
    let role = roles.get(name).await.unwrap();
    let rules = role.rules.into_iter().flatten();
    rules.flat_map(|rule| rule.resources).flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregated_roles_follow() {
    let cluster = Cluster::start(None).await;
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    let has = async |name: &str, resource: &str| {
        let resources = resources(&roles, name).await;
        resources.iter().any(|one| one == resource)
    };
    cluster
        .until("the rules of admin", || async {
            has("admin", "roles").await && has("admin", "secrets").await
        })
        .await;
    assert!(has("edit", "secrets").await && !has("edit", "roles").await);
    assert!(has("view", "pods").await && !has("view", "secrets").await);
    let more: ClusterRole = serde_json::from_value(json!({
        "metadata": {"name": "more", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["widgets"]}],
    }))
    .unwrap();
    roles.create(&PostParams::default(), &more).await.unwrap();
    cluster
        .until("the new rule, up to the top", || async {
            has("view", "widgets").await
                && has("edit", "widgets").await
                && has("admin", "widgets").await
        })
        .await;
    let unlabelled =
        json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "false"}}});
    roles
        .patch("more", &PatchParams::default(), &Patch::Merge(unlabelled))
        .await
        .unwrap();
    cluster
        .until("its end", || async {
            !has("view", "widgets").await && !has("admin", "widgets").await
        })
        .await;
    // what somebody writes into an aggregated role does not stay
    let own = json!({"rules": []});
    roles
        .patch("view", &PatchParams::default(), &Patch::Merge(own))
        .await
        .unwrap();
    cluster
        .until("the rules again", || async { has("view", "pods").await })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_gets_a_token_and_goes_with_its_account() {
    let cluster = Cluster::start(None).await;
    let robot = |name: &str| json!({"metadata": {"name": name}});
    let _: ServiceAccount = cluster.create(robot("robot")).await;
    let secret = |name: &str, account: &str| -> Value {
        json!({
            "type": "kubernetes.io/service-account-token",
            "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
        })
    };
    let _: Secret = cluster.create(secret("one", "robot")).await;
    let secrets: Api<Secret> = cluster.api();
    let text = async |key: &str| {
        let secret = secrets.get("one").await.unwrap();
        let bytes = secret.data.unwrap_or_default().remove(key);
        bytes.map(|bytes| String::from_utf8(bytes.0).unwrap())
    };
    cluster
        .until("the token", || async { text("token").await.is_some() })
        .await;
    assert_eq!(text("namespace").await.as_deref(), Some("default"));
    assert_eq!(text("ca.crt").await.as_deref(), Some("PEM"));
    let before = text("token").await;
    let empty = json!({"data": {"token": null}});
    secrets
        .patch("one", &PatchParams::default(), &Patch::Merge(empty))
        .await
        .unwrap();
    cluster
        .until("another token", || async {
            text("token")
                .await
                .is_some_and(|token| Some(token) != before)
        })
        .await;
    // of an account that is not there
    let _: Secret = cluster.create(secret("two", "nobody")).await;
    cluster
        .until("its end", || async {
            secrets.get_opt("two").await.unwrap().is_none()
        })
        .await;
    assert!(secrets.get_opt("one").await.unwrap().is_some());
    let accounts: Api<ServiceAccount> = cluster.api();
    accounts
        .delete("robot", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .until("the end of its secret", || async {
            secrets.get_opt("one").await.unwrap().is_none()
        })
        .await;
}
