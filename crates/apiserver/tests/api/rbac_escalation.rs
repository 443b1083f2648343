//! Nobody hands out what they do not hold.

use serde_json::{Value, json};

use crate::rbac::{BINDINGS, RBAC, ROLES, binding, role, rule};
use crate::server::{CONFIG_MAPS, Server};

/// Jane may write roles and bindings in `default`, and read ConfigMaps there.
async fn with_jane() -> Server {
    let mut server = Server::new().await;
    let all = ["create", "delete", "get", "list", "patch", "update"];
    let rules = json!([
        rule(
            &all,
            "rbac.authorization.k8s.io",
            &["roles", "rolebindings"]
        ),
        rule(&["get", "list"], "", &["configmaps"]),
    ]);
    server.post(ROLES, &role("writer", rules)).await.expect(201);
    let bound = binding("jane", "Role/writer", "jane");
    server.post(BINDINGS, &bound).await.expect(201);
    server.turn("jane", &["people"]);
    server.until(CONFIG_MAPS, 200).await;
    server
}

/// Waits until jane may do it.
async fn until_made(server: &Server, path: &str, object: &Value) {
    let wait = async {
        loop {
            let answer = server.post(path, object).await;
            if answer.code == 201 {
                return;
            }
            answer.refusal(403);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait)
        .await
        .expect("allowed in time");
}

#[tokio::test]
async fn roles_give_no_more_than_their_writer_has() {
    let mut server = with_jane().await;
    let held = role("held", json!([rule(&["get"], "", &["configmaps"])]));
    server.post(ROLES, &held).await.expect(201);
    let more = json!([rule(
        &["get", "list", "delete"],
        "",
        &["configmaps", "secrets"]
    )]);
    let said = server
        .post(ROLES, &role("more", more.clone()))
        .await
        .refusal(403);
    assert_eq!(
        said,
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"people\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"delete\"]}\n\
         {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\" \"delete\"]}"
    );
    let path = format!("{ROLES}/held");
    for kind in ["merge", "strategic-merge"] {
        let change = json!({"rules": more});
        let said = server.patch(&path, kind, &change).await.refusal(403);
        assert!(said.contains("not currently held"), "{said}");
    }
    let mut whole = server.get(&path).await.expect(200);
    whole["rules"] = json!([rule(&["*"], "*", &["*"])]);
    server.put(&path, &whole).await.refusal(403);
    let apply = [("content-type", "application/apply-patch+yaml")];
    let body = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "applied"}, "rules": more});
    let applied = format!("{ROLES}/applied?fieldManager=jane");
    let said = server
        .ask("PATCH", &applied, &apply, body.to_string())
        .await
        .refusal(403);
    assert!(said.contains("not currently held"), "{said}");
    let dry = server
        .post(&format!("{ROLES}?dryRun=All"), &role("more", more.clone()))
        .await;
    dry.refusal(403);
    // less is allowed, and what does not concern rights
    let less = json!({"rules": [], "metadata": {"labels": {"a": "b"}}});
    server.patch(&path, "merge", &less).await.expect(200);
    // the verb escalate lifts it
    let escalate = role(
        "escalator",
        json!([rule(&["escalate"], "rbac.authorization.k8s.io", &["roles"])]),
    );
    server.admin_post(ROLES, &escalate).await;
    server
        .admin_post(BINDINGS, &binding("escalate", "Role/escalator", "jane"))
        .await;
    until_made(&server, ROLES, &role("more", more)).await;
}

