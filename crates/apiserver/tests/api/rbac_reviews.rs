//! Who am I, may I, may they, what may I; and acting as somebody else.

use apiserver::Identity;
use serde_json::{Value, json};

use crate::rbac::{BINDINGS, RBAC, ROLES, binding, role, rule};
use crate::server::{CONFIG_MAPS, Server};

const SELF: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const OTHERS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const LOCAL: &str = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn may(verb: &str, resource: &str, namespace: &str) -> Value {
    json!({"verb": verb, "resource": resource, "namespace": namespace})
}

async fn with_reader() -> Server {
    let mut server = Server::new().await;
    let rules = json!([rule(&["get", "list"], "", &["configmaps"])]);
    server.post(ROLES, &role("reader", rules)).await.expect(201);
    let bound = binding("jane", "Role/reader", "jane");
    server.post(BINDINGS, &bound).await.expect(201);
    server.turn("jane", &[]);
    server.until(CONFIG_MAPS, 200).await;
    server
}

#[tokio::test]
async fn access_reviews_answer_as_the_request_would_be() {
    let mut server = with_reader().await;
    let ask = async |attributes: Value| {
        let body = json!({"spec": {"resourceAttributes": attributes}});
        server.post(SELF, &body).await.expect(201)["status"].clone()
    };
    assert_eq!(
        ask(may("get", "configmaps", "default")).await,
        json!({"allowed": true, "reason": "RBAC: allowed by RoleBinding \"jane/default\" of Role \"reader\" to User \"jane\""})
    );
    for denied in [
        may("delete", "configmaps", "default"),
        may("get", "configmaps", ""),
        may("get", "pods", "default"),
    ] {
        assert_eq!(
            ask(denied.clone()).await,
            json!({"allowed": false}),
            "{denied}"
        );
    }
    let url = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/version"}}});
    assert_eq!(
        server.post(SELF, &url).await.expect(201)["status"]["allowed"],
        true
    );
    // of others only who may ask
    let about = |user: &str, groups: &[&str]| json!({"spec": {"user": user, "groups": groups, "resourceAttributes": may("list", "configmaps", "default")}});
    server.post(OTHERS, &about("jane", &[])).await.refusal(403);
    server.post(LOCAL, &about("jane", &[])).await.refusal(403);
    server.identity = Identity::admin();
    for path in [OTHERS, LOCAL] {
        for (user, groups, allowed) in [
            ("jane", &[][..], true),
            ("john", &[], false),
            ("", &["system:masters"], true),
            ("", &["people"], false),
        ] {
            let answer = server.post(path, &about(user, groups)).await.expect(201);
            assert_eq!(answer["status"]["allowed"], allowed, "{user} {groups:?}");
        }
    }
}

#[tokio::test]
async fn reviews_that_ask_nothing_are_refused() {
    let server = Server::new().await;
    let attributes = may("get", "pods", "default");
    let url = json!({"verb": "get", "path": "/"});
    for (path, body, code, why) in [
        (
            SELF,
            json!({"spec": {}}),
            422,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            SELF,
            json!({"spec": {"resourceAttributes": attributes, "nonResourceAttributes": url}}),
            422,
            "cannot be specified in combination with resourceAttributes",
        ),
        (
            SELF,
            json!({"metadata": {"name": "a"}, "spec": {"resourceAttributes": attributes}}),
            422,
            "must be empty",
        ),
        (
            OTHERS,
            json!({"spec": {"resourceAttributes": attributes}}),
            422,
            "at least one of user or group must be specified",
        ),
        (
            LOCAL,
            json!({"spec": {"user": "a", "resourceAttributes": may("get", "pods", "other")}}),
            422,
            "must match metadata.namespace",
        ),
        (
            LOCAL,
            json!({"spec": {"user": "a", "nonResourceAttributes": url}}),
            422,
            "disallowed on this kind of request",
        ),
        (
            LOCAL,
            json!({"metadata": {"namespace": "other"}, "spec": {"user": "a", "resourceAttributes": attributes}}),
            400,
            "does not match the namespace",
        ),
        (RULES, json!({"spec": {}}), 400, "no namespace on request"),
    ] {
        let said = server.post(path, &body).await.refusal(code);
        assert!(said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn rules_are_told_of_a_namespace() {
    let mut server = with_reader().await;
    let of = async |server: &Server, namespace: &str| {
        let body = json!({"spec": {"namespace": namespace}});
        server.post(RULES, &body).await.expect(201)["status"].clone()
    };
    let own = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["configmaps"]});
    let told = of(&server, "default").await;
    let rules = told["resourceRules"].as_array().expect("rules");
    assert!(rules.contains(&own), "{told}");
    assert!(
        rules
            .iter()
            .any(|rule| rule["resources"] == json!(["selfsubjectreviews"])),
        "{told}"
    );
    let urls = told["nonResourceRules"].as_array().expect("rules");
    assert!(
        urls.iter().any(|rule| rule["nonResourceURLs"]
            .as_array()
            .is_some_and(|urls| urls.contains(&json!("/apis/*")))),
        "{told}"
    );
    assert_eq!(told["incomplete"], false);
    let elsewhere = of(&server, "kube-system").await;
    let rules = elsewhere["resourceRules"].as_array().expect("rules");
    assert!(!rules.contains(&own), "{elsewhere}");
    server.identity = Identity::admin();
    let all = of(&server, "default").await;
    assert_eq!(
        all["resourceRules"][0],
        json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
    );
}

async fn who(server: &Server, headers: &[(&str, &str)]) -> crate::server::Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    server.ask("POST", WHOAMI, &all, "{}").await
}

