//! The roles that every cluster has: there from the start, and mended at the next.

use serde_json::{Value, json};

use crate::rbac::{BINDINGS, RBAC, binding};
use crate::restarts::open;
use crate::server::{CONFIG_MAPS, PODS, Server, config_map};

#[tokio::test]
async fn they_are_there_and_say_whose_they_are() {
    let server = Server::new().await;
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:discovery",
        "system:basic-user",
        "system:public-info-viewer",
        "system:node",
        "system:controller:deployment-controller",
    ] {
        let role = server
            .get(&format!("{RBAC}/clusterroles/{name}"))
            .await
            .expect(200);
        assert_eq!(
            role["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"], "true",
            "{role}"
        );
    }
    server
        .get(&format!("{RBAC}/namespaces/kube-system/rolebindings/system::extension-apiserver-authentication-reader"))
        .await
        .expect(200);
}

#[tokio::test]
async fn what_somebody_broke_is_mended_at_the_next_start() {
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-rbac-")
        .tempdir()
        .expect("a directory");
    let file = dir.path().join("store.redb");
    let (view, discovery) = (
        format!("{RBAC}/clusterroles/view"),
        format!("{RBAC}/clusterroles/system:discovery"),
    );
    let bound = format!("{RBAC}/clusterrolebindings/system:basic-user");
    {
        let server = Server::over(open(&file, 100).await, |_| {}).await;
        server.delete(&view, &Value::Null).await.expect(200);
        let rules = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/mine"]}]});
        server.patch(&discovery, "merge", &rules).await.expect(200);
        let nobody = json!({"subjects": [], "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}});
        server.patch(&bound, "merge", &nobody).await.expect(200);
        server.api.stop();
    }
    let server = Server::over(open(&file, 100).await, |_| {}).await;
    server.get(&view).await.expect(200);
    let rules = server.get(&discovery).await.expect(200)["rules"].to_string();
    assert!(
        rules.contains("/mine") && rules.contains("/apis/*"),
        "{rules}"
    );
    let bound = server.get(&bound).await.expect(200);
    assert_eq!(
        bound["subjects"]
            .as_array()
            .map(Vec::len)
            .unwrap_or_default(),
        0,
        "{bound}"
    );
}

#[tokio::test]
async fn editors_edit_and_viewers_view() {
    let mut server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    for (name, of) in [("eve", "edit"), ("vic", "view")] {
        let of = format!("ClusterRole/system:aggregate-to-{of}");
        server
            .post(BINDINGS, &binding(name, &of, name))
            .await
            .expect(201);
    }
    server.turn("vic", &[]);
    server.until(CONFIG_MAPS, 200).await;
    server
        .get("/api/v1/namespaces/default/secrets")
        .await
        .refusal(403);
    server
        .post(CONFIG_MAPS, &config_map("b"))
        .await
        .refusal(403);
    server.turn("eve", &[]);
    server
        .until("/api/v1/namespaces/default/secrets", 200)
        .await;
    server.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
    server
        .get(&format!("{RBAC}/namespaces/default/roles"))
        .await
        .refusal(403);
    server.get("/api/v1/nodes").await.refusal(403);
    server.get(&format!("{PODS}/none/log")).await.refusal(403);
}

/// What the parts of this program do with their own identities.
#[tokio::test]
async fn the_programs_own_roles_may_what_they_need_and_no_more() {
    let mut server = Server::new().await;
    let review = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let metrics = "system:serviceaccount:kube-system:metrics-server";
    let cases = [
        (
            "system:kube-controller-manager",
            "",
            "create",
            "",
            "pods",
            true,
        ),
        (
            "system:kube-controller-manager",
            "",
            "patch",
            "apps",
            "deployments/status",
            true,
        ),
        (
            "system:kube-controller-manager",
            "",
            "update",
            "apps",
            "deployments/scale",
            true,
        ),
        (
            "system:kube-controller-manager",
            "",
            "create",
            "",
            "serviceaccounts/token",
            true,
        ),
        (
            "system:kube-controller-manager",
            "",
            "escalate",
            "rbac.authorization.k8s.io",
            "clusterroles",
            true,
        ),
        (
            "system:kube-controller-manager",
            "",
            "escalate",
            "rbac.authorization.k8s.io",
            "roles",
            false,
        ),
        (
            "system:kube-controller-manager",
            "",
            "impersonate",
            "",
            "users",
            false,
        ),
        (
            "system:kube-scheduler",
            "",
            "create",
            "",
            "pods/binding",
            true,
        ),
        (
            "system:kube-scheduler",
            "",
            "patch",
            "",
            "pods/status",
            true,
        ),
        (
            "system:kube-scheduler",
            "",
            "watch",
            "storage.k8s.io",
            "storageclasses",
            true,
        ),
        ("system:kube-scheduler", "", "create", "", "pods", false),
        ("system:kube-scheduler", "", "get", "", "secrets", false),
        (
            "system:node:one",
            "system:nodes",
            "patch",
            "",
            "pods/status",
            true,
        ),
        (
            "system:node:one",
            "system:nodes",
            "create",
            "",
            "serviceaccounts/token",
            true,
        ),
        (
            "system:node:one",
            "system:nodes",
            "watch",
            "networking.k8s.io",
            "networkpolicies",
            true,
        ),
        (
            "system:node:one",
            "system:nodes",
            "create",
            "",
            "secrets",
            false,
        ),
        (
            "system:node:one",
            "system:nodes",
            "create",
            "rbac.authorization.k8s.io",
            "clusterrolebindings",
            false,
        ),
        ("system:node:one", "", "get", "", "pods", false),
        (metrics, "", "get", "", "nodes/proxy", true),
        (metrics, "", "watch", "", "pods", true),
        (metrics, "", "get", "", "secrets", false),
        ("system:apiserver", "", "get", "", "pods", false),
    ];
    server.turn("kubernetes-admin", &["system:masters"]);
    for (user, group, verb, api_group, resource, allowed) in cases {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let groups: Vec<&str> = Some(group).filter(|g| !g.is_empty()).into_iter().collect();
        let body = json!({"spec": {"user": user, "groups": groups, "resourceAttributes":
            {"verb": verb, "group": api_group, "resource": resource, "subresource": subresource}}});
        let answer = server.post(review, &body).await.expect(201);
        assert_eq!(
            answer["status"]["allowed"], allowed,
            "{body} {}",
            answer["status"]
        );
    }
}
