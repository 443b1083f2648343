//! Two servers on one store: no address and no node port is handed out twice.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use store::EmbeddedStore;

use crate::server::{SERVICES, Server};

async fn two(change: impl Fn(&mut apiserver::Config)) -> [Server; 2] {
    let store = Arc::new(EmbeddedStore::in_memory().expect("a store"));
    [
        Server::sharing(store.clone(), &change).await,
        Server::sharing(store, &change).await,
    ]
}

fn node_port(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}})
}

fn address(service: &Value) -> String {
    service["spec"]["clusterIP"]
        .as_str()
        .expect("an address")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_never_hand_out_the_same() {
    // 61 addresses are free for 40 Services, and 44 ports
    let servers = two(|config| {
        config.service_cidr = "10.7.0.0/26".into();
        config.node_ports = (31000, 31043);
    })
    .await;
    let made = (0..40).map(|n| {
        let server = &servers[n % 2];
        async move {
            server
                .post(SERVICES, &node_port(&format!("s{n}")))
                .await
                .expect(201)
        }
    });
    let made = futures::future::join_all(made).await;
    let addresses: HashSet<String> = made.iter().map(address).collect();
    let ports: HashSet<String> = made
        .iter()
        .map(|service| service["spec"]["ports"][0]["nodePort"].to_string())
        .collect();
    assert_eq!((addresses.len(), ports.len()), (40, 40));

    // each is an object that says whose it is
    let path = format!(
        "/apis/networking.k8s.io/v1/ipaddresses/{}",
        address(&made[0])
    );
    let recorded = servers[1].get(&path).await.expect(200);
    let parent = json!({"group": "", "resource": "services", "namespace": "default", "name": "s0"});
    for (key, value) in recorded["spec"]["parentRef"].as_object().expect("a parent") {
        assert_eq!(value, &parent[key], "{recorded}");
    }
    assert_eq!(
        recorded["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"],
        "ipallocator.k8s.io"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_gave_is_taken_and_comes_back_on_both() {
    let servers = two(|_| {}).await;
    let mut wanted = node_port("a");
    wanted["spec"]["clusterIP"] = "10.96.7.7".into();
    wanted["spec"]["ports"][0]["nodePort"] = 30777.into();
    servers[0].post(SERVICES, &wanted).await.expect(201);
    wanted["metadata"]["name"] = "b".into();
    let words = servers[1].post(SERVICES, &wanted).await.refusal(422);
    assert!(
        words.contains("provided IP is already allocated"),
        "{words}"
    );
    let mut port = node_port("c");
    port["spec"]["ports"][0]["nodePort"] = 30777.into();
    let words = servers[1].post(SERVICES, &port).await.refusal(422);
    assert!(
        words.contains("provided port is already allocated"),
        "{words}"
    );
    // a try has no effect, a refusal neither
    let path = format!("{SERVICES}?dryRun=All");
    let tried = servers[1].post(&path, &node_port("d")).await;
    tried.expect(201);
    servers[1]
        .delete(&format!("{SERVICES}/a"), &Value::Null)
        .await
        .expect(200);
    servers[0].post(SERVICES, &wanted).await.expect(201);
    let addresses = servers[0]
        .get("/apis/networking.k8s.io/v1/ipaddresses")
        .await
        .expect(200);
    let names: Vec<&str> = addresses["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["metadata"]["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["10.96.0.1", "10.96.7.7"]);
}

/// Services of before there were records get theirs when a server starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_missing_are_made_at_the_start() {
    let store = Arc::new(EmbeddedStore::in_memory().expect("a store"));
    let first = Server::sharing(store.clone(), |_| {}).await;
    let made = first.post(SERVICES, &node_port("a")).await.expect(201);
    let path = format!("/apis/networking.k8s.io/v1/ipaddresses/{}", address(&made));
    first.delete(&path, &Value::Null).await.expect(200);
    drop(first);
    let second = Server::sharing(store, |_| {}).await;
    second.get(&path).await.expect(200);
}
