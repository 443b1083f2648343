//! Tables of services, pods and the Endpoints that result.

use super::*;
use serde_json::{Value, json};

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "s", "labels": {"team": "a"}},
        "spec": spec,
    }))
    .unwrap()
}

fn simple(change: Value) -> Service {
    let mut spec = json!({
        "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": "http"}],
    });
    spec.as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    service(spec)
}

fn pod(n: usize, change: Value) -> Arc<Pod> {
    let ready = change["ready"].as_bool().unwrap_or(true);
    let ip = format!("10.1.{}.{}", n / 250, n % 250 + 1);
    let mut pod = json!({
        "metadata": {"name": format!("p{n}"), "namespace": "shop", "uid": format!("u{n:04}")},
        "spec": {
            "nodeName": "one",
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9090}]}],
        },
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}, {"ip": format!("fd00::{n}")}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    });
    for (key, value) in change.as_object().unwrap() {
        if key != "ready" {
            *pod.pointer_mut(key).unwrap() = value.clone();
        }
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn made(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
    match plan(service, pods, None) {
        Write::Create(made) => *made,
        other => panic!("{other:?}"),
    }
}

/// `ready|not ready:ports`, subsets by blanks.
fn shown(endpoints: &Endpoints) -> String {
    let addresses = |all: &Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| {
        let all: Vec<&str> = all.iter().flatten().map(|one| one.ip.as_str()).collect();
        all.join(",")
    };
    let subsets = endpoints.subsets.iter().flatten().map(|subset| {
        let ports: Vec<String> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| format!("{}={}", port.name.as_deref().unwrap_or_default(), port.port))
            .collect();
        let (ready, not) = (
            addresses(&subset.addresses),
            addresses(&subset.not_ready_addresses),
        );
        format!("{ready}|{not}:{}", ports.join(","))
    });
    subsets.collect::<Vec<_>>().join(" ")
}

