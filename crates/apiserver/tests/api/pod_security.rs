//! Pod Security: what the labels of a namespace do to pods, to templates of pods and to the namespace itself.

use serde_json::{Value, json};
use store::{EmbeddedStore, Expect, Store as _};

use crate::server::{Answer, Server, deployment, pod};

const SAFE: &str = "/api/v1/namespaces/safe";
const PODS: &str = "/api/v1/namespaces/safe/pods";
const NAMESPACES: &str = "/api/v1/namespaces";
const PLAIN_AT_RESTRICTED: &str = "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";

fn namespace(labels: &Value) -> Value {
    let labels: serde_json::Map<_, _> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(mode, value)| (format!("pod-security.kubernetes.io/{mode}"), value.clone()))
        .collect();
    json!({"metadata": {"name": "safe", "labels": labels}})
}

/// A server with the namespace `safe`.
async fn with(labels: &Value) -> Server {
    let server = Server::new().await;
    let answer = server.post(NAMESPACES, &namespace(labels)).await;
    assert_eq!(told(&answer), [""; 0]);
    answer.expect(201);
    server
}

/// The warnings of an answer, as they were before they became headers.
fn told(answer: &Answer) -> Vec<String> {
    let headers = answer.headers.get_all("warning").iter();
    headers
        .map(|header| {
            let text = header.to_str().expect("text");
            let text = text.strip_prefix("299 - \"").expect("a code");
            text.strip_suffix('"')
                .expect("an end")
                .replace("\\\"", "\"")
        })
        .collect()
}

