//! HorizontalPodAutoscalers: stored once, served as v1 and v2.

use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn autoscalers_are_one_object_in_two_versions() {
    let server = Server::new().await;
    let v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let v2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let object = json!({"metadata": {"name": "web"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}}});
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
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
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
