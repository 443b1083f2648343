//! Scale, and what a kubelet answers: log and exec, over a kubelet that is a pair of pipes.

use std::sync::{Arc, Mutex};

use apiserver::{NodeDialer, NodeStream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::{DEPLOYMENTS, PODS, Server, deployment, pod};

#[tokio::test]
async fn scale() {
    let server = Server::new().await;
    server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let scale = server.get(&path).await.expect(200);
    assert_eq!(
        (&scale["kind"], &scale["apiVersion"]),
        (&json!("Scale"), &json!("autoscaling/v1"))
    );
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!(2), &json!("app=web"))
    );
    let after = server
        .patch(&path, "merge", &json!({"spec": {"replicas": 5}}))
        .await
        .expect(200);
    assert_eq!(after["spec"]["replicas"], 5);
    let stale = server.put(&path, &scale).await;
    assert_eq!(
        stale.refusal(409),
        "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let whole = server.get(&format!("{DEPLOYMENTS}/web")).await.expect(200);
    assert_eq!(
        (&whole["spec"]["replicas"], &whole["metadata"]["generation"]),
        (&json!(5), &json!(2))
    );
    assert_eq!(
        server
            .patch(&path, "merge", &json!({"spec": {"replicas": -1}}))
            .await
            .refusal(422),
        "Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    server
        .get(&format!("{DEPLOYMENTS}/none/scale"))
        .await
        .refusal(404);
}

/// A kubelet that answers every request alike and remembers what it was asked.
struct FakeKubelet {
    answer: &'static str,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait::async_trait]
impl NodeDialer for FakeKubelet {
    async fn dial(&self, address: &str, port: u16) -> std::io::Result<Box<dyn NodeStream>> {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let (asked, answer) = (self.asked.clone(), self.answer);
        let to = format!("{address}:{port} ");
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match theirs.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            asked
                .lock()
                .expect("not poisoned")
                .push(to + &String::from_utf8_lossy(&head));
            let _ = theirs.write_all(answer.as_bytes()).await;
        });
        Ok(Box::new(ours))
    }
}

async fn server_with_pod(answer: &'static str) -> (Server, Arc<Mutex<Vec<String>>>) {
    let server = Server::new().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    server.api.set_node_dialer(Arc::new(FakeKubelet {
        answer,
        asked: asked.clone(),
    }));
    let node = json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.1.2.3"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1234}}}});
    server.post("/api/v1/nodes", &node).await.expect(201);
    let mut object = pod("p");
    object["spec"]["containers"] =
        json!([{"name": "c", "image": "x:1"}, {"name": "d", "image": "x:1"}]);
    server.post(PODS, &object).await.expect(201);
    let binding = json!({"target": {"kind": "Node", "name": "n"}});
    server
        .post(&format!("{PODS}/p/binding"), &binding)
        .await
        .expect(201);
    (server, asked)
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let (server, asked) = server_with_pod(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nhi\n",
    )
    .await;
    let answer = server
        .get(&format!(
            "{PODS}/p/log?container=c&tailLines=5&follow=true&pretty=1"
        ))
        .await;
    assert_eq!((answer.code, &answer.raw[..]), (200, &b"hi\n"[..]));
    let head = asked.lock().expect("not poisoned").remove(0);
    assert!(
        head.starts_with(
            "10.1.2.3:1234 GET /containerLogs/default/p/c?tailLines=5&follow=true HTTP/1.1"
        ),
        "{head}"
    );
    assert_eq!(
        server.get(&format!("{PODS}/p/log")).await.refusal(400),
        "a container name must be specified for pod p, choose one of: [c d]"
    );
    assert_eq!(
        server
            .get(&format!("{PODS}/p/log?container=x"))
            .await
            .refusal(400),
        "container x is not valid for pod p"
    );
    server.get(&format!("{PODS}/none/log")).await.refusal(404);
    server
        .ask("POST", &format!("{PODS}/p/log?container=c"), &[], "")
        .await
        .refusal(405);
    server
        .get("/api/v1/nodes/n/proxy/metrics/resource?x=y")
        .await;
    let head = asked.lock().expect("not poisoned").remove(0);
    assert!(
        head.starts_with("10.1.2.3:1234 GET /metrics/resource?x=y HTTP/1.1"),
        "{head}"
    );
}