#[test]
fn pods_become_addresses_by_port() {
    let two = json!({"ports": [{"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 81, "targetPort": "admin"}]});
    let half = json!({"/spec/containers/0/ports": [{"name": "http", "containerPort": 8081}]});
    let gone = json!({"/metadata": {"name": "p2", "namespace": "shop", "uid": "u0002", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let ended = json!({"/status/phase": "Succeeded"});
    let headless = json!({"clusterIP": "None", "ports": []});
    let unready = json!({"ready": false});
    let none = json!({});
    for (what, spec, pods, expected) in [
        ("no pods", none.clone(), vec![], ""),
        ("one", none.clone(), vec![none.clone()], "10.1.0.1|:=8080"),
        (
            "in order, by state",
            none.clone(),
            vec![none.clone(), unready.clone(), none.clone()],
            "10.1.0.1,10.1.0.3|10.1.0.2:=8080",
        ),
        (
            "unready ones published",
            json!({"publishNotReadyAddresses": true}),
            vec![none.clone(), unready.clone()],
            "10.1.0.1,10.1.0.2|:=8080",
        ),
        (
            "ended and ending",
            none.clone(),
            vec![ended.clone(), none.clone(), gone.clone()],
            "10.1.0.2|:=8080",
        ),
        (
            "ending, published",
            json!({"publishNotReadyAddresses": true}),
            vec![none.clone(), ended, gone],
            "10.1.0.1,10.1.0.3|:=8080",
        ),
        (
            "ports together",
            two.clone(),
            vec![none.clone(), none.clone()],
            "10.1.0.1,10.1.0.2|:a=8080,b=9090",
        ),
        (
            "a pod without one of the ports",
            two.clone(),
            vec![none.clone(), half.clone()],
            "10.1.0.1|:a=8080,b=9090 10.1.0.2|:a=8081",
        ),
        (
            "IPv6 first",
            json!({"ipFamilies": ["IPv6", "IPv4"]}),
            vec![none.clone()],
            "fd00::0|:=8080",
        ),
        (
            "headless without ports",
            headless,
            vec![none.clone(), unready],
            "10.1.0.1|10.1.0.2:",
        ),
        (
            "without ports",
            json!({"ports": []}),
            vec![none.clone()],
            "",
        ),
    ] {
        let pods: Vec<_> = pods
            .into_iter()
            .enumerate()
            .map(|(n, change)| pod(n, change))
            .collect();
        assert_eq!(shown(&made(&simple(spec), &pods)), expected, "{what}");
    }
}

#[test]
fn an_address_says_whose_it_is() {
    let change = json!({"/spec": {"nodeName": "one", "hostname": "h", "subdomain": "web", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]}});
    let made = json!(made(&simple(json!({})), &[pod(0, change)]));
    let expected = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"team": "a", "endpoints.kubernetes.io/managed-by": "endpoint-controller"}},
        "subsets": [{
            "addresses": [{
                "ip": "10.1.0.1", "hostname": "h", "nodeName": "one",
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "p0", "uid": "u0000"},
            }],
            "ports": [{"port": 8080, "protocol": "TCP"}],
        }],
    });
    assert_eq!(made, expected);
    let headless = super::plan(&simple(json!({"clusterIP": "None"})), &[], None);
    let Write::Create(headless) = headless else {
        panic!("{headless:?}")
    };
    assert_eq!(
        headless.metadata.labels.unwrap()["service.kubernetes.io/headless"],
        ""
    );
}

#[test]
fn it_is_written_only_when_it_changes() {
    let pods = [pod(0, json!({})), pod(1, json!({"ready": false}))];
    let mut stored = made(&simple(json!({})), &pods);
    stored.metadata.resource_version = Some("7".into());
    stored.metadata.annotations = Some([("kept".to_owned(), "x".to_owned())].into());
    // somebody else's form of the same
    let subset = &mut stored.subsets.as_mut().unwrap()[0];
    let target = subset.addresses.as_mut().unwrap()[0].target_ref.as_mut();
    target.unwrap().resource_version = Some("3".into());
    assert_eq!(
        plan(&simple(json!({})), &pods, Some(&stored)),
        Write::Nothing
    );
    let Write::Update(changed) = plan(&simple(json!({})), &pods[..1], Some(&stored)) else {
        panic!()
    };
    assert_eq!(shown(&changed), "10.1.0.1|:=8080");
    assert_eq!(changed.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(changed.metadata.annotations.as_ref().unwrap()["kept"], "x");
    let mut renamed = simple(json!({}));
    renamed.metadata.labels = None;
    let Write::Update(changed) = plan(&renamed, &pods, Some(&stored)) else {
        panic!()
    };
    assert_eq!(changed.metadata.labels.as_ref().unwrap().len(), 1);
}

#[test]
fn more_than_a_thousand_addresses_are_cut_off_unready_ones_first() {
    let two = json!({"ports": [{"name": "a", "port": 80, "targetPort": "http"}]});
    let counts = |ready: usize, unready: usize, elsewhere: usize| {
        let other = json!({"/spec/containers/0/ports": [{"name": "http", "containerPort": 8081}]});
        let pods = (0..ready + unready + elsewhere).map(|n| match n {
            n if n < ready => pod(n, json!({})),
            n if n < ready + unready => pod(n, json!({"ready": false})),
            n => pod(n, other.clone()),
        });
        let pods: Vec<_> = pods.collect();
        let made = made(&simple(two.clone()), &pods);
        let again = plan(&simple(two.clone()), &pods, Some(&made));
        assert_eq!(again, Write::Nothing, "what is cut off is no change");
        let len = |all: &Option<Vec<_>>| all.as_ref().map_or(0, Vec::len);
        let subsets = made.subsets.iter().flatten();
        let counts: Vec<_> = subsets
            .map(|one| (len(&one.addresses), len(&one.not_ready_addresses)))
            .collect();
        let annotations = made.metadata.annotations.unwrap_or_default();
        (counts, annotations.get(OVER_CAPACITY).cloned())
    };
    let cut = Some("truncated".to_owned());
    assert_eq!(counts(1000, 0, 0), (vec![(1000, 0)], None));
    assert_eq!(counts(900, 200, 0), (vec![(900, 100)], cut.clone()));
    assert_eq!(counts(1100, 50, 0), (vec![(1000, 0)], cut.clone()));
    assert_eq!(counts(900, 0, 300), (vec![(750, 0), (250, 0)], cut));
}
