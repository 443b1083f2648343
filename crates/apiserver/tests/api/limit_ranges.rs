//! LimitRanges: defaults and bounds of what is created in a namespace.

use serde_json::{Value, json};

use crate::server::{PODS, Server, pod};

const RANGES: &str = "/api/v1/namespaces/default/limitranges";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

fn range(name: &str, item: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"limits": [item]}})
}

#[tokio::test]
async fn containers_get_defaults_and_are_kept_within_bounds() {
    let server = Server::new().await;
    let item = json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "50m"}, "defaultRequest": {"cpu": "100m"}});
    let made = server.post(RANGES, &range("cpu", item)).await.expect(201);
    assert_eq!(made["spec"]["limits"][0]["default"], json!({"cpu": "1"}));
    let completed = server.post(PODS, &pod("completed")).await.expect(201);
    assert_eq!(
        completed["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}})
    );
    assert_eq!(
        completed["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let mut large = pod("large");
    large["spec"]["containers"][0]["resources"] =
        json!({"limits": {"cpu": "2"}, "requests": {"cpu": "10m"}});
    assert_eq!(
        server.post(PODS, &large).await.refusal(403),
        "pods \"large\" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, maximum cpu usage per Container is 1, but limit is 2]"
    );
    // an update of a pod is not looked at: its amounts cannot change
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let path = format!("{PODS}/completed");
    server.patch(&path, "merge", &label).await.expect(200);
    let elsewhere = "/api/v1/namespaces/kube-system/pods";
    let other = server.post(elsewhere, &pod("other")).await.expect(201);
    assert_eq!(other["spec"]["containers"][0]["resources"], json!({}));
}

#[tokio::test]
async fn claims_are_kept_within_bounds() {
    let server = Server::new().await;
    let item = json!({"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}, "min": {"storage": "1Gi"}});
    server
        .post(RANGES, &range("storage", item))
        .await
        .expect(201);
    let claim = |size: &str| json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
    assert_eq!(
        server.post(CLAIMS, &claim("3Gi")).await.refusal(403),
        "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"
    );
    server.post(CLAIMS, &claim("2Gi")).await.expect(201);
    let wrong = range(
        "wrong",
        json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}}),
    );
    let refused = server.post(RANGES, &wrong).await.refusal(422);
    assert!(
        refused.contains(
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn a_resized_pod_is_kept_within_bounds() {
    let server = Server::new().await;
    let mut small = pod("small");
    small["spec"]["containers"][0]["resources"] =
        json!({"limits": {"memory": "128Mi"}, "requests": {"memory": "128Mi"}});
    server.post(PODS, &small).await.expect(201);
    let item = json!({"type": "Container", "max": {"memory": "256Mi"}});
    server.post(RANGES, &range("mem", item)).await.expect(201);
    let size = |size: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": size}, "requests": {"memory": size}}}]}});
    let path = format!("{PODS}/small/resize");
    assert_eq!(
        server
            .patch(&path, "strategic-merge", &size("8Gi"))
            .await
            .refusal(403),
        "pods \"small\" is forbidden: maximum memory usage per Container is 256Mi, but limit is 8Gi"
    );
    server
        .patch(&path, "strategic-merge", &size("256Mi"))
        .await
        .expect(200);
}