#[tokio::test]
async fn a_writer_may_let_go_of_a_role_that_is_more_than_theirs() {
    let mut server = with_jane().await;
    let mut strong = role("strong", json!([rule(&["*"], "*", &["*"])]));
    strong["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    server.admin_post(ROLES, &strong).await;
    let path = format!("{ROLES}/strong");
    let finalizers = json!({"metadata": {"finalizers": ["example.com/b"]}});
    server.patch(&path, "merge", &finalizers).await.expect(200);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    server.patch(&path, "merge", &label).await.refusal(403);
}

#[tokio::test]
async fn bindings_bind_what_is_held_or_may_be_bound() {
    let mut server = with_jane().await;
    server
        .post(BINDINGS, &binding("own", "Role/writer", "john"))
        .await
        .expect(201);
    let said = server
        .post(
            BINDINGS,
            &binding("edit", "ClusterRole/system:aggregate-to-edit", "jane"),
        )
        .await
        .refusal(403);
    assert!(
        said.starts_with(
            "rolebindings.rbac.authorization.k8s.io \"edit\" is forbidden: user \"jane\" (groups="
        ),
        "{said}"
    );
    server
        .post(
            BINDINGS,
            &binding("admin", "ClusterRole/cluster-admin", "jane"),
        )
        .await
        .refusal(403);
    let said = server
        .post(BINDINGS, &binding("lost", "Role/none", "jane"))
        .await
        .refusal(404);
    assert_eq!(said, "roles.rbac.authorization.k8s.io \"none\" not found");
    // new subjects of a strong binding are as good as a new one
    server
        .admin_post(
            BINDINGS,
            &binding("strong", "ClusterRole/cluster-admin", "boss"),
        )
        .await;
    let subjects = json!({"subjects": [{"kind": "User", "name": "jane"}]});
    let path = format!("{BINDINGS}/strong");
    server.patch(&path, "merge", &subjects).await.refusal(403);
    // in the cluster she may nothing
    let all = binding("own", "ClusterRole/system:discovery", "jane");
    server
        .post(&format!("{RBAC}/clusterrolebindings"), &all)
        .await
        .refusal(403);
    // the verb bind, for one role
    let bind = json!([{"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["system:aggregate-to-edit"]}]);
    server.admin_post(ROLES, &role("binder", bind)).await;
    server
        .admin_post(BINDINGS, &binding("bind", "Role/binder", "jane"))
        .await;
    let edit = binding("edit", "ClusterRole/system:aggregate-to-edit", "jane");
    until_made(&server, BINDINGS, &edit).await;
    server
        .post(
            BINDINGS,
            &binding("admin", "ClusterRole/cluster-admin", "jane"),
        )
        .await
        .refusal(403);
}

#[tokio::test]
async fn aggregation_is_for_those_who_may_everything() {
    let mut server = Server::new().await;
    let roles = format!("{RBAC}/clusterroles");
    let rules = json!([
        rule(&["*"], "rbac.authorization.k8s.io", &["clusterroles"]),
        rule(&["get"], "", &["pods"]),
    ]);
    let mut without_escalate = rules.clone();
    without_escalate[0]["verbs"] = json!(["create", "update", "patch", "get", "list"]);
    server
        .post(&roles, &role("writer", without_escalate))
        .await
        .expect(201);
    let bindings = format!("{RBAC}/clusterrolebindings");
    server
        .post(&bindings, &binding("jane", "ClusterRole/writer", "jane"))
        .await
        .expect(201);
    server.turn("jane", &[]);
    server.until(&roles, 200).await;
    let mut collecting = role("collecting", json!([]));
    collecting["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let said = server.post(&roles, &collecting).await.refusal(403);
    assert_eq!(
        said,
        "clusterroles.rbac.authorization.k8s.io \"collecting\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
    );
    server.admin_post(&roles, &collecting).await;
    let path = format!("{roles}/collecting");
    let change = json!({"aggregationRule": null});
    server.patch(&path, "merge", &change).await.refusal(403);
}

#[tokio::test]
async fn an_exploding_rule_is_refused_and_not_compared() {
    let server = with_jane().await;
    let many: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    let bomb =
        json!([{"verbs": many, "apiGroups": many, "resources": many, "resourceNames": many}]);
    let said = server.post(ROLES, &role("bomb", bomb)).await.refusal(403);
    assert!(said.contains("too many combinations"), "{said}");
}
