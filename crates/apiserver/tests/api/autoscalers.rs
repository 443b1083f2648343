//! HorizontalPodAutoscalers: stored once, served as v1 and v2.

use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn autoscalers_are_one_object_in_two_versions() {
    let server = Server::new().await;
    let v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let v2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let object = json!({"metadata": {"name": "web"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}}});
    let created = server.post(v1, &object).await.expect(201);
    assert_eq!(created["apiVersion"], "autoscaling/v1");
    assert_eq!(created["spec"]["targetCPUUtilizationPercentage"], 50);
    let mut seen = server.get(&format!("{v2}/web")).await.expect(200);
    assert_eq!(seen["apiVersion"], "autoscaling/v2");
    assert_eq!(
        seen["spec"]["metrics"][0]["resource"]["target"],
        json!({"type": "Utilization", "averageUtilization": 50})
    );
    seen["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 1}});
    server.put(&format!("{v2}/web"), &seen).await.expect(200);
    let seen = server
        .patch(
            &format!("{v1}/web"),
            "merge",
            &json!({"spec": {"maxReplicas": 9}}),
        )
        .await
        .expect(200);
    assert_eq!(seen["spec"]["maxReplicas"], 9);
    let seen = server.get(&format!("{v2}/web")).await.expect(200);
    assert_eq!(
        seen["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
        1
    );
    assert!(seen["metadata"].get("annotations").is_none(), "{seen}");
}

#[tokio::test]
async fn annotations_of_old_autoscalers_are_not_believed() {
    let server = Server::new().await;
    let v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let with = |name: &str, key: &str, text: &str| {
        json!({
            "metadata": {"name": name, "annotations": {format!("autoscaling.alpha.kubernetes.io/{key}"): text}},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
        })
    };
    for (key, text) in [
        ("behavior", "5"),
        ("behavior", r#"{"scaleUp": []}"#),
        ("behavior", r#"{"scaleUp": {"policies": 1}}"#),
        (
            "metrics",
            r#"[{"type": "Pods", "pods": {"metricName": 5}}]"#,
        ),
    ] {
        server.post(v1, &with("bad", key, text)).await.refusal(400);
    }
    for text in ["1", "[1]", "[{}]", r#"[{"type": "Pods"}]"#] {
        let answer = server.post(v1, &with("bad", "metrics", text)).await;
        assert!(
            matches!(answer.code, 201 | 400 | 422),
            "{text}: {} {}",
            answer.code,
            answer.body
        );
        if answer.code == 201 {
            server
                .delete(&format!("{v1}/bad"), &json!(null))
                .await
                .expect(200);
        }
    }
    let short = with(
        "good",
        "behavior",
        r#"{"scaleDown": {"stabilizationWindowSeconds": 7}}"#,
    );
    server.post(v1, &short).await.expect(201);
    let v2 = server
        .get(&format!("{}/good", v1.replace("v1", "v2")))
        .await
        .expect(200);
    assert_eq!(
        v2["spec"]["behavior"]["scaleDown"]["policies"][0]["type"],
        "Percent"
    );
    // The annotations made from what v1 cannot hold can be written back.
    let seen = server.get(&format!("{v1}/good")).await.expect(200);
    assert_eq!(
        server.put(&format!("{v1}/good"), &seen).await.expect(200),
        seen
    );
}

const DECISIONS: &str =
    "/apis/autoscaling.plimsoll.dev/v1alpha1/namespaces/default/scalingdecisions";

fn decision(name: &str, autoscaler: &str) -> serde_json::Value {
    json!({
        "apiVersion": "autoscaling.plimsoll.dev/v1alpha1", "kind": "ScalingDecision",
        "metadata": {"name": name},
        "spec": {"autoscaler": autoscaler, "time": "2026-01-01T00:00:00.123Z", "from": 2, "to": 4, "reason": "r",
            "inputs": {"any": {"thing": [1, null]}}, "decision": {"desired": 4}},
        "status": {"phase": "Waiting", "wantedPods": 2},
    })
}

#[tokio::test]
async fn decisions_are_a_kind_of_a_group_of_our_own() {
    let server = Server::new().await;
    let created = server
        .post(DECISIONS, &decision("a", "web"))
        .await
        .expect(201);
    assert_eq!(
        created["status"]["wantedPods"], 2,
        "what is known at once is kept at once"
    );
    assert_eq!(created["spec"]["inputs"]["any"]["thing"][0], 1);
    server
        .post(DECISIONS, &decision("b", "db"))
        .await
        .expect(201);
    let selected = server
        .get(&format!("{DECISIONS}?fieldSelector=spec.autoscaler%3Dweb"))
        .await
        .expect(200);
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(1));
    let status = json!({"status": {"phase": "Complete", "readyPods": 2, "readyMs": 1230}});
    let path = format!("{DECISIONS}/a");
    let changed = server
        .patch(&format!("{path}/status"), "merge", &status)
        .await
        .expect(200);
    assert_eq!(changed["status"]["readyMs"], 1230);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let shown = server
        .ask("GET", &path, &[("accept", table)], "")
        .await
        .expect(200);
    let names: Vec<_> = shown["columnDefinitions"]
        .as_array()
        .expect("columns")
        .iter()
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "Name",
            "Autoscaler",
            "From",
            "To",
            "New Pods",
            "Ready After",
            "Reason",
            "Age",
            "Message"
        ]
    );
    assert_eq!(
        json!(
            shown["rows"][0]["cells"]
                .as_array()
                .map(|cells| &cells[..7])
        ),
        json!(["a", "web", "2", "4", "2/2", "1.2s", "r"])
    );
}

#[tokio::test]
async fn a_decision_that_was_made_does_not_change() {
    let server = Server::new().await;
    server
        .post(DECISIONS, &decision("a", "web"))
        .await
        .expect(201);
    let path = format!("{DECISIONS}/a");
    let refused = server
        .patch(&path, "merge", &json!({"spec": {"to": 5}}))
        .await
        .refusal(422);
    assert!(
        refused.contains("spec: Forbidden: a decision that was made does not change"),
        "{refused}"
    );
    server
        .patch(&path, "merge", &json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .expect(200);
    for (key, value, code) in [
        ("autoscaler", json!(""), 422),
        ("time", json!("noon"), 422),
        ("time", json!(null), 422),
        ("from", json!("two"), 400),
        ("rules", json!({}), 400),
    ] {
        let mut wrong = decision("wrong", "web");
        wrong["spec"][key] = value;
        server.post(DECISIONS, &wrong).await.refusal(code);
    }
    let mut unknown = decision("unknown", "web");
    unknown["spec"]["form"] = json!(2);
    let strict = format!("{DECISIONS}?fieldValidation=Strict");
    let refused = server.post(&strict, &unknown).await.refusal(400);
    assert!(refused.contains("unknown field \"spec.form\""), "{refused}");
}
