//! Ingresses and their classes, IPAddresses and ServiceCIDRs.

use serde_json::{Value, json};

use crate::server::Server;

const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
const CLASSES: &str = "/apis/networking.k8s.io/v1/ingressclasses";

fn ingress(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"rules": [{"host": "a.example.com", "http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}})
}

fn class(name: &str, default: bool) -> Value {
    json!({"metadata": {"name": name, "annotations": {"ingressclass.kubernetes.io/is-default-class": default.to_string()}},
        "spec": {"controller": "example.com/ingress"}})
}

#[tokio::test]
async fn an_ingress_gets_the_default_class_and_its_status_is_apart() {
    let server = Server::new().await;
    let mut plain = ingress("plain");
    plain["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
    let made = server.post(INGRESSES, &plain).await.expect(201);
    assert_eq!(made["spec"].get("ingressClassName"), None);
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    assert_eq!(made["metadata"]["generation"], 1);
    for (name, default) in [("other", false), ("nginx", true)] {
        let made = server
            .post(CLASSES, &class(name, default))
            .await
            .expect(201);
        assert_eq!(made["metadata"]["generation"], 1);
    }
    let chosen = server.post(INGRESSES, &ingress("chosen")).await.expect(201);
    assert_eq!(chosen["spec"]["ingressClassName"], "nginx");
    let mut annotated = ingress("annotated");
    annotated["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "old"});
    let annotated = server.post(INGRESSES, &annotated).await.expect(201);
    assert_eq!(annotated["spec"].get("ingressClassName"), None);

    let path = format!("{INGRESSES}/chosen");
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    let written = server
        .patch(&format!("{path}/status"), "merge", &status)
        .await
        .expect(200);
    assert_eq!(written["status"], status["status"]);
    assert_eq!(written["metadata"]["generation"], 1);
    let kept = server.patch(&path, "merge", &json!({"status": null})).await;
    assert_eq!(kept.expect(200)["status"], status["status"]);
    let bad = json!({"status": {"loadBalancer": {"ingress": [{"ip": "x"}]}}});
    let refused = server.patch(&format!("{path}/status"), "merge", &bad).await;
    assert!(
        refused
            .refusal(422)
            .contains("status.loadBalancer.ingress[0].ip: Invalid value: \"x\"")
    );
    let table = server
        .ask(
            "GET",
            &path,
            &[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")],
            "",
        )
        .await
        .expect(200);
    assert_eq!(
        json!(table["rows"][0]["cells"].as_array().expect("cells")[..5]),
        json!(["chosen", "nginx", "a.example.com", "192.0.2.1", "80"])
    );
}

#[tokio::test]
async fn what_is_wrong_with_an_ingress_is_said_in_upstreams_words() {
    let server = Server::new().await;
    let mut bad = ingress("bad");
    bad["spec"]["rules"][0]["http"]["paths"][0]["pathType"] = Value::Null;
    let refused = server.post(INGRESSES, &bad).await.refusal(422);
    assert_eq!(
        refused,
        "Ingress.networking.k8s.io \"bad\" is invalid: spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"
    );
    server.post(CLASSES, &class("a", false)).await.expect(201);
    let other = json!({"spec": {"controller": "example.com/other"}});
    let refused = server.patch(&format!("{CLASSES}/a"), "merge", &other).await;
    assert!(
        refused
            .refusal(422)
            .contains("spec.controller: Invalid value: \"example.com/other\": field is immutable")
    );
}

#[tokio::test]
async fn addresses_and_ranges_are_kept() {
    let server = Server::new().await;
    let addresses = "/apis/networking.k8s.io/v1/ipaddresses";
    let address = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}});
    server.post(addresses, &address).await.expect(201);
    let refused = server
        .post(addresses, &json!({"metadata": {"name": "x"}, "spec": {}}))
        .await;
    assert!(refused.refusal(422).contains("must be a valid IP address"));
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    let range = |cidrs: &[&str]| json!({"metadata": {"name": "r"}, "spec": {"cidrs": cidrs}});
    server
        .post(ranges, &range(&["10.1.0.0/24"]))
        .await
        .expect(201);
    let more = json!({"spec": {"cidrs": ["10.1.0.0/24", "fd00::/112"]}});
    server
        .patch(&format!("{ranges}/r"), "merge", &more)
        .await
        .expect(200);
    let other = json!({"spec": {"cidrs": ["10.2.0.0/24"]}});
    let refused = server.patch(&format!("{ranges}/r"), "merge", &other).await;
    assert!(refused.refusal(422).contains("field is immutable"));
}
