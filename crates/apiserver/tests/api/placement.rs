//! PriorityClasses and what pods get of them; PodDisruptionBudgets and evictions; wishes about nodes.

use serde_json::{Value, json};

use crate::server::{PODS, Server, pod};

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn class(name: &str, value: i64) -> Value {
    json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value})
}

fn of_class(name: &str, class: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["priorityClassName"] = class.into();
    pod
}

#[tokio::test]
async fn a_pod_has_the_priority_of_its_class() {
    let server = Server::new().await;
    let spec = |pod: Value| {
        let keys = ["priorityClassName", "priority", "preemptionPolicy"];
        keys.map(|key| pod["spec"][key].clone())
    };
    let plain = server.post(PODS, &pod("plain")).await.expect(201);
    assert_eq!(
        spec(plain),
        [json!(null), json!(0), json!("PreemptLowerPriority")]
    );
    let critical = server
        .post(PODS, &of_class("critical", "system-node-critical"))
        .await
        .expect(201);
    assert_eq!(spec(critical)[1], 2_000_001_000);
    let mut high = class("high", 1000);
    high["preemptionPolicy"] = json!("Never");
    server.post(CLASSES, &high).await.expect(201);
    let important = server
        .post(PODS, &of_class("important", "high"))
        .await
        .expect(201);
    assert_eq!(
        spec(important),
        [json!("high"), json!(1000), json!("Never")]
    );
    assert_eq!(
        server
            .post(PODS, &of_class("lost", "none"))
            .await
            .refusal(403),
        "pods \"lost\" is forbidden: no PriorityClass with name none was found"
    );
    let mut own = of_class("own", "high");
    own["spec"]["priority"] = json!(7);
    assert_eq!(
        server.post(PODS, &own).await.refusal(403),
        "pods \"own\" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name"
    );
    let mut default = class("default", 5);
    default["globalDefault"] = json!(true);
    server.post(CLASSES, &default).await.expect(201);
    let plain = server.post(PODS, &pod("plain-2")).await.expect(201);
    assert_eq!(spec(plain)[..2], [json!("default"), json!(5)]);
    let mut second = default.clone();
    second["metadata"]["name"] = json!("second");
    assert_eq!(
        server.post(CLASSES, &second).await.refusal(403),
        "priorityclasses.scheduling.k8s.io \"second\" is forbidden: PriorityClass default is already marked as default. Only one default can exist"
    );
    // nor becomes one the default by a change
    second["globalDefault"] = json!(false);
    server.post(CLASSES, &second).await.expect(201);
    let (default, second) = (format!("{CLASSES}/default"), format!("{CLASSES}/second"));
    let marked = json!({"globalDefault": true});
    assert_eq!(
        server.patch(&second, "merge", &marked).await.refusal(403),
        "priorityclasses.scheduling.k8s.io \"second\" is forbidden: PriorityClass default is already marked as default. Only one default can exist"
    );
    let described = json!({"globalDefault": true, "description": "the usual one"});
    server
        .patch(&default, "merge", &described)
        .await
        .expect(200);
    let unmarked = json!({"globalDefault": false});
    server.patch(&default, "merge", &unmarked).await.expect(200);
    server.patch(&second, "merge", &marked).await.expect(200);
}

