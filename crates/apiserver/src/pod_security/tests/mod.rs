//! Each check with pods that pass and pods that do not, in upstream's words.

mod baseline;
mod labels;
mod restricted;

use serde_json::{Value, json};

use super::*;

/// What is wrong with a pod by a standard that is written as messages show it (`baseline:v1.30`).
#[track_caller]
fn wrong(standard: &str, pod: &Value) -> Violations {
    let (level, version) = standard.split_once(':').expect("LEVEL:VERSION");
    let labels = json!({
        "pod-security.kubernetes.io/enforce": level,
        "pod-security.kubernetes.io/enforce-version": version,
    });
    let (policy, problems) = Policy::of(&labels);
    assert!(problems.is_empty(), "{standard}");
    assert_eq!(policy.enforce.to_string(), standard);
    evaluate(policy.enforce, &pod["metadata"], &pod["spec"])
}

/// A pod that says the least.
fn plain() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"securityContext": {}, "containers": [{"name": "a"}]}})
}

/// A pod that meets `restricted`.
fn careful() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}})
}

/// A pod with fields of its spec set.
fn with(mut pod: Value, fields: &Value) -> Value {
    for (field, value) in fields.as_object().expect("fields") {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// A careful pod whose security context, and that of its container, have something else.
fn careful_but(of_pod: &Value, of_container: &Value) -> Value {
    let mut pod = careful();
    let spec = &mut pod["spec"];
    for (field, value) in of_pod.as_object().expect("fields") {
        spec["securityContext"][field] = value.clone();
    }
    for (field, value) in of_container.as_object().expect("fields") {
        spec["containers"][0]["securityContext"][field] = value.clone();
    }
    pod
}

/// Puts each pod to a standard; none expected means that it passes.
#[track_caller]
fn table(rows: &[(&str, Value, &str)]) {
    for (standard, pod, expected) in rows {
        assert_eq!(
            wrong(standard, pod).details(),
            *expected,
            "{standard} {pod}"
        );
    }
}

#[test]
fn checks_are_told_in_upstreams_order() {
    let key = |check: &Check| (check.level, check.id);
    assert!(CHECKS.is_sorted_by(|a, b| key(a) < key(b)));
    for check in CHECKS {
        let replaced = |other: &Check| other.id == check.replaces && other.level < check.level;
        assert!(check.replaces.is_empty() || CHECKS.iter().any(replaced));
        assert!(check.since <= NEWEST_MINOR);
    }
}

#[test]
fn ordinary_pods_by_level() {
    let all = "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), \
        unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), \
        runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), \
        seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    table(&[
        (
            "privileged:latest",
            with(plain(), &json!({"hostPID": true})),
            "",
        ),
        ("baseline:latest", plain(), ""),
        ("restricted:latest", plain(), all),
        ("restricted:v1.999", plain(), all),
        (
            "restricted:v1.0",
            plain(),
            "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)",
        ),
        ("restricted:latest", careful(), ""),
        ("restricted:v1.0", careful(), ""),
    ]);
    assert_eq!(
        wrong("restricted:latest", &plain()).reasons(),
        "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
    );
}

#[test]
fn containers_of_all_kinds_are_looked_at() {
    let privileged = |name: &str| json!([{"name": name, "securityContext": {"privileged": true}}]);
    let pod = with(
        plain(),
        &json!({
            "containers": privileged("c"),
            "ephemeralContainers": privileged("e"),
            "initContainers": privileged("i"),
        }),
    );
    let said =
        "privileged (containers \"i\", \"c\", \"e\" must not set securityContext.privileged=true)";
    table(&[("baseline:latest", pod, said)]);
}

#[test]
fn a_check_takes_the_place_of_a_weaker_one() {
    let pod = careful_but(
        &json!({"seccompProfile": {"type": "Unconfined"}}),
        &json!({"capabilities": {"add": ["SYS_ADMIN"], "drop": ["ALL"]}, "procMount": "Unmasked"}),
    );
    let pod = with(
        pod,
        &json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
    );
    let reasons = |standard: &str| wrong(standard, &pod).reasons();
    assert_eq!(
        reasons("baseline:latest"),
        "non-default capabilities, hostPath volumes, procMount, seccompProfile"
    );
    assert_eq!(
        reasons("restricted:latest"),
        "unrestricted capabilities, procMount, restricted volume types, seccompProfile"
    );
    assert_eq!(
        reasons("restricted:v1.21"),
        "non-default capabilities, procMount, restricted volume types, seccompProfile"
    );
}
