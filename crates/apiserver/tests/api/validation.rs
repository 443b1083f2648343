//! The wording of refusals.

use serde_json::{Value, json};

use crate::server::{
    CONFIG_MAPS, DEPLOYMENTS, PODS, SERVICES, Server, config_map, deployment, pod, service,
};

/// Sets a value at a JSON pointer, which must be there.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = object
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{pointer} has no parent"));
    match key.parse::<usize>() {
        Ok(n) => parent[n] = value,
        Err(_) => parent[key] = value,
    }
    object
}

#[tokio::test]
async fn messages_are_upstreams() {
    let server = Server::new().await;
    let hpas = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let hpa = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    let container = "/spec/containers/0";
    let cases = [
        (
            CONFIG_MAPS,
            with(config_map("x"), "/metadata/name", "A_b".into()),
            "ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            CONFIG_MAPS,
            json!({}),
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            CONFIG_MAPS,
            with(config_map("x"), "/data/b c", "".into()),
            "ConfigMap \"x\" is invalid: data[b c]: Invalid value: \"b c\": a valid config key must consist of",
        ),
        (
            CONFIG_MAPS,
            with(config_map("x"), "/metadata/labels", json!({"a": "b c"})),
            "ConfigMap \"x\" is invalid: metadata.labels: Invalid value: \"b c\": a valid label must be an empty string or consist of",
        ),
        (
            DEPLOYMENTS,
            with(
                deployment("d"),
                "/spec/selector/matchLabels/app",
                "other".into(),
            ),
            "Deployment.apps \"d\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"d\"}: `selector` does not match template `labels`",
        ),
        (
            DEPLOYMENTS,
            with(deployment("d"), "/spec/selector", json!({})),
            "Deployment.apps \"d\" is invalid: spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            DEPLOYMENTS,
            with(deployment("d"), "/spec/replicas", json!(-1)),
            "Deployment.apps \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            DEPLOYMENTS,
            with(
                deployment("d"),
                "/spec/template/spec/restartPolicy",
                "Never".into(),
            ),
            "Deployment.apps \"d\" is invalid: spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            DEPLOYMENTS,
            with(
                deployment("d"),
                "/spec/strategy",
                json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
            ),
            "Deployment.apps \"d\" is invalid: spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            PODS,
            with(pod("p"), "/spec/containers", json!([])),
            "Pod \"p\" is invalid: spec.containers: Required value",
        ),
        (
            PODS,
            with(pod("p"), &format!("{container}/image"), "".into()),
            "Pod \"p\" is invalid: spec.containers[0].image: Required value",
        ),
        (
            PODS,
            with(
                pod("p"),
                &format!("{container}/ports"),
                json!([{"containerPort": 70000}]),
            ),
            "Pod \"p\" is invalid: spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            PODS,
            with(
                pod("p"),
                &format!("{container}/volumeMounts"),
                json!([{"name": "v", "mountPath": "/v"}]),
            ),
            "Pod \"p\" is invalid: spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            PODS,
            with(
                pod("p"),
                &format!("{container}/resources"),
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            ),
            "Pod \"p\" is invalid: spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            PODS,
            with(pod("p"), "/spec/restartPolicy", "Sometimes".into()),
            "Pod \"p\" is invalid: spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ),
        (
            PODS,
            with(
                pod("p"),
                &format!("{container}/livenessProbe"),
                json!({"periodSeconds": 3}),
            ),
            "Pod \"p\" is invalid: spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            SERVICES,
            with(service("s"), "/spec/ports", json!([])),
            "Service \"s\" is invalid: spec.ports: Required value",
        ),
        (
            SERVICES,
            with(service("s"), "/metadata/name", "1s".into()),
            "Service \"1s\" is invalid: metadata.name: Invalid value: \"1s\": a DNS-1035 label must consist of",
        ),
        (
            SERVICES,
            with(service("s"), "/spec/type", "Magic".into()),
            "Service \"s\" is invalid: spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            SERVICES,
            with(service("s"), "/spec/ports", json!([{"port": 0}])),
            "Service \"s\" is invalid: [spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            hpas,
            with(hpa.clone(), "/spec/minReplicas", json!(3)),
            "HorizontalPodAutoscaler.autoscaling \"h\" is invalid: spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
        ),
        (
            hpas,
            with(hpa.clone(), "/spec/maxReplicas", json!(0)),
            "HorizontalPodAutoscaler.autoscaling \"h\" is invalid: [spec.maxReplicas: Invalid value: 0: must be greater than 0, spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`]",
        ),
        (
            hpas,
            with(hpa, "/spec/minReplicas", json!(0)),
            "HorizontalPodAutoscaler.autoscaling \"h\" is invalid: spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
        ),
    ];
    for (path, object, expected) in cases {
        let answer = server.post(path, &object).await;
        assert_eq!(answer.body["reason"], "Invalid", "{}", answer.body);
        assert!(
            answer.body["details"]["causes"][0]["field"].is_string(),
            "{}",
            answer.body
        );
        let message = answer.refusal(422);
        assert!(
            message.starts_with(expected),
            "expected {expected}\n     got {message}"
        );
    }
}

/// What is written into files, or would run in another way than it says: each kind of check once, in the object's place.
#[tokio::test]
async fn what_would_go_wrong_on_a_node_is_refused() {
    const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
    let server = Server::new().await;
    let container = "/spec/containers/0";
    let template = "/spec/template/spec";
    let ip = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    for (path, object, expected) in [
        (
            PODS,
            with(
                pod("p"),
                "/spec/hostAliases",
                json!([{"ip": "1.1.1.1\n6.6.6.6 bank.example", "hostnames": ["a"]}]),
            ),
            format!("spec.hostAliases[0].ip: Invalid value: \"1.1.1.1\\n6.6.6.6 bank.example\": {ip}"),
        ),
        (
            DEPLOYMENTS,
            with(
                deployment("d"),
                &format!("{template}/dnsConfig"),
                json!({"nameservers": ["dns.example"]}),
            ),
            format!("spec.template.spec.dnsConfig.nameservers[0]: Invalid value: \"dns.example\": {ip}"),
        ),
        (
            PODS,
            with(
                pod("p"),
                "/spec/securityContext",
                json!({"runAsUser": -1}),
            ),
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive".into(),
        ),
        (
            PODS,
            with(
                pod("p"),
                &format!("{container}/securityContext"),
                json!({"allowPrivilegeEscalation": false, "privileged": true}),
            ),
            "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true".into(),
        ),
        (
            PODS,
            with(
                pod("p"),
                &format!("{container}/env"),
                json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.containers"}}}]),
            ),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.containers\": error converting fieldPath: field label not supported: spec.containers".into(),
        ),
        (
            PODS,
            with(
                pod("p"),
                &format!("{container}/restartPolicyRules"),
                json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]),
            ),
            "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used".into(),
        ),
        (
            PODS,
            with(
                pod("p"),
                "/spec/initContainers",
                json!([{"name": "i", "image": "i", "livenessProbe": {"exec": {"command": ["a"]}}}]),
            ),
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always".into(),
        ),
        (
            PODS,
            with(
                pod("p"),
                "/spec/tolerations",
                json!([{"key": "a", "operator": "Exists", "value": "b"}]),
            ),
            "spec.tolerations[0].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'".into(),
        ),
        (
            PODS,
            with(
                pod("p"),
                "/spec/volumes",
                json!([{"name": "v", "nfs": {"server": "s", "path": "a"}}]),
            ),
            "spec.volumes[0].nfs.path: Invalid value: \"a\": must be an absolute path".into(),
        ),
        (
            PODS,
            with(pod("p"), "/metadata/finalizers", json!(["mine"])),
            "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified".into(),
        ),
        (
            SERVICES,
            with(
                service("s"),
                "/spec/externalTrafficPolicy",
                "Local".into(),
            ),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services".into(),
        ),
        (
            ENDPOINTS,
            json!({"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": "169.254.169.254"}]}]}),
            "subsets[0].addresses[0].ip: Invalid value: \"169.254.169.254\": may not be in the link-local range (169.254.0.0/16, fe80::/10)".into(),
        ),
        (
            "/api/v1/nodes",
            json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "Never"}]}}),
            "metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\"".into(),
        ),
        (
            "/api/v1/namespaces/default/secrets",
            json!({"metadata": {"name": "s"}, "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}, "stringData": {".dockerconfigjson": "{"}}),
            "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": unexpected end of JSON input".into(),
        ),
    ] {
        let message = server.post(path, &object).await.refusal(422);
        let (_, told) = message.split_once(" is invalid: ").expect("a field");
        assert_eq!(told, expected);
    }
}

/// What a type had goes with it; what is set with a type that has it not is told.
#[tokio::test]
async fn a_service_changes_its_type() {
    let server = Server::new().await;
    let mut object = service("s");
    object["spec"]["type"] = "LoadBalancer".into();
    object["spec"]["loadBalancerClass"] = "example.com/a".into();
    let made = server.post(SERVICES, &object).await.expect(201);
    assert_eq!(made["spec"]["externalTrafficPolicy"], "Cluster");
    let path = format!("{SERVICES}/s");
    let patch = async |spec: Value| {
        let patch = json!({"spec": spec});
        server.patch(&path, "merge", &patch).await
    };
    let message = patch(json!({"type": "ClusterIP", "loadBalancerClass": "example.com/b"})).await;
    assert_eq!(
        message.refusal(422),
        "Service \"s\" is invalid: spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"
    );
    let plain = patch(json!({"type": "ClusterIP"})).await.expect(200);
    for key in [
        "externalTrafficPolicy",
        "loadBalancerClass",
        "allocateLoadBalancerNodePorts",
    ] {
        assert_eq!(plain["spec"][key], Value::Null, "{key}");
    }
    let again = patch(json!({"type": "NodePort"})).await.expect(200);
    assert_eq!(again["spec"]["externalTrafficPolicy"], "Cluster");
}

#[tokio::test]
async fn what_may_not_change() {
    let server = Server::new().await;
    server.post(DEPLOYMENTS, &deployment("d")).await.expect(201);
    let labels = json!({"app": "other"});
    let patch = json!({"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}});
    let message = server
        .patch(&format!("{DEPLOYMENTS}/d"), "merge", &patch)
        .await
        .refusal(422);
    assert_eq!(
        message,
        "Deployment.apps \"d\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"other\"}}: field is immutable"
    );

    server.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{PODS}/p");
    let patch = json!({"spec": {"containers": [{"name": "c", "image": "busybox:2"}], "activeDeadlineSeconds": 5}});
    server
        .patch(&path, "strategic-merge", &patch)
        .await
        .expect(200);
    let message = server
        .patch(&path, "merge", &json!({"spec": {"nodeName": "n"}}))
        .await
        .refusal(422);
    assert!(
        message.starts_with(
            "Pod \"p\" is invalid: spec: Forbidden: pod updates may not change fields other than"
        ),
        "{message}"
    );

    let mut fixed = config_map("f");
    fixed["immutable"] = true.into();
    server.post(CONFIG_MAPS, &fixed).await.expect(201);
    let message = server
        .patch(
            &format!("{CONFIG_MAPS}/f"),
            "merge",
            &json!({"data": {"a": "x"}}),
        )
        .await
        .refusal(422);
    assert_eq!(
        message,
        "ConfigMap \"f\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );

    server.post(SERVICES, &service("s")).await.expect(201);
    let message = server
        .patch(
            &format!("{SERVICES}/s"),
            "merge",
            &json!({"spec": {"clusterIP": "10.96.9.9"}}),
        )
        .await
        .refusal(422);
    assert_eq!(
        message,
        "Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.96.9.9\"]: may not change once set"
    );
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let server = Server::new().await;
    server.post(PODS, &pod("p")).await.expect(201);
    let binding = |node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
    let path = format!("{PODS}/p/binding");
    server.post(&path, &binding("n1")).await.expect(201);
    assert_eq!(
        server.post(&path, &binding("n2")).await.refusal(409),
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
    assert_eq!(server.post(&path, &binding("")).await.code, 422);
    let bound = server.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
}
