//! Persistent volumes, claims and classes: what the server adds, keeps and refuses.

use serde_json::{Value, json};

use crate::server::{PODS, Server, pod};

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";

fn claim(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
}

fn class(name: &str, default: bool, grows: bool) -> Value {
    json!({"metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default.to_string()}},
        "provisioner": "example.com/p", "allowVolumeExpansion": grows})
}

#[tokio::test]
async fn claims_get_the_default_class_and_a_finalizer() {
    let server = Server::new().await;
    let plain = server.post(CLAIMS, &claim("plain")).await.expect(201);
    assert_eq!(plain["spec"].get("storageClassName"), None);
    assert_eq!(
        plain["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    assert_eq!(plain["status"], json!({"phase": "Pending"}));
    assert_eq!(plain["spec"]["volumeMode"], "Filesystem");
    server
        .post(CLASSES, &class("other", false, true))
        .await
        .expect(201);
    let made = server
        .post(CLASSES, &class("standard", true, false))
        .await
        .expect(201);
    assert_eq!(made["reclaimPolicy"], "Delete");
    assert_eq!(made["volumeBindingMode"], "Immediate");
    let chosen = server.post(CLAIMS, &claim("chosen")).await.expect(201);
    assert_eq!(chosen["spec"]["storageClassName"], "standard");
    for name in ["", "other"] {
        let mut own = claim(&format!("own{name}"));
        own["spec"]["storageClassName"] = name.into();
        let own = server.post(CLAIMS, &own).await.expect(201);
        assert_eq!(own["spec"]["storageClassName"], name);
    }
}

#[tokio::test]
async fn claims_grow_only_where_their_class_lets_them() {
    let server = Server::new().await;
    for (name, grows) in [("grows", true), ("stays", false)] {
        server
            .post(CLASSES, &class(name, false, grows))
            .await
            .expect(201);
        let mut own = claim(name);
        own["spec"]["storageClassName"] = name.into();
        server.post(CLAIMS, &own).await.expect(201);
        let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        server
            .patch(&format!("{CLAIMS}/{name}/status"), "merge", &bound)
            .await
            .expect(200);
    }
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let less = json!({"spec": {"resources": {"requests": {"storage": "1Mi"}}}});
    server
        .patch(&format!("{CLAIMS}/grows"), "merge", &more)
        .await
        .expect(200);
    let refused = server
        .patch(&format!("{CLAIMS}/stays"), "merge", &more)
        .await;
    assert!(
        refused
            .refusal(403)
            .contains("only dynamically provisioned pvc can be resized")
    );
    let refused = server
        .patch(&format!("{CLAIMS}/grows"), "merge", &less)
        .await;
    assert!(
        refused
            .refusal(422)
            .contains("field can not be less than status.capacity")
    );
}

#[tokio::test]
async fn volumes_wait_for_their_finalizer() {
    let server = Server::new().await;
    let volume = json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}});
    let made = server.post(VOLUMES, &volume).await.expect(201);
    assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(made["status"]["phase"], "Pending");
    let path = format!("{VOLUMES}/v");
    server.delete(&path, &Value::Null).await.expect(200);
    let going = server.get(&path).await.expect(200);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let let_go = json!({"metadata": {"finalizers": null}});
    server.patch(&path, "merge", &let_go).await.expect(200);
    server.get(&path).await.expect(404);
    let table = server
        .ask(
            "GET",
            CLASSES,
            &[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")],
            "",
        )
        .await
        .expect(200);
    let names: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .expect("columns")
        .iter()
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "Name",
            "Provisioner",
            "ReclaimPolicy",
            "VolumeBindingMode",
            "AllowVolumeExpansion",
            "Age"
        ]
    );
}

#[tokio::test]
async fn pods_get_a_token_unless_somebody_says_no() {
    let server = Server::new().await;
    let has_token = |made: &Value| {
        let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
        let volume = &made["spec"]["volumes"][0];
        assert_eq!(mount.is_null(), volume.is_null());
        assert_eq!(mount["name"], volume["name"]);
        !mount.is_null() && mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    };
    assert!(has_token(&server.post(PODS, &pod("a")).await.expect(201)));
    let mut without = pod("b");
    without["spec"]["automountServiceAccountToken"] = false.into();
    assert!(!has_token(&server.post(PODS, &without).await.expect(201)));
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let quiet = json!({"metadata": {"name": "quiet"}, "automountServiceAccountToken": false, "imagePullSecrets": [{"name": "pull"}]});
    server.post(accounts, &quiet).await.expect(201);
    let mut of = pod("c");
    of["spec"]["serviceAccountName"] = "quiet".into();
    let made = server.post(PODS, &of).await.expect(201);
    assert!(!has_token(&made));
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
    of["metadata"]["name"] = "d".into();
    of["spec"]["automountServiceAccountToken"] = true.into();
    assert!(
        has_token(&server.post(PODS, &of).await.expect(201)),
        "the pod's word counts"
    );
    of["spec"]["serviceAccountName"] = "stray".into();
    let said = server.post(PODS, &of).await.refusal(403);
    assert_eq!(
        said,
        "pods \"d\" is forbidden: error looking up service account default/stray: serviceaccount \"stray\" not found"
    );
}
