//! ResourceQuotas: what is created is charged to them, and refused when there is no room.

use serde_json::{Value, json};

use crate::server::{CONFIG_MAPS, PODS, SERVICES, Server, config_map, deployment, pod, service};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

/// A quota that was counted: nobody does that here.
async fn quota(server: &Server, name: &str, spec: Value) {
    let object =
        json!({"metadata": {"name": name}, "spec": spec, "status": {"used": {"pods": "9"}}});
    let made = server.post(QUOTAS, &object).await.expect(201);
    assert_eq!(
        made["status"],
        json!({}),
        "the status is not the user's to write"
    );
    let hard = spec["hard"].as_object().expect("amounts");
    let used: serde_json::Map<_, _> = hard.keys().map(|name| (name.clone(), json!("0"))).collect();
    let status = json!({"status": {"hard": hard, "used": used}});
    let path = format!("{QUOTAS}/{name}/status");
    server.patch(&path, "merge", &status).await.expect(200);
}

async fn used(server: &Server, name: &str) -> Value {
    let quota = server.get(&format!("{QUOTAS}/{name}")).await.expect(200);
    quota["status"]["used"].clone()
}

fn asking(name: &str, cpu: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    pod
}

#[tokio::test]
async fn what_is_created_is_charged() {
    let server = Server::new().await;
    let hard = json!({"pods": "2", "requests.cpu": "1", "count/configmaps": "1"});
    quota(&server, "q", json!({"hard": hard})).await;
    server.post(PODS, &asking("a", "600m")).await.expect(201);
    assert_eq!(
        used(&server, "q").await,
        json!({"pods": "1", "requests.cpu": "600m", "count/configmaps": "0"})
    );
    assert_eq!(
        server.post(PODS, &asking("b", "500m")).await.refusal(403),
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    assert_eq!(
        server.post(PODS, &pod("c")).await.refusal(403),
        "pods \"c\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
    // one that is there already costs nothing
    server.post(PODS, &asking("a", "100m")).await.refusal(409);
    let path = format!("{PODS}?dryRun=All");
    server.post(&path, &asking("d", "100m")).await.expect(201);
    assert_eq!(used(&server, "q").await["pods"], "1");
    server
        .post(CONFIG_MAPS, &config_map("one"))
        .await
        .expect(201);
    let refused = server.post(CONFIG_MAPS, &config_map("two")).await;
    assert_eq!(
        refused.refusal(403),
        "configmaps \"two\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"
    );
    let elsewhere = "/api/v1/namespaces/kube-system/configmaps";
    server.post(elsewhere, &config_map("two")).await.expect(201);
}

#[tokio::test]
async fn every_kind_is_counted_and_updates_are_charged_too() {
    let server = Server::new().await;
    let hard = json!({"count/deployments.apps": "0", "services.nodeports": "1", "services": "5"});
    quota(&server, "q", json!({"hard": hard})).await;
    let refused = server
        .post(crate::server::DEPLOYMENTS, &deployment("web"))
        .await;
    assert_eq!(
        refused.refusal(403),
        "deployments.apps \"web\" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=0, limited: count/deployments.apps=0"
    );
    server.post(SERVICES, &service("a")).await.expect(201);
    let path = format!("{SERVICES}/a");
    let node_port = json!({"spec": {"type": "NodePort"}});
    server.patch(&path, "merge", &node_port).await.expect(200);
    assert_eq!(used(&server, "q").await["services.nodeports"], "1");
    server.post(SERVICES, &service("b")).await.expect(201);
    let refused = server
        .patch(&format!("{SERVICES}/b"), "merge", &node_port)
        .await;
    assert!(
        refused
            .refusal(403)
            .contains("exceeded quota: q, requested: services.nodeports=1")
    );
    assert_eq!(used(&server, "q").await["services"], "2");
}

#[tokio::test]
async fn scopes_choose_what_is_counted() {
    let server = Server::new().await;
    quota(
        &server,
        "effort",
        json!({"hard": {"pods": "0"}, "scopes": ["BestEffort"]}),
    )
    .await;
    let high = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]});
    quota(
        &server,
        "high",
        json!({"hard": {"pods": "0"}, "scopeSelector": high}),
    )
    .await;
    server.post(PODS, &asking("a", "1")).await.expect(201);
    let refused = server.post(PODS, &pod("b")).await.refusal(403);
    assert!(refused.contains("exceeded quota: effort"), "{refused}");
    let mut critical = asking("c", "1");
    critical["spec"]["priorityClassName"] = "system-node-critical".into();
    let refused = server.post(PODS, &critical).await.refusal(403);
    assert!(refused.contains("exceeded quota: high"), "{refused}");
    let change = json!({"spec": {"scopes": ["NotBestEffort"]}});
    let refused = server
        .patch(&format!("{QUOTAS}/effort"), "merge", &change)
        .await;
    assert!(refused.refusal(422).contains("spec.scopes: Invalid value"));
}

#[tokio::test]
async fn however_many_come_at_once_a_quota_holds() {
    let server = Server::new().await;
    quota(&server, "one", json!({"hard": {"count/configmaps": "7"}})).await;
    quota(
        &server,
        "two",
        json!({"hard": {"count/configmaps": "20", "configmaps": "9"}}),
    )
    .await;
    let made = futures::future::join_all((0..60).map(|n| {
        let server = &server;
        async move {
            let answer = server
                .post(CONFIG_MAPS, &config_map(&format!("c{n}")))
                .await;
            assert!([201, 403].contains(&answer.code), "{}", answer.body);
            answer.code == 201
        }
    }))
    .await;
    assert_eq!(made.iter().filter(|made| **made).count(), 7);
    assert_eq!(used(&server, "one").await["count/configmaps"], "7");
    assert_eq!(
        used(&server, "two").await,
        json!({"count/configmaps": "7", "configmaps": "7"}),
        "what the first refused was not charged to the second"
    );
}

#[tokio::test]
async fn what_a_pod_takes_more_later_is_charged_too() {
    let server = Server::new().await;
    quota(&server, "q", json!({"hard": {"requests.cpu": "1"}})).await;
    let short = json!({"hard": {"pods": "1"}, "scopes": ["Terminating"]});
    quota(&server, "short", short).await;
    server.post(PODS, &asking("a", "600m")).await.expect(201);
    let name = server.get(&format!("{PODS}/a")).await.expect(200);
    let name = name["spec"]["containers"][0]["name"].clone();
    let asks = |cpu: &str| json!({"spec": {"containers": [{"name": name, "resources": {"requests": {"cpu": cpu}}}]}});
    let resize = format!("{PODS}/a/resize");
    let more = server
        .patch(&resize, "strategic-merge", &asks("1200m"))
        .await;
    assert_eq!(
        more.refusal(403),
        "pods \"a\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    let more = server
        .patch(&resize, "strategic-merge", &asks("900m"))
        .await;
    more.expect(200);
    assert_eq!(used(&server, "q").await["requests.cpu"], "900m");
    // what does not count costs nothing
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let path = format!("{PODS}/a");
    server.patch(&path, "merge", &labels).await.expect(200);
    assert_eq!(used(&server, "q").await["requests.cpu"], "900m");
    // one that is to end counts elsewhere
    let ends = json!({"spec": {"activeDeadlineSeconds": 60}});
    server.patch(&path, "merge", &ends).await.expect(200);
    assert_eq!(used(&server, "short").await["pods"], "1");
}
