//! Input that is wrong is refused with upstream's words, exit code 1, and nothing stored.

use crate::support::{Root, Space, holds};

fn deployment(name: &str, extra: &str, label: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  {extra}
  selector: {{matchLabels: {{app: a}}}}
  template:
    metadata: {{labels: {{app: {label}}}}}
    spec: {{containers: [{{name: main, image: 'busybox:static'}}]}}
"
    )
}

pub fn malformed_text_is_refused() {
    let space = Space::new("malformed");
    holds(
        &space.kubectl("apply -f -").stdin("a: [\nb: {").fails(1),
        "error converting YAML to JSON",
    );
    holds(
        &space
            .kubectl("apply -f -")
            .stdin("{kind: ConfigMap}")
            .fails(1),
        "apiVersion not set",
    );
    holds(
        &space
            .kubectl("apply -f -")
            .stdin("{apiVersion: v9, kind: Unicorn, metadata: {name: a}}")
            .fails(1),
        "no matches for kind \"Unicorn\" in version \"v9\"",
    );
    // straight to the server
    let path = "/api/v1/namespaces/malformed/configmaps";
    for (body, why) in [
        ("{\"kind\": \"ConfigMap\", ", "unexpected end of JSON input"),
        ("not json", "invalid character"),
        (
            "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":5}}",
            "cannot unmarshal number",
        ),
        ("", ""),
    ] {
        let said = space
            .kubectl(&format!("create --raw {path} -f -"))
            .stdin(body)
            .fails(1);
        holds(&said, "BadRequest");
        holds(&said, why);
    }
    let twice = "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\",\"name\":\"b\"}}";
    let said = space
        .kubectl(&format!("create --raw {path}?fieldValidation=Strict -f -"))
        .stdin(twice)
        .fails(1);
    holds(
        &said,
        "strict decoding error: duplicate field \"metadata.name\"",
    );
    let wrong_kind = "{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"}}";
    holds(
        &space
            .kubectl(&format!("create --raw {path} -f -"))
            .stdin(wrong_kind)
            .fails(1),
        "BadRequest",
    );
    assert_eq!(
        space.kubectl("get configmaps -o name").ok(),
        "configmap/kube-root-ca.crt\n",
        "nothing was stored"
    );
}

pub fn a_wrong_object_is_refused_with_upstreams_words() {
    let space = Space::new("wrong");
    for (what, manifest, words) in [
        ("an unknown field", deployment("a", "replica: 3", "a"), "strict decoding error: unknown field \"spec.replica\""),
        ("a field of the wrong type", deployment("a", "replicas: three", "a"), "cannot unmarshal string into Go struct field"),
        ("an invalid name", deployment("Web_App", "", "a"), "The Deployment \"Web_App\" is invalid: metadata.name: Invalid value: \"Web_App\": a lowercase RFC 1123 subdomain must consist of"),
        ("a selector for others", deployment("a", "", "b"), "`selector` does not match template `labels`"),
        ("a negative count", deployment("a", "replicas: -1", "a"), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ("no containers", "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: []}}".into(), "spec.containers: Required value"),
        ("no image", "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a}]}}".into(), "spec.containers[0].image: Required value"),
        ("a bad quantity", "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a, resources: {limits: {cpu: lots}}}]}}".into(), "quantities must match the regular expression"),
        ("a request over its limit", "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a, resources: {limits: {cpu: 1}, requests: {cpu: 2}}}]}}".into(), "must be less than or equal to cpu limit of 1"),
        ("a service without ports", "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {}}".into(), "spec.ports: Required value"),
        ("a maximum under the minimum", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {minReplicas: 5, maxReplicas: 2, scaleTargetRef: {kind: Deployment, name: a}}}".into(), "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`"),
    ] {
        let ran = space.kubectl("apply -f -").stdin(manifest).ran();
        assert!(ran.code == 1 && ran.stderr.contains(words), "{what}: wanted {words:?} from {ran}");
    }
    assert_eq!(
        space.kubectl("get deploy,pods,svc,hpa -o name").ok(),
        "",
        "nothing was stored"
    );

    space.apply(&deployment("a", "replicas: 0", "a"));
    let moved = space.kubectl(r#"patch deployment a -p '{"spec":{"selector":{"matchLabels":{"app":"b"}},"template":{"metadata":{"labels":{"app":"b"}}}}}'"#);
    holds(&moved.fails(1), "field is immutable");
    for (arguments, words) in [
        (
            "get pod nobody",
            "Error from server (NotFound): pods \"nobody\" not found",
        ),
        (
            "delete deployment nobody",
            "deployments.apps \"nobody\" not found",
        ),
        (
            "scale deployment nobody --replicas=1",
            "deployments.apps \"nobody\" not found",
        ),
        (
            "get unicorns",
            "the server doesn't have a resource type \"unicorns\"",
        ),
        (
            "create configmap b -n nowhere",
            "namespaces \"nowhere\" not found",
        ),
        ("get pods -l '!!'", "unable to parse requirement"),
        (
            "get pods --field-selector=spec.colour=green",
            "field label not supported: spec.colour",
        ),
    ] {
        holds(&space.kubectl(arguments).fails(1), words);
    }
}

pub fn a_stale_version_is_refused() {
    let space = Space::new("stale");
    space
        .kubectl("create configmap settings --from-literal=a=1")
        .ok();
    let old = space.kubectl("get configmap settings -o json").ok();
    space
        .kubectl(r#"patch configmap settings -p '{"data":{"a":"2"}}'"#)
        .ok();
    let said = space.kubectl("replace -f -").stdin(old).fails(1);
    holds(&said, "Error from server (Conflict)");
    holds(
        &said,
        "Operation cannot be fulfilled on configmaps \"settings\": the object has been modified; please apply your changes to the latest version and try again",
    );
    assert_eq!(space.field("configmap/settings", ".data.a"), "2");
    let scaled =
        space.kubectl("create deployment web --image=busybox:static --replicas=0 -- sleep 1000");
    scaled.ok();
    holds(
        &space
            .kubectl("scale deployment web --replicas=1 --current-replicas=5")
            .fails(1),
        "replicas to be 5",
    );
}

pub fn an_oversized_body_is_refused() {
    let space = Space::new("oversized");
    let file = Root::scratch().join("large.json");
    let manifest = |bytes: usize| {
        let text = "x".repeat(bytes);
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"large\"}},\"data\":{{\"a\":\"{text}\"}}}}"
        )
    };
    std::fs::write(&file, manifest(4 << 20)).expect("written");
    let said = space
        .kubectl(&format!("create -f {}", file.display()))
        .fails(1);
    holds(&said, "Request entity too large: limit is 3145728");
    std::fs::write(&file, manifest(1_100_000)).expect("written");
    let said = space
        .kubectl(&format!("create -f {}", file.display()))
        .fails(1);
    holds(&said, "ConfigMap \"large\" is invalid");
    holds(&said, "[]: Too long: may not be more than 1048576 bytes");
    assert_eq!(
        space.kubectl("get configmaps -o name").ok(),
        "configmap/kube-root-ca.crt\n",
        "nothing was stored"
    );
    std::fs::write(&file, manifest(900_000)).expect("written");
    space.kubectl(&format!("create -f {}", file.display())).ok();
    assert_eq!(space.field("configmap/large", ".data.a").len(), 900_000);
}
