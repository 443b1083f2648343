//! StatefulSets, DaemonSets, ControllerRevisions, ReplicationControllers and PodTemplates: what the server adds, keeps,
//! shows and refuses.

use serde_json::{Value, json};

use crate::server::Server;

const STATEFUL_SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const DAEMON_SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";
const CONTROLLERS: &str = "/api/v1/namespaces/default/replicationcontrollers";
const TEMPLATES: &str = "/api/v1/namespaces/default/podtemplates";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "busybox:1"}]}})
}

fn stateful_set(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
        "replicas": 2, "serviceName": "dbs", "selector": {"matchLabels": {"app": "a"}}, "template": template(),
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}})
}

fn daemon_set(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template()}})
}

fn controller(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": name}, "spec": {"template": template()}})
}

/// With a value at a JSON pointer; `null` takes it away.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let mut place = &mut object;
    for part in parent.split('/').skip(1) {
        place = match part.parse::<usize>() {
            Ok(n) => &mut place[n],
            Err(_) => &mut place[part],
        };
    }
    if value.is_null() {
        place.as_object_mut().expect("an object").remove(key);
    } else {
        place[key] = value;
    }
    object
}

#[tokio::test]
async fn a_stateful_set_keeps_what_its_pods_depend_on() {
    let server = Server::new().await;
    let mut object = stateful_set("db");
    object["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    let made = server.post(STATEFUL_SETS, &object).await.expect(201);
    assert_eq!(
        made["status"],
        json!({"replicas": 0, "availableReplicas": 0})
    );
    assert_eq!(made["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(
        made["spec"]["volumeClaimTemplates"][0]["spec"]["volumeMode"],
        "Filesystem"
    );
    let path = format!("{STATEFUL_SETS}/db");
    let same = server.put(&path, &object).await.expect(200);
    assert_eq!(same["metadata"]["generation"], 1, "nothing changed");
    let changes = json!({"spec": {
        "replicas": 3, "minReadySeconds": 1, "ordinals": {"start": 2}, "revisionHistoryLimit": 3,
        "updateStrategy": {"rollingUpdate": {"partition": 1}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"},
        "template": {"metadata": {"annotations": {"x": "y"}}},
    }});
    let changed = server.patch(&path, "merge", &changes).await.expect(200);
    assert_eq!(changed["metadata"]["generation"], 2);
    let forbidden = "StatefulSet.apps \"db\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    for spec in [
        json!({"serviceName": "other"}),
        json!({"podManagementPolicy": "Parallel"}),
        json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"volumeMode": "Block"}}]}),
    ] {
        let refused = server
            .patch(&path, "merge", &json!({"spec": spec.clone()}))
            .await
            .refusal(422);
        assert_eq!(refused, forbidden, "{spec}");
    }
    let scale = format!("{path}/scale");
    let seen = server.get(&scale).await.expect(200);
    assert_eq!(
        (&seen["spec"]["replicas"], &seen["status"]["selector"]),
        (&json!(3), &json!("app=a"))
    );
    let more = json!({"spec": {"replicas": 5}});
    server.patch(&scale, "merge", &more).await.expect(200);
    assert_eq!(server.get(&path).await.expect(200)["spec"]["replicas"], 5);
    let status = json!({"status": {"replicas": 1, "readyReplicas": 1}, "spec": {"replicas": 9}});
    let told = server
        .patch(&format!("{path}/status"), "merge", &status)
        .await
        .expect(200);
    assert_eq!(
        (&told["status"]["readyReplicas"], &told["spec"]["replicas"]),
        (&json!(1), &json!(5))
    );
}

