//! Any bytes as a merge patch of a Deployment.
#![no_main]

use apiserver::patch::{self, PatchKind};
use apiserver::schema::Gvk;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|body: &[u8]| {
    let original = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {"replicas": 2, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"spec": {"containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "E", "value": "v"}]}]}}}});
    let before = original.clone();
    let gvk = Gvk::gvk("apps", "v1", "Deployment");
    let _ = patch::apply(PatchKind::Merge, &original, body, &gvk);
    assert_eq!(original, before);
});