#[tokio::test]
async fn classes_are_validated_and_the_systems_are_there() {
    let server = Server::new().await;
    let system = server
        .get(&format!("{CLASSES}/system-cluster-critical"))
        .await
        .expect(200);
    assert_eq!(
        (&system["value"], &system["preemptionPolicy"]),
        (&json!(2_000_000_000), &json!("PreemptLowerPriority"))
    );
    let refusals = [
        (
            class("big", 1_000_000_001),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            class("system-mine", 1),
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class",
        ),
    ];
    for (object, why) in refusals {
        let name = object["metadata"]["name"].as_str().expect("a name");
        assert_eq!(
            server.post(CLASSES, &object).await.refusal(422),
            format!("PriorityClass.scheduling.k8s.io {name:?} is invalid: {why}")
        );
    }
    server.post(CLASSES, &class("c", 1)).await.expect(201);
    let change = json!({"value": 2});
    assert_eq!(
        server
            .patch(&format!("{CLASSES}/c"), "merge", &change)
            .await
            .refusal(422),
        "PriorityClass.scheduling.k8s.io \"c\" is invalid: value: Forbidden: may not be changed in an update."
    );
    let table = server
        .ask("GET", CLASSES, &[("accept", TABLE)], "")
        .await
        .expect(200);
    assert_eq!(
        columns(&table),
        "Name|Value|Global-Default|Age|PreemptionPolicy"
    );
    assert_eq!(table["rows"][0]["cells"][1], 1);
}

fn columns(table: &Value) -> String {
    let all = table["columnDefinitions"].as_array().expect("columns");
    let names: Vec<&str> = all
        .iter()
        .filter_map(|column| column["name"].as_str())
        .collect();
    names.join("|")
}

fn budget(name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "web"}}}});
    for (key, value) in spec.as_object().expect("fields") {
        object["spec"][key] = value.clone();
    }
    object
}

#[tokio::test]
async fn budgets_are_validated_and_allow_nothing_at_first() {
    let server = Server::new().await;
    let refusals = [
        (
            json!({"minAvailable": -1}),
            "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({"maxUnavailable": "101%"}),
            "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            json!({"unhealthyPodEvictionPolicy": "Sometimes"}),
            "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Sometimes\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
        ),
    ];
    for (spec, why) in refusals {
        assert_eq!(
            server.post(BUDGETS, &budget("b", spec)).await.refusal(422),
            format!("PodDisruptionBudget.policy \"b\" is invalid: {why}")
        );
    }
    let both = budget("b", json!({"minAvailable": 1, "maxUnavailable": 1}));
    let why = server.post(BUDGETS, &both).await.refusal(422);
    assert!(
        why.ends_with("minAvailable and maxUnavailable cannot be both set"),
        "{why}"
    );
    let made = server
        .post(BUDGETS, &budget("b", json!({"minAvailable": "50%"})))
        .await
        .expect(201);
    assert_eq!(
        (
            &made["metadata"]["generation"],
            &made["status"]["disruptionsAllowed"]
        ),
        (&json!(1), &json!(0))
    );
    let table = server
        .ask("GET", BUDGETS, &[("accept", TABLE)], "")
        .await
        .expect(200);
    assert_eq!(
        columns(&table),
        "Name|Min Available|Max Unavailable|Allowed Disruptions|Age"
    );
    let cells = &table["rows"][0]["cells"];
    assert_eq!(
        cells.as_array().map(|cells| &cells[..4]),
        json!(["b", "50%", "N/A", 0])
            .as_array()
            .map(|cells| &cells[..])
    );
}

/// A pod of the app "web" that runs, ready or not.
async fn running(server: &Server, name: &str, ready: &str) {
    let mut object = pod(name);
    object["metadata"]["labels"] = json!({"app": "web"});
    server.post(PODS, &object).await.expect(201);
    let binding = json!({"target": {"kind": "Node", "name": "n"}});
    server
        .post(&format!("{PODS}/{name}/binding"), &binding)
        .await
        .expect(201);
    let status =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    server
        .patch(&format!("{PODS}/{name}/status"), "strategic-merge", &status)
        .await
        .expect(200);
}

async fn counted(server: &Server, status: Value) {
    let mut whole = json!({"observedGeneration": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2, "disruptionsAllowed": 0});
    for (key, value) in status.as_object().expect("fields") {
        whole[key] = value.clone();
    }
    server
        .patch(
            &format!("{BUDGETS}/b/status"),
            "merge",
            &json!({"status": whole}),
        )
        .await
        .expect(200);
}

