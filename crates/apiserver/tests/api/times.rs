//! Times have one form, however clients write them.

use serde_json::json;

use crate::server::{CONFIG_MAPS, PODS, Server, config_map, pod};

#[tokio::test]
async fn times_are_stored_as_upstream_stores_them() {
    let server = Server::new().await;
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a",
        "acquireTime": "2026-01-01T01:00:00.123456+01:00", "renewTime": "2026-01-01T00:00:00.000000Z"}});
    let made = server.post(LEASES, &lease).await.expect(201);
    assert_eq!(made["spec"]["acquireTime"], "2026-01-01T00:00:00.123456Z");
    assert_eq!(made["spec"]["renewTime"], "2026-01-01T00:00:00.000000Z");
    let words = server
        .post(
            LEASES,
            &json!({"metadata": {"name": "m"}, "spec": {"renewTime": "2026-01-01T00:00:00Z"}}),
        )
        .await
        .refusal(400);
    assert!(words.ends_with("parsing time \"2026-01-01T00:00:00Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"Z\" as \".000000\""), "{words}");

    server.post(PODS, &pod("p")).await.expect(201);
    let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T01:00:00.9+01:00"});
    let status =
        json!({"status": {"startTime": "2026-01-01T00:00:00+00:00", "conditions": [condition]}});
    for kind in ["strategic-merge", "merge"] {
        let path = format!("{PODS}/p/status");
        let patched = server.patch(&path, kind, &status).await.expect(200);
        assert_eq!(
            patched["status"]["startTime"], "2026-01-01T00:00:00Z",
            "{kind}"
        );
        let at = &patched["status"]["conditions"][0]["lastTransitionTime"];
        assert_eq!(at, "2026-01-01T00:00:00Z", "{kind}");
    }
    let wrong = json!({"status": {"startTime": "yesterday"}});
    let words = server
        .patch(&format!("{PODS}/p/status"), "merge", &wrong)
        .await
        .refusal(422);
    assert!(words.contains("parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\""), "{words}");

    // what a client read, written back in another form, is no change
    let made = server.post(CONFIG_MAPS, &config_map("c")).await.expect(201);
    let mut again = made.clone();
    let time = made["metadata"]["creationTimestamp"]
        .as_str()
        .expect("a time");
    again["metadata"]["creationTimestamp"] = time.replace('Z', "+00:00").into();
    again["data"]["at"] = "2026-01-01T00:00:00+00:00".into();
    let put = server
        .put(&format!("{CONFIG_MAPS}/c"), &again)
        .await
        .expect(200);
    assert_eq!(put["metadata"]["creationTimestamp"], time);
    assert_eq!(
        put["data"]["at"], "2026-01-01T00:00:00+00:00",
        "text is no time"
    );
}
