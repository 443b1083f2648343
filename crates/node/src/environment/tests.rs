//! Table tests of expansion, sources and commands.

use super::*;
use serde_json::json;

fn pod(container: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "web-1", "namespace": "shop", "uid": "u-1", "labels": { "app": "web" } },
        "spec": { "containers": [container] } }))
    .expect("fixture")
}

fn resolved(
    container: serde_json::Value,
    sources: &Sources,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let pod = pod(container);
    let spec = pod.spec.clone().expect("spec");
    Ok(environment(&pod, &spec.containers[0], sources)?
        .into_iter()
        .collect())
}

#[test]
fn expansion() {
    for (text, want) in [
        ("plain", "plain"),
        ("$(A)", "one"),
        ("x$(A)$(B)y", "xonetwoy"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$one"),
        ("$(MISSING)", "$(MISSING)"),
        ("$(A", "$(A"),
        ("$A $", "$A $"),
        ("$()", "$()"),
        ("ü$(A)ü", "üoneü"),
    ] {
        let got = expand(text, |name| match name {
            "A" => Some("one".into()),
            "B" => Some("two".into()),
            _ => None,
        });
        assert_eq!(got, want, "{text}");
    }
}

#[test]
fn sources_fields_and_order() {
    let sources = Sources {
        config_maps: [(
            "c".into(),
            serde_json::from_value(json!({ "data": { "K": "v", "A": "map" } })).expect("map"),
        )]
        .into(),
        facts: Facts {
            pod_ips: vec!["10.1.0.7".into()],
            node_cpu_milli: 2000,
            ..Facts::default()
        },
        ..Sources::default()
    };
    let env = resolved(
        json!({ "name": "c", "resources": { "limits": { "memory": "1Mi" } },
            "envFrom": [{ "prefix": "P_", "configMapRef": { "name": "c" } }, { "configMapRef": { "name": "gone", "optional": true } }],
            "env": [
                { "name": "A", "value": "first" }, { "name": "B", "value": "$(A)-$(P_K)" }, { "name": "A", "value": "last" },
                { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                { "name": "APP", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
                { "name": "MEM", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Ki" } } },
                { "name": "CPU", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu" } } } ] }),
        &sources,
    )
    .expect("resolves");
    for (name, value) in [
        ("P_K", "v"),
        ("A", "last"),
        ("B", "first-v"),
        ("IP", "10.1.0.7"),
        ("APP", "web"),
        ("MEM", "1024"),
        ("CPU", "2"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn missing_references() {
    let key = json!({ "name": "c", "env": [{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }] });
    let error = resolved(key.clone(), &Sources::default()).expect_err("no secret");
    assert_eq!(error.to_string(), "secret \"s\" not found");
    let sources = Sources {
        secrets: [("s".into(), Secret::default())].into(),
        ..Sources::default()
    };
    let error = resolved(key, &sources).expect_err("no key");
    assert_eq!(error.to_string(), "couldn't find key k in Secret shop/s");
}

#[test]
fn services_of_the_namespace_and_the_api() {
    let service = |ns: &str, name: &str, ip: &str| -> Service {
        serde_json::from_value(json!({ "metadata": { "namespace": ns, "name": name },
            "spec": { "clusterIP": ip, "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] } }))
        .expect("service")
    };
    let sources = Sources {
        services: vec![
            service("default", "kubernetes", "10.96.0.1"),
            service("shop", "my-db", "10.96.0.9"),
            service("other", "x", "10.96.0.10"),
        ],
        ..Sources::default()
    };
    let env = resolved(json!({ "name": "c" }), &sources).expect("resolves");
    assert_eq!(
        env.get("KUBERNETES_SERVICE_HOST").map(String::as_str),
        Some("10.96.0.1")
    );
    assert_eq!(
        env.get("MY_DB_PORT_80_TCP").map(String::as_str),
        Some("tcp://10.96.0.9:80")
    );
    assert_eq!(
        env.get("MY_DB_SERVICE_PORT_HTTP").map(String::as_str),
        Some("80")
    );
    assert!(!env.contains_key("X_SERVICE_HOST"));
}

#[test]
fn commands() {
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for (command_of_pod, args, want) in [
        (None, None, "entry cmd"),
        (None, Some("a $(X)"), "entry a 1"),
        (Some("c"), None, "c"),
        (Some("c"), Some("a"), "c a"),
    ] {
        let container = Container {
            command: command_of_pod.map(words),
            args: args.map(words),
            ..Container::default()
        };
        let got = command(
            &container,
            &[("X".into(), "1".into())],
            &words("entry"),
            &words("cmd"),
        );
        assert_eq!(got.join(" "), want);
    }
}

#[test]
fn figures_of_the_container_that_is_named_and_of_no_other() {
    let pod: Pod = serde_json::from_value(json!({"spec": {
        "initContainers": [{"name": "side", "resources": {"limits": {"cpu": "2"}}}],
        "containers": [{"name": "main", "resources": {"limits": {"cpu": "1"}}}],
    }}))
    .expect("a pod");
    let told = |source: serde_json::Value| {
        let container = json!({"name": "main", "resources": {"limits": {"cpu": "1"}},
            "env": [{"name": "A", "value": "", "valueFrom": source}]});
        let container: Container = serde_json::from_value(container).expect("a container");
        environment(&pod, &container, &Sources::default())
            .map(|all| all.into_iter().map(|(_, value)| value).collect::<String>())
            .map_err(|error| error.to_string())
    };
    let of =
        |name: &str| json!({"resourceFieldRef": {"resource": "limits.cpu", "containerName": name}});
    assert_eq!(told(of("")).as_deref(), Ok("1"));
    assert_eq!(told(of("side")).as_deref(), Ok("2"));
    assert_eq!(told(of("none")), Err("container none not found".to_owned()));
    let unknown = told(json!({"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}}));
    assert!(
        unknown
            .expect_err("it is not supported")
            .contains("not supported here")
    );
}