#[tokio::test]
async fn a_nodes_refusal_is_a_status() {
    let (server, asked) =
        server_with_pod("HTTP/1.1 404 Not Found\r\ncontent-length: 12\r\n\r\nno container").await;
    assert_eq!(
        server
            .get(&format!("{PODS}/p/log?container=c"))
            .await
            .refusal(404),
        "no container"
    );
    let answer = server.ask("POST", &format!("{PODS}/p/exec?command=ls&command=-l%20a&stdin=true&stdout=true&tty=false&container=c"), &[], "").await;
    answer.refusal(404);
    let head = asked.lock().expect("not poisoned").remove(1);
    assert!(
        head.contains("POST /exec/default/p/c?command=ls&command=-l%20a&input=1&output=1 HTTP/1.1"),
        "{head}"
    );
    let free = pod("free");
    server.post(PODS, &free).await.expect(201);
    assert_eq!(
        server
            .get(&format!("{PODS}/free/exec?command=ls"))
            .await
            .refusal(400),
        "pod free does not have a host assigned"
    );
    assert_eq!(server.get(&format!("{PODS}/free/log")).await.code, 200);
}

/// `kubectl debug` adds to a pod that runs; nothing else of it changes, and nothing that was added goes.
#[tokio::test]
async fn ephemeral_containers_are_added_to_pods() {
    let server = Server::new().await;
    server.post(PODS, &pod("web")).await.expect(201);
    let path = format!("{PODS}/web/ephemeralcontainers");
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let add = |name: &str, image: &str| {
        json!({"spec": {"ephemeralContainers": [{"name": name, "image": image}], "nodeName": "elsewhere"}})
            .to_string()
    };
    let added = server
        .ask("PATCH", &path, &strategic, add("look", "busybox"))
        .await
        .expect(200);
    let one = &added["spec"]["ephemeralContainers"][0];
    assert_eq!(one["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(added["spec"].get("nodeName"), None);
    assert_eq!(added["metadata"]["generation"], 2);
    let both = server
        .ask("PATCH", &path, &strategic, add("other", "busybox"))
        .await
        .expect(200);
    assert_eq!(
        both["spec"]["ephemeralContainers"].as_array().map(Vec::len),
        Some(2)
    );
    let refused = server
        .ask("PATCH", &path, &strategic, add("look", "another"))
        .await
        .refusal(422);
    assert!(refused.contains("may not be changed"), "{refused}");
    let mut with_some = pod("born");
    with_some["spec"]["ephemeralContainers"] = json!([{"name": "look", "image": "i"}]);
    let refused = server.post(PODS, &with_some).await.refusal(422);
    assert!(
        refused.contains("spec.ephemeralContainers: Forbidden: cannot be set on create"),
        "{refused}"
    );
}

#[tokio::test]
async fn of_a_pod_that_is_resized_only_resources_change() {
    let server = Server::new().await;
    let mut web = pod("web");
    web["spec"]["containers"][0]["name"] = "a".into();
    web["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "10m"}, "limits": {"cpu": "1"}});
    server.post(PODS, &web).await.expect(201);
    let path = format!("{PODS}/web/resize");
    let change = |resources: Value| {
        json!({"metadata": {"labels": {"new": "label"}}, "spec": {"nodeName": "elsewhere",
            "containers": [{"name": "a", "image": "another", "resources": resources}]}})
    };
    let smaller = change(json!({"limits": {"cpu": "500m"}}));
    let resized = server.patch(&path, "strategic-merge", &smaller).await;
    let resized = resized.expect(200);
    let container = &resized["spec"]["containers"][0];
    let expected = json!({"requests": {"cpu": "10m"}, "limits": {"cpu": "500m"}});
    assert_eq!(container["resources"], expected);
    assert_ne!(container["image"], "another");
    assert_eq!(resized["spec"].get("nodeName"), None);
    assert_eq!(
        resized["metadata"].get("labels"),
        web["metadata"].get("labels")
    );
    assert_eq!(resized["metadata"]["generation"], 2);
    // the object itself does not take them
    let own = format!("{PODS}/web");
    let nothing = change(json!({}));
    let refused = server.patch(&own, "strategic-merge", &nothing).await;
    let refused = refused.refusal(422);
    assert!(refused.contains("pod updates may not change"), "{refused}");
    let without = change(json!({"limits": {"cpu": null}}));
    let refused = server.patch(&path, "strategic-merge", &without).await;
    let refused = refused.refusal(422);
    let why = "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed";
    assert!(refused.contains(why), "{refused}");
    let read = server.get(&path).await.expect(200);
    assert_eq!(read["spec"], resized["spec"]);
    let mut put = read.clone();
    put["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "20m".into();
    let put = server.put(&path, &put).await.expect(200);
    assert_eq!(put["metadata"]["generation"], 3);
}

/// What `kubectl get deployment web --subresource=scale` shows.
#[tokio::test]
async fn a_scale_is_shown_as_a_row() {
    let server = Server::new().await;
    server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = server
        .ask(
            "GET",
            &format!("{DEPLOYMENTS}/web/scale"),
            &accept,
            String::new(),
        )
        .await
        .expect(200);
    let names: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .expect("columns")
        .iter()
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(table["rows"][0]["cells"][0], "web");
    assert_eq!(table["rows"][0]["cells"][2], 0);
}
