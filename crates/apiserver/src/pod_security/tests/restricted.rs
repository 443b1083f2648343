//! What `restricted` forbids and demands beyond `baseline`.

use serde_json::{Value, json};

use super::{careful, careful_but, table, with};

/// A careful pod with a second container.
fn and(pod: Value, container: &Value) -> Value {
    let mut pod = pod;
    let mut second = careful()["spec"]["containers"][0].clone();
    second["name"] = "b".into();
    for (field, value) in container.as_object().expect("fields") {
        second["securityContext"][field] = value.clone();
    }
    if let Some(containers) = pod["spec"]["containers"].as_array_mut() {
        containers.push(second);
    }
    pod
}

/// A careful pod without a field of its own security context, or its container's.
fn without(of_pod: &str, of_container: &str) -> Value {
    careful_but(&json!({of_pod: null}), &json!({of_container: null}))
}

#[test]
fn privilege_escalation() {
    let said = "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)";
    let unset = without("-", "allowPrivilegeEscalation");
    let set = careful_but(&json!({}), &json!({"allowPrivilegeEscalation": true}));
    table(&[
        ("baseline:latest", set.clone(), ""),
        ("restricted:v1.7", set.clone(), ""),
        ("restricted:v1.8", set.clone(), said),
        ("restricted:latest", unset.clone(), said),
        (
            "restricted:latest",
            and(set, &json!({"allowPrivilegeEscalation": null})),
            "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            "restricted:v1.24",
            with(unset, &json!({"os": {"name": "windows"}})),
            said,
        ),
    ]);
}

#[test]
fn pods_for_windows_need_not_set_what_they_must_not_set() {
    let mut pod = without("seccompProfile", "allowPrivilegeEscalation");
    pod["spec"]["containers"][0]["securityContext"]["capabilities"] = Value::Null;
    let windows = with(pod.clone(), &json!({"os": {"name": "windows"}}));
    let linux = with(pod, &json!({"os": {"name": "linux"}}));
    let said = "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), \
        unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), \
        seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    table(&[
        ("restricted:latest", windows.clone(), ""),
        ("restricted:v1.25", windows.clone(), ""),
        ("restricted:v1.24", windows, said),
        ("restricted:latest", linux, said),
    ]);
}

#[test]
fn capabilities() {
    let bind = careful_but(
        &json!({}),
        &json!({"capabilities": {"drop": ["CHOWN", "ALL"], "add": ["NET_BIND_SERVICE"]}}),
    );
    let bad = careful_but(&json!({}), &json!({"capabilities": {"add": ["CHOWN"]}}));
    table(&[
        ("restricted:latest", bind, ""),
        ("restricted:v1.21", bad.clone(), ""),
        (
            "restricted:v1.22",
            bad.clone(),
            "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            "restricted:latest",
            and(
                bad,
                &json!({"capabilities": {"drop": ["all"], "add": ["BPF"]}}),
            ),
            "unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]; containers \"a\", \"b\" must not include \"BPF\", \"CHOWN\" in securityContext.capabilities.add)",
        ),
    ]);
}

#[test]
fn proc_mount_has_no_way_out() {
    let pod = careful_but(&json!({}), &json!({"procMount": "Unmasked"}));
    let pod = with(pod, &json!({"hostUsers": false}));
    let said = "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")";
    table(&[
        ("restricted:v1.34", pod.clone(), said),
        ("restricted:latest", pod.clone(), said),
        ("baseline:latest", pod, ""),
    ]);
}

#[test]
fn volumes() {
    let volume = |name: &str, kind: &str| json!({"name": name, kind: {}});
    let of = |volumes: &[Value]| with(careful(), &json!({"volumes": volumes}));
    let allowed = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    table(&[
        (
            "restricted:latest",
            of(&allowed.map(|kind| volume("v", kind))),
            "",
        ),
        (
            "restricted:latest",
            of(&[volume("a", "hostPath")]),
            "restricted volume types (volume \"a\" uses restricted volume type \"hostPath\")",
        ),
        (
            "restricted:v1.0",
            of(&[
                volume("b", "nfs"),
                volume("c", "secret"),
                volume("a", "iscsi"),
                volume("d", "nfs"),
                volume("e", "future"),
            ]),
            "restricted volume types (volumes \"b\", \"a\", \"d\", \"e\" use restricted volume types \"iscsi\", \"nfs\", \"unknown\")",
        ),
    ]);
    for kind in [
        "hostPath",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "gitRepo",
        "nfs",
        "iscsi",
        "glusterfs",
        "rbd",
        "flexVolume",
        "cinder",
        "cephfs",
        "flocker",
        "fc",
        "azureFile",
        "vsphereVolume",
        "quobyte",
        "azureDisk",
        "photonPersistentDisk",
        "portworxVolume",
        "scaleIO",
        "storageos",
    ] {
        let said = format!(
            "restricted volume types (volume \"v\" uses restricted volume type \"{kind}\")"
        );
        table(&[("restricted:latest", of(&[volume("v", kind)]), &said)]);
    }
}

#[test]
fn nobody_is_root() {
    let no = json!({"runAsNonRoot": false});
    let yes = json!({"runAsNonRoot": true});
    let unset = without("runAsNonRoot", "-");
    let bad = careful_but(&no, &no);
    table(&[
        (
            "restricted:latest",
            careful_but(&json!({"runAsNonRoot": null}), &yes),
            "",
        ),
        // every container says it itself, but the pod says otherwise
        (
            "restricted:latest",
            careful_but(&no, &yes),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        (
            "restricted:latest",
            and(unset.clone(), &json!({})),
            "runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true)",
        ),
        (
            "restricted:latest",
            and(bad.clone(), &no),
            "runAsNonRoot != true (pod and containers \"a\", \"b\" must not set securityContext.runAsNonRoot=false)",
        ),
        (
            "restricted:v1.0",
            careful_but(&yes, &no),
            "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
        ),
        (
            "restricted:v1.35",
            with(unset.clone(), &json!({"hostUsers": false})),
            "",
        ),
        (
            "restricted:v1.34",
            with(unset, &json!({"hostUsers": false})),
            "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)",
        ),
    ]);
}

#[test]
fn nobody_is_user_0() {
    let user = |user: i64| json!({"runAsUser": user});
    let root = and(careful_but(&user(0), &user(0)), &user(1000));
    let said = "runAsUser=0 (pod and container \"a\" must not set runAsUser=0)";
    table(&[
        ("restricted:latest", careful_but(&user(1), &user(1000)), ""),
        ("restricted:latest", root.clone(), said),
        ("restricted:v1.23", root.clone(), said),
        ("restricted:v1.22", root.clone(), ""),
        (
            "restricted:v1.34",
            with(root.clone(), &json!({"hostUsers": false})),
            said,
        ),
        (
            "restricted:v1.35",
            with(root, &json!({"hostUsers": false})),
            "",
        ),
    ]);
}

#[test]
fn seccomp() {
    let profile = |kind: &str| json!({"seccompProfile": {"type": kind}});
    let unset = without("seccompProfile", "-");
    let said = "seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    table(&[
        (
            "restricted:latest",
            careful_but(&json!({"seccompProfile": null}), &profile("Localhost")),
            "",
        ),
        ("restricted:latest", unset.clone(), said),
        ("restricted:v1.19", unset.clone(), said),
        ("restricted:v1.18", unset.clone(), ""),
        (
            "restricted:latest",
            and(unset, &profile("RuntimeDefault")),
            said,
        ),
        (
            "restricted:latest",
            careful_but(&profile("Unconfined"), &profile("Unconfined")),
            "seccompProfile (pod and container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ]);
}
