//! What becomes of objects: namespaces, owners, fields that nobody here knows.

use crate::support::{Space, eventually, holds, pod};

pub fn deleting_a_namespace_removes_everything_in_it() {
    let space = Space::new("doomed");
    space
        .kubectl("create deployment web --image=my-web-app --replicas=2")
        .ok();
    space
        .kubectl("expose deployment web --port=80 --target-port=8080")
        .ok();
    space.kubectl("create configmap settings").ok();
    space.rolled_out("web");
    let pod = space.field("pods", ".items[0].metadata.uid");
    // waits until it is gone
    space
        .instance
        .kubectl("delete namespace doomed --timeout=75s")
        .ok();
    holds(
        &space.instance.kubectl("get namespace doomed").fails(1),
        "namespaces \"doomed\" not found",
    );
    for kind in [
        "deploy",
        "rs",
        "pods",
        "svc",
        "endpointslices",
        "configmaps",
        "secrets",
        "serviceaccounts",
        "events",
    ] {
        assert_eq!(
            space.kubectl(&format!("get {kind} -o name")).ok(),
            "",
            "{kind} are left"
        );
    }
    eventually("its containers have ended", || {
        let left = space.instance.traces().to_string();
        if left.contains(&pod) {
            Err(left)
        } else {
            Ok(())
        }
    });
    holds(&space.kubectl("create configmap a").fails(1), "not found");
}

pub fn deleting_a_deployment_removes_or_orphans_its_pods() {
    let space = Space::new("owners");
    let pods = |app: &str| {
        space
            .kubectl(&format!("get rs,pods -l app={app} -o name"))
            .ok()
    };
    for app in ["gone", "kept"] {
        space
            .kubectl(&format!(
                "create deployment {app} --image=my-web-app --replicas=2"
            ))
            .ok();
    }
    space.rolled_out("gone");
    space.rolled_out("kept");
    space
        .kubectl("delete deployment kept --cascade=orphan")
        .ok();
    space.kubectl("delete deployment gone").ok();
    eventually("owner and owned are gone", || {
        if pods("gone").is_empty() {
            Ok(())
        } else {
            Err(pods("gone"))
        }
    });
    let kept = pods("kept");
    assert_eq!(
        kept.lines().count(),
        3,
        "a replica set and two pods, orphaned: {kept}"
    );
    let set = kept
        .lines()
        .find(|name| name.starts_with("replicaset"))
        .expect("a replica set");
    assert_eq!(space.field(set, ".metadata.ownerReferences"), "");
    // foreground: the owner goes last
    space
        .kubectl(&format!("delete {set} --cascade=foreground"))
        .ok();
    assert_eq!(pods("kept"), "");
}

pub fn unknown_patches_and_edits_survive() {
    let space = Space::new("edits");
    space.apply(&pod("edited", "sleep 1000"));
    space.kubectl("label pod edited colour=green").ok();
    space.kubectl("annotate pod edited note='some words'").ok();
    assert_eq!(
        space.field("pod/edited", ".metadata.labels.colour"),
        "green"
    );
    holds(
        &space.kubectl("get pods -l colour=green --show-labels").ok(),
        "edited",
    );
    holds(
        &space.kubectl("get pods -l colour!=green").ran().stderr,
        "No resources found",
    );
    holds(
        &space.kubectl("label pod edited colour=red").fails(1),
        "already has a value",
    );
    for (kind, patch) in [
        (
            "json",
            r#"[{"op":"replace","path":"/metadata/labels/colour","value":"json"}]"#,
        ),
        ("merge", r#"{"metadata":{"labels":{"colour":"merge"}}}"#),
        (
            "strategic",
            r#"{"metadata":{"labels":{"colour":"strategic"}}}"#,
        ),
    ] {
        space
            .kubectl(&format!("patch pod edited --type={kind} -p '{patch}'"))
            .ok();
        assert_eq!(space.field("pod/edited", ".metadata.labels.colour"), kind);
    }
    assert_eq!(
        space.field("pod/edited", ".metadata.annotations.note"),
        "some words"
    );
    let refused = space.kubectl(r#"patch pod edited --type=json -p '[{"op":"test","path":"/metadata/name","value":"other"}]'"#).fails(1);
    holds(&refused, "test");
    // what apply no longer says is taken away, what others said stays
    space.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: '1', b: '2'}}",
    );
    space
        .kubectl(r#"patch configmap settings -p '{"data":{"c":"3"}}'"#)
        .ok();
    space.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: '1'}}");
    assert_eq!(
        space.field("configmap/settings", ".data"),
        r#"{"a":"1","c":"3"}"#
    );
    holds(
        &space.kubectl("explain deployment.spec.replicas").ok(),
        "Number of desired pods",
    );
    holds(
        &space
            .kubectl("diff -f -")
            .stdin("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: '9'}}")
            .fails(1),
        "+  a: \"9\"",
    );
}
