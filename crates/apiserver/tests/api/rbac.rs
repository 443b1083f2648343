//! Roles and bindings as kinds, and as what they are for: requests are allowed by them and by nothing else.

use apiserver::Identity;
use serde_json::{Value, json};

use crate::server::{CONFIG_MAPS, PODS, Server, config_map, pod};
use crate::tls::{Listening, exchange, listen_with};

pub const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
pub const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
pub const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
const GROUP: &str = "rbac.authorization.k8s.io";

pub fn role(name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

pub fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources})
}

/// A binding of `ClusterRole/NAME` or `Role/NAME` to a user.
pub fn binding(name: &str, of: &str, user: &str) -> Value {
    let (kind, role) = of.split_once('/').expect("KIND/NAME");
    json!({"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role}, "subjects": [{"kind": "User", "name": user}]})
}

impl Server {
    /// The same server, asked by somebody else.
    pub fn turn(&mut self, user: &str, groups: &[&str]) {
        self.identity = Identity::new(user, groups);
    }

    /// What an administrator does meanwhile.
    pub async fn admin_post(&mut self, path: &str, body: &Value) -> Value {
        let before = std::mem::replace(&mut self.identity, Identity::admin());
        let answer = self.post(path, body).await.expect(201);
        self.identity = before;
        answer
    }

    /// Waits until a GET is answered with this code: what a role allows is known a moment after it is written.
    pub async fn until(&self, path: &str, code: u16) {
        let wait = async {
            while self.get(path).await.code != code {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(20), wait)
            .await
            .is_err()
        {
            let answer = self.get(path).await;
            panic!("{path} is not answered with {code}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn what_is_bound_is_allowed_where_it_is_bound_and_as_long() {
    let mut server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    server.post(PODS, &pod("p")).await.expect(201);
    let read = json!([
        rule(&["get", "list"], "", &["configmaps", "pods/log"]),
        {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"]},
    ]);
    server.post(ROLES, &role("reader", read)).await.expect(201);
    server.turn("jane", &["people"]);
    server.get(CONFIG_MAPS).await.refusal(403);
    let made = server
        .admin_post(BINDINGS, &binding("jane", "Role/reader", "jane"))
        .await;
    assert_eq!(made["roleRef"]["apiGroup"], GROUP, "defaulted");
    assert_eq!(made["subjects"][0]["apiGroup"], GROUP, "defaulted");
    server.until(CONFIG_MAPS, 200).await;
    server.get(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    let secrets = "/api/v1/namespaces/default/secrets";
    // allowed, and not there
    server.get(&format!("{secrets}/one")).await.refusal(404);
    let named = format!("{secrets}?fieldSelector=metadata.name%3Done");
    server.get(&named).await.refusal(403);
    for (method, path) in [
        ("DELETE", format!("{CONFIG_MAPS}/a")),
        ("GET", format!("{CONFIG_MAPS}?watch=1")),
        ("GET", format!("{secrets}/two")),
        ("GET", secrets.to_owned()),
        ("GET", format!("{PODS}/p")),
        ("GET", format!("{PODS}/p/status")),
        ("GET", "/api/v1/configmaps".to_owned()),
        (
            "GET",
            "/api/v1/namespaces/kube-system/configmaps".to_owned(),
        ),
        ("GET", "/metrics".to_owned()),
    ] {
        let said = server.ask(method, &path, &[], "").await.refusal(403);
        assert!(said.contains("User \"jane\" cannot "), "{said}");
    }
    assert_eq!(
        server.get(&format!("{PODS}/p/status")).await.refusal(403),
        "pods \"p\" is forbidden: User \"jane\" cannot get resource \"pods/status\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(
        server.get("/metrics").await.refusal(403),
        "forbidden: User \"jane\" cannot get path \"/metrics\""
    );
    server.turn("john", &["people"]);
    server.get(CONFIG_MAPS).await.refusal(403);

    // taking it away
    server.turn("kubernetes-admin", &["system:masters"]);
    server
        .delete(&format!("{BINDINGS}/jane"), &Value::Null)
        .await
        .expect(200);
    server.turn("jane", &[]);
    server.until(CONFIG_MAPS, 403).await;
}

#[tokio::test]
async fn cluster_roles_count_everywhere_or_where_a_role_binding_says() {
    let mut server = Server::new().await;
    let rules = json!([
        rule(&["list", "watch"], "", &["configmaps"]),
        {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/logs/*"]},
    ]);
    let bindings = format!("{RBAC}/clusterrolebindings");
    server
        .post(&format!("{RBAC}/clusterroles"), &role("lister", rules))
        .await
        .expect(201);
    let all = binding("all", "ClusterRole/lister", "jane");
    server.post(&bindings, &all).await.expect(201);
    let some = binding("some", "ClusterRole/lister", "john");
    server.post(BINDINGS, &some).await.expect(201);
    server.turn("jane", &[]);
    server.until("/api/v1/configmaps", 200).await;
    server
        .get("/api/v1/namespaces/kube-system/configmaps")
        .await
        .expect(200);
    assert_eq!(server.get("/metrics").await.code, 200);
    // allowed, and not there
    server.get("/logs/a/b").await.refusal(404);
    server.get("/logs").await.refusal(403);
    server.turn("john", &[]);
    server.until(CONFIG_MAPS, 200).await;
    server.get("/api/v1/configmaps").await.refusal(403);
    server.get("/metrics").await.refusal(403);
    // a binding to what is not there says so
    server
        .admin_post(BINDINGS, &binding("lost", "ClusterRole/gone", "jim"))
        .await;
    server.turn("jim", &[]);
    let wait = async {
        while !server.get(CONFIG_MAPS).await.refusal(403).ends_with(
            "in the namespace \"default\": RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found",
        ) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait)
        .await
        .expect("the reason is told");
}

#[tokio::test]
async fn a_socket_into_a_pod_needs_the_right_to_create_one() {
    let mut server = Server::new().await;
    server.post(PODS, &pod("p")).await.expect(201);
    let get = json!([rule(&["get"], "", &["pods/exec", "pods/log"])]);
    server.post(ROLES, &role("getter", get)).await.expect(201);
    let bound = binding("jane", "Role/getter", "jane");
    server.post(BINDINGS, &bound).await.expect(201);
    server.turn("jane", &[]);
    let exec = format!("{PODS}/p/exec?command=id&stdout=1");
    // nobody runs the pod: allowed, and no answer to be had
    let wait = async {
        while server.get(&format!("{PODS}/p/log")).await.code == 403 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait)
        .await
        .expect("allowed in time");
    let said = server.get(&exec).await.refusal(403);
    assert!(
        said.contains("cannot create resource \"pods/exec\""),
        "{said}"
    );
}

#[tokio::test]
async fn roles_are_kinds_like_others() {
    let server = Server::new().await;
    let path = format!("{RBAC}/clusterroles");
    let name = "team:reader with space";
    let made = server
        .post(&path, &role(name, json!([rule(&["get"], "", &["pods"])])))
        .await
        .expect(201);
    assert_eq!(
        made["metadata"]["name"], name,
        "names are segments of a path"
    );
    let one = format!("{path}/team%3Areader%20with%20space");
    server.get(&one).await.expect(200);
    for wrong in ["a/b", "a%b", ".."] {
        server
            .post(&path, &role(wrong, json!([])))
            .await
            .refusal(422);
    }
    let said = server
        .post(ROLES, &role("r", json!([{"verbs": ["get"]}])))
        .await
        .refusal(422);
    assert_eq!(
        said,
        "Role.rbac.authorization.k8s.io \"r\" is invalid: [rules[0].apiGroups: Required value: resource rules must supply at least one api group, rules[0].resources: Required value: resource rules must supply at least one resource]"
    );
    server
        .post(BINDINGS, &binding("b", "Role/r", "jane"))
        .await
        .expect(201);
    let other = json!({"roleRef": {"name": "other"}});
    let said = server
        .patch(&format!("{BINDINGS}/b"), "merge", &other)
        .await
        .refusal(422);
    assert!(said.contains("cannot change roleRef"), "{said}");
    let subjects =
        json!({"subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]});
    server
        .patch(&format!("{BINDINGS}/b"), "merge", &subjects)
        .await
        .expect(200);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = server
        .ask("GET", BINDINGS, &[("accept", table)], "")
        .await
        .expect(200);
    let names: Vec<&Value> = table["columnDefinitions"]
        .as_array()
        .expect("columns")
        .iter()
        .map(|column| &column["name"])
        .collect();
    assert_eq!(
        json!(names),
        json!(["Name", "Role", "Age", "Users", "Groups", "ServiceAccounts"])
    );
    let cells = &table["rows"][0]["cells"];
    assert_eq!(
        (&cells[1], &cells[5]),
        (&json!("Role/r"), &json!("default/robot"))
    );
}

/// The head of an answer to a request over TLS with a certificate of this user.
async fn by_certificate(listening: &Listening, user: &str, group: &str, path: &str) -> String {
    let keys = &listening.keys;
    let pair = keys.client(user, user, Some(group)).expect("a certificate");
    let tls = keys.client_tls(&pair).expect("TLS");
    let (head, _) = exchange(listening, tls, &format!("GET {path} HTTP/1.1")).await;
    head
}

#[tokio::test]
async fn users_and_groups_of_certificates_are_held_to_their_roles() {
    let listening = listen_with(|_| {}).await;
    let server = &listening.server;
    let mut bound = binding("people", "ClusterRole/system:aggregate-to-view", "nobody");
    bound["subjects"] = json!([{"kind": "Group", "name": "people"}]);
    server.post(BINDINGS, &bound).await.expect(201);
    let wait = async {
        while !by_certificate(&listening, "jane", "people", PODS)
            .await
            .starts_with("HTTP/1.1 200")
        {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait)
        .await
        .expect("allowed in time");
    for (user, group, path, code) in [
        (
            "jane",
            "people",
            "/api/v1/namespaces/default/secrets",
            "403",
        ),
        ("jane", "people", "/api/v1/pods", "403"),
        ("jane", "people", "/apis", "200"),
        ("jane", "people", "/openapi/v3", "200"),
        ("john", "others", PODS, "403"),
        ("john", "others", "/version", "200"),
        ("john", "others", "/", "403"),
    ] {
        let head = by_certificate(&listening, user, group, path).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {code}")),
            "{user} {path} {head}"
        );
    }
    let anonymous = crate::tls::anonymous(&listening.keys);
    for (path, code) in [
        ("/healthz", "200"),
        ("/livez", "200"),
        ("/readyz", "200"),
        ("/version", "200"),
        ("/api", "401"),
        ("/openid/v1/jwks", "401"),
        ("/metrics", "401"),
        (PODS, "401"),
    ] {
        let head = format!("GET {path} HTTP/1.1");
        let (head, _) = exchange(&listening, anonymous.clone(), &head).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {code}")),
            "{path} {head}"
        );
    }
    // what is public is public by a role
    server
        .delete(
            &format!("{RBAC}/clusterrolebindings/system:public-info-viewer"),
            &Value::Null,
        )
        .await
        .expect(200);
    let wait = async {
        while !exchange(&listening, anonymous.clone(), "GET /version HTTP/1.1")
            .await
            .0
            .starts_with("HTTP/1.1 403")
        {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait)
        .await
        .expect("closed in time");
}