#[tokio::test]
async fn refusals_are_in_upstreams_words() {
    let server = Server::new().await;
    let rolling = "/spec/updateStrategy";
    let cases = [
        (
            STATEFUL_SETS,
            with(stateful_set("x"), "/metadata/name", "a.b".into()),
            "StatefulSet.apps \"a.b\" is invalid: metadata.name: Invalid value: \"a.b\": must not contain dots",
        ),
        (
            STATEFUL_SETS,
            with(stateful_set("x"), "/spec/podManagementPolicy", "No".into()),
            "spec.podManagementPolicy: Invalid value: \"No\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            STATEFUL_SETS,
            with(stateful_set("x"), rolling, json!({"type": "No"})),
            "spec.updateStrategy: Invalid value: {\"type\":\"No\"}: must be 'RollingUpdate' or 'OnDelete'",
        ),
        (
            STATEFUL_SETS,
            with(
                stateful_set("x"),
                rolling,
                json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
            ),
            "only allowed for updateStrategy 'RollingUpdate'",
        ),
        (
            STATEFUL_SETS,
            with(
                stateful_set("x"),
                rolling,
                json!({"rollingUpdate": {"partition": -1}}),
            ),
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            STATEFUL_SETS,
            with(
                stateful_set("x"),
                rolling,
                json!({"rollingUpdate": {"maxUnavailable": 0}}),
            ),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ),
        (
            STATEFUL_SETS,
            with(
                stateful_set("x"),
                rolling,
                json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
            ),
            "must not be greater than 100%",
        ),
        (
            STATEFUL_SETS,
            with(
                stateful_set("x"),
                "/spec/persistentVolumeClaimRetentionPolicy",
                json!({"whenScaled": "Keep"}),
            ),
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Keep\": supported values: \"Delete\", \"Retain\"",
        ),
        (
            STATEFUL_SETS,
            with(stateful_set("x"), "/spec/ordinals", json!({"start": -1})),
            "spec.ordinals.start: Invalid value: -1",
        ),
        (
            STATEFUL_SETS,
            with(stateful_set("x"), "/spec/selector", json!({})),
            "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
        ),
        (
            STATEFUL_SETS,
            with(
                stateful_set("x"),
                "/spec/template/metadata/labels/app",
                "b".into(),
            ),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`",
        ),
        (
            STATEFUL_SETS,
            with(
                stateful_set("x"),
                "/spec/template/spec/activeDeadlineSeconds",
                5.into(),
            ),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
        ),
        (
            DAEMON_SETS,
            with(
                daemon_set("x"),
                "/spec/template/spec/restartPolicy",
                "Never".into(),
            ),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            DAEMON_SETS,
            with(
                daemon_set("x"),
                rolling,
                json!({"rollingUpdate": {"maxUnavailable": 0}}),
            ),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
        ),
        (
            DAEMON_SETS,
            with(
                daemon_set("x"),
                rolling,
                json!({"rollingUpdate": {"maxSurge": 1}}),
            ),
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ),
        (
            DAEMON_SETS,
            with(daemon_set("x"), "/spec/selector", json!({})),
            "empty selector is invalid for daemonset",
        ),
        (
            REVISIONS,
            json!({"metadata": {"name": "x"}, "revision": 1}),
            "data: Required value: data is mandatory",
        ),
        (
            REVISIONS,
            json!({"metadata": {"name": "x"}, "revision": -1, "data": {}}),
            "revision: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            CONTROLLERS,
            with(controller("x"), "/spec/template", Value::Null),
            "spec.template: Required value",
        ),
        (
            CONTROLLERS,
            with(
                controller("x"),
                "/spec/template/metadata",
                json!({"labels": {}}),
            ),
            "spec.selector: Required value",
        ),
        (
            CONTROLLERS,
            with(controller("x"), "/spec/selector", json!({"app": "b"})),
            "`selector` does not match template `labels`",
        ),
        (
            TEMPLATES,
            json!({"metadata": {"name": "x"}, "template": {"spec": {"containers": []}}}),
            "template.spec.containers: Required value",
        ),
    ];
    for (path, object, expected) in cases {
        let refused = server.post(path, &object).await.refusal(422);
        assert!(refused.contains(expected), "{refused}\n{expected}");
    }
}

#[tokio::test]
async fn a_daemon_set_counts_its_templates() {
    let server = Server::new().await;
    let made = server
        .post(DAEMON_SETS, &daemon_set("agent"))
        .await
        .expect(201);
    let count = |object: &Value| {
        object["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone()
    };
    assert_eq!(count(&made), "1");
    assert_eq!(
        made["status"],
        json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0})
    );
    let path = format!("{DAEMON_SETS}/agent");
    let other = with(
        daemon_set("agent"),
        "/spec/template/spec/containers/0/image",
        "busybox:2".into(),
    );
    let changed = server.put(&path, &other).await.expect(200);
    assert_eq!(count(&changed), "2");
    assert_eq!(changed["metadata"]["generation"], 2);
    let slower = server
        .patch(&path, "merge", &json!({"spec": {"minReadySeconds": 3}}))
        .await
        .expect(200);
    assert_eq!(
        (count(&slower), &slower["metadata"]["generation"]),
        (json!("2"), &json!(3))
    );
    let selector = json!({"spec": {"selector": {"matchLabels": {"b": "c"}}, "template": {"metadata": {"labels": {"b": "c"}}}}});
    let refused = server.patch(&path, "merge", &selector).await.refusal(422);
    assert!(
        refused.contains("spec.selector: Invalid value") && refused.contains("field is immutable"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_revision_keeps_its_data_and_may_get_another_number() {
    let server = Server::new().await;
    let kept = json!({"spec": {"template": {"$patch": "replace", "anything": [1, {"a": null}]}}});
    let revision = json!({"metadata": {"name": "r"}, "revision": 1, "data": kept});
    server.post(REVISIONS, &revision).await.expect(201);
    let path = format!("{REVISIONS}/r");
    let again = server
        .patch(&path, "merge", &json!({"revision": 4}))
        .await
        .expect(200);
    assert_eq!(again["revision"], 4);
    assert_eq!(again["data"]["spec"]["template"]["$patch"], "replace");
    let refused = server
        .patch(&path, "merge", &json!({"data": {"spec": 1}}))
        .await
        .refusal(422);
    assert!(refused.contains("field is immutable"), "{refused}");
}

#[tokio::test]
async fn a_set_goes_back_by_the_patch_that_a_revision_keeps() {
    let server = Server::new().await;
    let first = server
        .post(STATEFUL_SETS, &stateful_set("db"))
        .await
        .expect(201);
    let path = format!("{STATEFUL_SETS}/db");
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"new": "x"}}, "spec": {"nodeSelector": {"a": "b"}}}}});
    server.patch(&path, "merge", &change).await.expect(200);
    let mut before = first["spec"]["template"].clone();
    before["$patch"] = "replace".into();
    let back = server
        .patch(
            &path,
            "strategic-merge",
            &json!({"spec": {"template": before}}),
        )
        .await
        .expect(200);
    assert_eq!(back["spec"]["template"], first["spec"]["template"]);
}

#[tokio::test]
async fn replication_controllers_scale_and_templates_are_kept() {
    let server = Server::new().await;
    let made = server
        .post(CONTROLLERS, &controller("old"))
        .await
        .expect(201);
    assert_eq!(made["spec"]["selector"], json!({"app": "a"}));
    assert_eq!(made["metadata"]["labels"], json!({"app": "a"}));
    let path = format!("{CONTROLLERS}/old/scale");
    let scale = server
        .patch(&path, "merge", &json!({"spec": {"replicas": 4}}))
        .await
        .expect(200);
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!(4), &json!("app=a"))
    );
    // its selector may change, with its template
    let other = json!({"spec": {"selector": {"app": null, "b": "c"}, "template": {"metadata": {"labels": {"b": "c"}}}}});
    server
        .patch(&format!("{CONTROLLERS}/old"), "merge", &other)
        .await
        .expect(200);
    let kept = json!({"metadata": {"name": "t"}, "template": template()});
    let made = server.post(TEMPLATES, &kept).await.expect(201);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["template"]["spec"]["restartPolicy"], "Always");
    let path = format!("{TEMPLATES}/t");
    let change = json!({"template": {"metadata": {"labels": {"x": "y"}}}});
    let changed = server.patch(&path, "merge", &change).await.expect(200);
    assert_eq!(changed["metadata"]["generation"], 2);
}

#[tokio::test]
async fn columns_are_upstreams() {
    let server = Server::new().await;
    let cases = [
        (STATEFUL_SETS, "NAME|READY|AGE|CONTAINERS|IMAGES"),
        (
            DAEMON_SETS,
            "NAME|DESIRED|CURRENT|READY|UP-TO-DATE|AVAILABLE|NODE SELECTOR|AGE|CONTAINERS|IMAGES|SELECTOR",
        ),
        (REVISIONS, "NAME|CONTROLLER|REVISION|AGE"),
        (
            CONTROLLERS,
            "NAME|DESIRED|CURRENT|READY|AGE|CONTAINERS|IMAGES|SELECTOR",
        ),
        (TEMPLATES, "NAME|CONTAINERS|IMAGES|POD LABELS"),
    ];
    for (path, expected) in cases {
        let answer = server.ask("GET", path, &[("accept", TABLE)], "").await;
        let table = answer.expect(200);
        let columns = table["columnDefinitions"].as_array().expect("columns");
        let names: Vec<String> = columns
            .iter()
            .map(|column| column["name"].as_str().expect("a name").to_uppercase())
            .collect();
        assert_eq!(names.join("|"), expected);
    }
}

#[tokio::test]
async fn they_are_found_by_short_names() {
    let server = Server::new().await;
    let mut found = Vec::new();
    for path in ["/apis/apps/v1", "/api/v1"] {
        let list = server.get(path).await.expect(200);
        for resource in list["resources"].as_array().expect("resources") {
            let short = resource["shortNames"][0].as_str().unwrap_or("-");
            found.push(format!(
                "{} {short}",
                resource["name"].as_str().expect("a name")
            ));
        }
    }
    for expected in [
        "statefulsets sts",
        "statefulsets/scale -",
        "statefulsets/status -",
        "daemonsets ds",
        "daemonsets/status -",
        "controllerrevisions -",
        "replicationcontrollers rc",
        "replicationcontrollers/scale -",
        "podtemplates -",
    ] {
        assert!(found.iter().any(|one| one == expected), "{expected}");
    }
    assert!(!found.contains(&"daemonsets/scale -".to_owned()));
}