async fn evict(server: &Server, name: &str, more: Value) -> crate::server::Answer {
    let mut eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    for (key, value) in more.as_object().expect("fields") {
        eviction[key] = value.clone();
    }
    server
        .post(&format!("{PODS}/{name}/eviction"), &eviction)
        .await
}

#[tokio::test]
async fn an_eviction_needs_its_budgets_permission() {
    let server = Server::new().await;
    for name in ["p", "q", "r"] {
        running(&server, name, "True").await;
    }
    server
        .post(BUDGETS, &budget("b", json!({"minAvailable": 1})))
        .await
        .expect(201);
    // not counted yet
    let answer = evict(&server, "p", json!({})).await;
    assert_eq!(answer.headers["retry-after"], "10");
    let refused = answer.expect(429);
    assert_eq!(
        refused["message"],
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(
        refused["details"],
        json!({"retryAfterSeconds": 10, "causes": [{"reason": "DisruptionBudget", "message": "The disruption budget b is still being processed by the server."}]})
    );
    counted(&server, json!({})).await;
    let refused = evict(&server, "p", json!({})).await.expect(429);
    assert_eq!(
        (&refused["reason"], &refused["details"]),
        (
            &json!("TooManyRequests"),
            &json!({"causes": [{"reason": "DisruptionBudget", "message": "The disruption budget b needs 1 healthy pods and has 2 currently"}]})
        )
    );
    counted(&server, json!({"disruptionsAllowed": 1})).await;
    // tried only: nothing changes
    let dry = json!({"deleteOptions": {"dryRun": ["All"]}});
    evict(&server, "p", dry).await.expect(201);
    let known = server.get(&format!("{BUDGETS}/b")).await.expect(200);
    assert_eq!(known["status"]["disruptionsAllowed"], 1);
    let pod = server.get(&format!("{PODS}/p")).await.expect(200);
    assert!(pod["metadata"]["deletionTimestamp"].is_null());
    evict(&server, "p", json!({})).await.expect(201);
    let pod = server.get(&format!("{PODS}/p")).await.expect(200);
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let conditions = pod["status"]["conditions"].as_array().expect("conditions");
    let why = conditions
        .iter()
        .find(|one| one["type"] == "DisruptionTarget")
        .expect("the condition");
    assert_eq!(
        (&why["status"], &why["reason"], &why["message"]),
        (
            &json!("True"),
            &json!("EvictionByEvictionAPI"),
            &json!("Eviction API: evicting")
        )
    );
    let known = server.get(&format!("{BUDGETS}/b")).await.expect(200);
    assert_eq!(known["status"]["disruptionsAllowed"], 0);
    assert!(known["status"]["disruptedPods"]["p"].is_string());
    assert_eq!(
        known["status"]["conditions"][0]["reason"],
        "InsufficientPods"
    );
    // it is taken once, and the next one is refused
    evict(&server, "q", json!({})).await.expect(429);
    // one that goes already may
    evict(&server, "p", json!({})).await.expect(201);
    // two budgets are one too many
    server
        .post(BUDGETS, &budget("c", json!({"minAvailable": 0})))
        .await
        .expect(201);
    assert_eq!(
        evict(&server, "r", json!({})).await.refusal(500),
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
}

#[tokio::test]
async fn a_budget_with_an_empty_selector_covers_everything() {
    let server = Server::new().await;
    for (name, selector, refused) in [
        ("none", Value::Null, false),
        ("all", json!({}), true),
        ("empty", json!({"matchLabels": {}}), true),
    ] {
        let mut running = pod("p");
        running["spec"]["nodeName"] = "n".into();
        server.post(PODS, &running).await.expect(201);
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let path = format!("{PODS}/p");
        let of_pod = format!("{path}/status");
        server.patch(&of_pod, "merge", &status).await.expect(200);
        let mut budget = budget(name, json!({"minAvailable": 1}));
        budget["spec"]["selector"] = selector;
        server.post(BUDGETS, &budget).await.expect(201);
        let counted = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
        let status = format!("{BUDGETS}/{name}/status");
        server.patch(&status, "merge", &counted).await.expect(200);
        let answer = evict(&server, "p", json!({})).await;
        assert_eq!(answer.code == 429, refused, "{name}: {}", answer.body);
        server
            .delete(&path, &json!({"gracePeriodSeconds": 0}))
            .await;
        server
            .delete(&format!("{BUDGETS}/{name}"), &json!({}))
            .await;
    }
}

#[tokio::test]
async fn pods_that_serve_nobody_may_go() {
    let server = Server::new().await;
    running(&server, "unready", "False").await;
    running(&server, "unready-2", "False").await;
    let mut pending = pod("pending");
    pending["metadata"]["labels"] = json!({"app": "web"});
    server.post(PODS, &pending).await.expect(201);
    server
        .post(BUDGETS, &budget("b", json!({"minAvailable": 1})))
        .await
        .expect(201);
    counted(&server, json!({"currentHealthy": 0})).await;
    evict(&server, "pending", json!({})).await.expect(201);
    evict(&server, "unready", json!({})).await.expect(429);
    // enough others are healthy
    counted(&server, json!({"currentHealthy": 1})).await;
    evict(&server, "unready", json!({})).await.expect(201);
    counted(&server, json!({"currentHealthy": 0})).await;
    let always = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    server
        .patch(&format!("{BUDGETS}/b"), "merge", &always)
        .await
        .expect(200);
    evict(&server, "unready-2", json!({})).await.expect(201);
    let known = server.get(&format!("{BUDGETS}/b")).await.expect(200);
    assert!(
        known["status"]["disruptedPods"].is_null(),
        "none of them was taken from the budget"
    );
    evict(&server, "nobody", json!({})).await.refusal(404);
    let wrong = json!({"metadata": {"name": "other"}});
    assert_eq!(
        evict(&server, "unready-2", wrong).await.refusal(400),
        "name in URL does not match name in Eviction object"
    );
}

#[tokio::test]
async fn wishes_are_validated() {
    let server = Server::new().await;
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let affinity = |kind: &str, value: Value| json!({"affinity": {kind: value}});
    let table = [
        (
            affinity("nodeAffinity", json!({required: {"nodeSelectorTerms": []}})),
            format!("spec.affinity.nodeAffinity.{required}.nodeSelectorTerms: Required value: must have at least one node selector term"),
        ),
        (
            affinity("nodeAffinity", json!({required: {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.uid", "operator": "In", "values": ["x"]}]}]}})),
            format!("spec.affinity.nodeAffinity.{required}.nodeSelectorTerms[0].matchFields[0].key: Invalid value: \"metadata.uid\": not a valid field selector key"),
        ),
        (
            affinity("podAffinity", json!({required: [{"topologyKey": "", "labelSelector": {}}]})),
            format!("spec.affinity.podAffinity.{required}[0].topologyKey: Required value: can not be empty"),
        ),
        (
            affinity("podAntiAffinity", json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": {"topologyKey": "z", "labelSelector": {}}}]})),
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100".to_owned(),
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]}),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than 0".to_owned(),
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "minDomains": 2, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}]}),
            "spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway".to_owned(),
        ),
        (
            json!({"schedulingGates": [{"name": "a"}, {"name": "a"}]}),
            "spec.schedulingGates[1]: Duplicate value: \"a\"".to_owned(),
        ),
    ];
    for (spec, why) in table {
        let mut object = pod("p");
        for (key, value) in spec.as_object().expect("fields") {
            object["spec"][key] = value.clone();
        }
        assert_eq!(
            server.post(PODS, &object).await.refusal(422),
            format!("Pod \"p\" is invalid: {why}")
        );
    }
    let mut gated = pod("gated");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/quota"}]);
    let gated = server.post(PODS, &gated).await.expect(201);
    assert_eq!(
        gated["status"]["conditions"][0]["reason"],
        "SchedulingGated"
    );
}