/// A pod that meets `restricted`.
fn careful(name: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    pod["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    pod
}

fn privileged(name: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    pod
}

#[tokio::test]
async fn without_labels_nothing_happens() {
    let server = with(&json!({})).await;
    let answer = server.post(PODS, &privileged("p")).await;
    assert_eq!(told(&answer), [""; 0]);
    answer.expect(201);
}

#[tokio::test]
async fn pods_that_do_not_meet_what_is_enforced_are_refused() {
    let server = with(&json!({"enforce": "restricted"})).await;
    let refused = server.post(PODS, &pod("p")).await;
    assert_eq!(told(&refused), [""; 0], "a refusal says enough");
    assert_eq!(refused.body["reason"], "Forbidden");
    assert_eq!(
        refused.body["details"],
        json!({"name": "p", "kind": "pods"})
    );
    assert_eq!(
        refused.refusal(403),
        format!(
            "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": {PLAIN_AT_RESTRICTED}"
        )
    );
    let tried = server.post(&format!("{PODS}?dryRun=All"), &pod("p")).await;
    tried.refusal(403);
    server.get(&format!("{PODS}/p")).await.refusal(404);
    let answer = server.post(PODS, &careful("p")).await;
    assert_eq!(told(&answer), [""; 0]);
    answer.expect(201);
    // a name that is generated is told
    let mut unnamed = pod("");
    unnamed["metadata"] = json!({"generateName": "web-"});
    let refused = server.post(PODS, &unnamed).await.refusal(403);
    assert!(refused.starts_with("pods \"web-"), "{refused}");
    // what is no pod is said first
    let mut invalid = pod("q");
    invalid["spec"]["containers"][0]["image"] = Value::Null;
    server.post(PODS, &invalid).await.refusal(422);
    // elsewhere nobody asks
    let elsewhere = "/api/v1/namespaces/default/pods";
    server.post(elsewhere, &privileged("p")).await.expect(201);
}

#[tokio::test]
async fn a_version_is_enforced_as_it_was() {
    let server = with(&json!({"enforce": "baseline", "enforce-version": "v1.33"})).await;
    let mut probed = pod("p");
    probed["spec"]["containers"][0]["livenessProbe"] =
        json!({"httpGet": {"port": 80, "host": "127.0.0.1"}});
    server.post(PODS, &probed).await.expect(201);
    assert_eq!(
        server.post(PODS, &privileged("q")).await.refusal(403),
        "pods \"q\" is forbidden: violates PodSecurity \"baseline:v1.33\": privileged (container \"c\" must not set securityContext.privileged=true)"
    );
}

#[tokio::test]
async fn pods_are_warned_of() {
    let server =
        with(&json!({"enforce": "baseline", "warn": "restricted", "warn-version": "v1.8"})).await;
    let answer = server.post(PODS, &pod("p")).await;
    assert_eq!(
        told(&answer),
        [
            "would violate PodSecurity \"restricted:v1.8\": allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)"
        ]
    );
    answer.expect(201);
    assert_eq!(told(&server.post(PODS, &careful("q")).await), [""; 0]);
    // what is wrong with the body is told first
    let mut odd = pod("r");
    odd["future"] = 1.into();
    let warnings = told(&server.post(PODS, &odd).await);
    assert_eq!(warnings[0], "unknown field \"future\"");
    assert!(
        warnings[1].starts_with("would violate PodSecurity"),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn updates_of_pods_are_looked_at_when_they_matter() {
    let server = with(&json!({})).await;
    server.post(PODS, &pod("p")).await.expect(201);
    let labels =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    server.patch(SAFE, "merge", &labels).await.expect(200);
    // a pod that was there goes on
    let path = format!("{PODS}/p");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    server.patch(&path, "merge", &label).await.expect(200);
    let status = json!({"status": {"phase": "Running"}});
    let of_status = format!("{path}/status");
    server.patch(&of_status, "merge", &status).await.expect(200);
    // but runs no other image
    let image = json!({"spec": {"containers": [{"name": "c", "image": "busybox:2"}]}});
    let said = format!(
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": {PLAIN_AT_RESTRICTED}"
    );
    assert_eq!(
        server
            .patch(&path, "strategic-merge", &image)
            .await
            .refusal(403),
        said
    );
    let mut whole = server.get(&path).await.expect(200);
    whole["spec"]["containers"][0]["image"] = "busybox:2".into();
    assert_eq!(server.put(&path, &whole).await.refusal(403), said);
    // and gets no container to debug it
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "busybox:1", "targetContainerName": "c"}]}});
    let of_debuggers = format!("{path}/ephemeralcontainers");
    let refused = server
        .patch(&of_debuggers, "strategic-merge", &debugger)
        .await
        .refusal(403);
    assert!(
        refused.contains(
            "(containers \"c\", \"d\" must set securityContext.allowPrivilegeEscalation=false)"
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn debuggers_are_held_to_the_rules() {
    let server = with(&json!({"enforce": "restricted"})).await;
    server.post(PODS, &careful("p")).await.expect(201);
    let path = format!("{PODS}/p/ephemeralcontainers");
    let debugger = |name: &str, context: Value| json!({"spec": {"ephemeralContainers": [{"name": name, "image": "busybox:1", "securityContext": context}]}});
    let careless = debugger("d", json!({}));
    assert_eq!(
        server
            .patch(&path, "strategic-merge", &careless)
            .await
            .refusal(403),
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"d\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"d\" must set securityContext.capabilities.drop=[\"ALL\"])"
    );
    let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let good = debugger("e", context);
    server
        .patch(&path, "strategic-merge", &good)
        .await
        .expect(200);
}

#[tokio::test]
async fn templates_are_warned_of_and_taken() {
    let server = with(&json!({"enforce": "restricted"})).await;
    let template = deployment("web")["spec"]["template"].clone();
    let selector = json!({"matchLabels": {"app": "web"}});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = "Never".into();
    let said = format!("would violate PodSecurity \"restricted:latest\": {PLAIN_AT_RESTRICTED}");
    for (path, spec) in [
        (
            "apis/apps/v1/namespaces/safe/deployments",
            json!({"selector": selector, "template": template}),
        ),
        (
            "apis/apps/v1/namespaces/safe/replicasets",
            json!({"selector": selector, "template": template}),
        ),
        (
            "apis/apps/v1/namespaces/safe/daemonsets",
            json!({"selector": selector, "template": template}),
        ),
        (
            "apis/apps/v1/namespaces/safe/statefulsets",
            json!({"selector": selector, "template": template, "serviceName": "web"}),
        ),
        (
            "apis/batch/v1/namespaces/safe/jobs",
            json!({"template": once}),
        ),
        (
            "apis/batch/v1/namespaces/safe/cronjobs",
            json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": once}}}),
        ),
        (
            "api/v1/namespaces/safe/replicationcontrollers",
            json!({"selector": {"app": "web"}, "template": template}),
        ),
    ] {
        let object = json!({"metadata": {"name": "web"}, "spec": spec});
        let answer = server.post(&format!("/{path}"), &object).await;
        assert_eq!(told(&answer), [said.as_str()], "{path}");
        answer.expect(201);
        // each write tells it, one that changes something else as well
        let label = json!({"metadata": {"labels": {"a": "b"}}});
        let answer = server.patch(&format!("/{path}/web"), "merge", &label).await;
        assert_eq!(told(&answer), [said.as_str()], "{path}");
        answer.expect(200);
    }
    let kept = json!({"metadata": {"name": "web"}, "template": template});
    let answer = server.post(&format!("{SAFE}/podtemplates"), &kept).await;
    assert_eq!(told(&answer), [said.as_str()]);
    answer.expect(201);
    let web = "/apis/apps/v1/namespaces/safe/deployments/web";
    let status = json!({"status": {"replicas": 1}});
    let answer = server
        .patch(&format!("{web}/status"), "merge", &status)
        .await;
    assert_eq!(told(&answer), [""; 0]);
    let size = json!({"spec": {"replicas": 3}});
    let answer = server.patch(&format!("{web}/scale"), "merge", &size).await;
    assert_eq!(told(&answer), [""; 0]);
    answer.expect(200);
}

#[tokio::test]
async fn an_apply_that_changes_nothing_is_warned_of() {
    let server = with(&json!({"warn": "baseline"})).await;
    let mut web = deployment("web");
    web["spec"]["template"]["spec"]["hostPID"] = true.into();
    let path = "/apis/apps/v1/namespaces/safe/deployments/web?fieldManager=m";
    for code in [201, 200] {
        let headers = [("content-type", "application/apply-patch+yaml")];
        let answer = server.ask("PATCH", path, &headers, web.to_string()).await;
        assert_eq!(
            told(&answer),
            ["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"]
        );
        answer.expect(code);
    }
}

#[tokio::test]
async fn labels_that_make_no_sense_are_refused() {
    let server = Server::new().await;
    let wrong = namespace(&json!({"enforce": "strict", "warn-version": "1.30"}));
    let refused = server.post(NAMESPACES, &wrong).await;
    assert_eq!(refused.body["reason"], "Invalid");
    assert_eq!(
        refused.refusal(422),
        "Namespace \"safe\" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.30\": must be \"latest\" or \"v1.x\"]"
    );
    server
        .post(NAMESPACES, &namespace(&json!({})))
        .await
        .expect(201);
    let label = |mode: &str, to: &str| json!({"metadata": {"labels": {format!("pod-security.kubernetes.io/{mode}"): to}}});
    assert_eq!(
        server
            .patch(SAFE, "merge", &label("audit", "none"))
            .await
            .refusal(422),
        "Namespace \"safe\" is invalid: metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"none\": must be one of privileged, baseline, restricted"
    );
    server
        .patch(SAFE, "merge", &label("audit", "privileged"))
        .await
        .expect(200);
}

#[tokio::test]
async fn who_enforces_more_is_told_of_the_pods_that_are_there() {
    let server = with(&json!({})).await;
    for pod in [
        careful("a"),
        privileged("b"),
        privileged("c"),
        pod("d"),
        careful("e"),
    ] {
        server.post(PODS, &pod).await.expect(201);
    }
    let enforce = |level: Value| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    let set = async |level: &str, dry: &str| {
        let path = format!("{SAFE}{dry}");
        let answer = server.patch(&path, "merge", &enforce(level.into())).await;
        let warnings = told(&answer);
        answer.expect(200);
        warnings
    };
    let restricted = [
        "existing pods in namespace \"safe\" violate the new PodSecurity enforce level \"restricted:latest\"",
        "b (and 1 other pod): privileged, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile",
        "d: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile",
    ];
    assert_eq!(set("restricted", "?dryRun=All").await, restricted);
    assert_eq!(
        set("baseline", "").await,
        [
            "existing pods in namespace \"safe\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "b (and 1 other pod): privileged",
        ]
    );
    assert_eq!(set("restricted", "").await, restricted);
    assert_eq!(set("restricted", "").await, [""; 0], "it is no news");
    assert_eq!(set("baseline", "").await, [""; 0], "it asks for less");
    assert_eq!(set("privileged", "").await, [""; 0]);
}

#[tokio::test]
async fn many_pods_are_all_looked_at() {
    let server = with(&json!({})).await;
    for n in 0..130 {
        let path = format!("{PODS}?fieldValidation=Ignore");
        server
            .post(&path, &privileged(&format!("p{n:03}")))
            .await
            .expect(201);
    }
    let labels =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let answer = server.patch(SAFE, "merge", &labels).await;
    assert_eq!(
        told(&answer)[1..],
        ["p000 (and 129 other pods): privileged"]
    );
}

#[tokio::test]
async fn labels_that_were_wrong_before_may_stay() {
    let store = EmbeddedStore::in_memory().expect("a store");
    let mut stored = namespace(&json!({"enforce": "strict"}));
    stored["apiVersion"] = "v1".into();
    stored["kind"] = "Namespace".into();
    store
        .put(
            "/registry/namespaces/safe",
            stored.to_string().into(),
            Expect::Absent,
        )
        .await
        .expect("stored");
    let server = Server::over(store, |_| {}).await;
    let note = json!({"metadata": {"annotations": {"a": "b"}}});
    server.patch(SAFE, "merge", &note).await.expect(200);
    let other = json!({"metadata": {"labels": {"pod-security.kubernetes.io/warn": "x"}}});
    server.patch(SAFE, "merge", &other).await.refusal(422);
    // what nobody understands is enforced strictly
    let refused = server.post(PODS, &pod("p")).await.refusal(403);
    assert!(
        refused.contains("violates PodSecurity \"restricted:latest\""),
        "{refused}"
    );
}