#[tokio::test]
async fn acting_as_somebody_needs_each_right() {
    let mut server = Server::new().await;
    let rules = json!([
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["john", "system:anonymous"]},
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["people"]},
        {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "resourceNames": ["view"]},
    ]);
    server
        .post(&format!("{RBAC}/clusterroles"), &role("actor", rules))
        .await
        .expect(201);
    let bindings = format!("{RBAC}/clusterrolebindings");
    server
        .post(&bindings, &binding("jane", "ClusterRole/actor", "jane"))
        .await
        .expect(201);
    // in their namespace, accounts are more than users
    let accounts = json!([rule(&["impersonate"], "", &["serviceaccounts"])]);
    server
        .post(ROLES, &role("accounts", accounts))
        .await
        .expect(201);
    server
        .post(BINDINGS, &binding("jane", "Role/accounts", "jane"))
        .await
        .expect(201);
    server.turn("jane", &[]);
    let robot = "system:serviceaccount:default:robot";
    let wait = async {
        while who(&server, &[("impersonate-user", "john")]).await.code != 201
            || who(&server, &[("impersonate-user", robot)]).await.code != 201
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait)
        .await
        .expect("allowed in time");
    let info = async |headers: &[(&str, &str)]| {
        who(&server, headers).await.expect(201)["status"]["userInfo"].clone()
    };
    assert_eq!(
        info(&[("impersonate-user", "john")]).await,
        json!({"username": "john", "groups": ["system:authenticated"]})
    );
    assert_eq!(
        info(&[
            ("impersonate-user", "john"),
            ("impersonate-group", "people"),
            ("impersonate-extra-scopes", "view")
        ])
        .await,
        json!({"username": "john", "groups": ["people", "system:authenticated"], "extra": {"scopes": ["view"]}})
    );
    assert_eq!(
        info(&[("impersonate-user", robot)]).await,
        json!({"username": robot, "groups": ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]})
    );
    for (headers, why) in [
        (
            vec![("impersonate-user", "boss")],
            "users \"boss\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
        ),
        (
            vec![
                ("impersonate-user", "john"),
                ("impersonate-group", "system:masters"),
            ],
            "cannot impersonate resource \"groups\"",
        ),
        (
            vec![
                ("impersonate-user", "john"),
                ("impersonate-group", "people"),
                ("impersonate-group", "system:masters"),
            ],
            "cannot impersonate resource \"groups\"",
        ),
        (
            vec![("impersonate-user", "john"), ("impersonate-uid", "1")],
            "cannot impersonate resource \"uids\" in API group \"authentication.k8s.io\"",
        ),
        (
            vec![
                ("impersonate-user", "john"),
                ("impersonate-extra-scopes", "admin"),
            ],
            "cannot impersonate resource \"userextras/scopes\"",
        ),
        (
            vec![(
                "impersonate-user",
                "system:serviceaccount:kube-system:robot",
            )],
            "cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace \"kube-system\"",
        ),
        // nobody may ask who he is
        (
            vec![("impersonate-user", "system:anonymous")],
            "User \"system:anonymous\" cannot create resource \"selfsubjectreviews\"",
        ),
    ] {
        let said = who(&server, &headers).await.refusal(403);
        assert!(said.contains(why), "{said}");
    }
    who(&server, &[("impersonate-group", "people")])
        .await
        .refusal(500);
    // whoever is impersonated is held to their own rights
    server
        .ask("GET", CONFIG_MAPS, &[("impersonate-user", "john")], "")
        .await
        .refusal(403);
}
