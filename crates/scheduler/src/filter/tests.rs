//! Tables of what fits where.

use super::*;
use crate::cluster::Cluster;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

fn room(change: impl FnOnce(&mut Value), taken: &[Value]) -> NodeRoom {
    let mut node = json!({
        "metadata": {"name": "one", "labels": {"disk": "ssd", "cores": "8"}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3", "example.com/gpu": "1"}},
    });
    change(&mut node);
    let node: Node = serde_json::from_value(node).unwrap();
    let mut cluster = Cluster::default();
    cluster.set_node(node);
    for (n, spec) in taken.iter().enumerate() {
        cluster.place(&n.to_string(), "one", Footprint::of(&pod(spec.clone())));
    }
    cluster.rooms()["one"].clone()
}

fn pod(spec: Value) -> Pod {
    let mut value = json!({"metadata": {"name": "p"}, "spec": {"containers": []}});
    for (key, entry) in spec.as_object().unwrap() {
        value["spec"][key] = entry.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn asking(requests: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
}

fn port(port: i32) -> Value {
    json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": port}]}]})
}

fn verdict(spec: Value, room: &NodeRoom) -> Option<(String, bool)> {
    let pod = pod(spec);
    check(&pod, &Footprint::of(&pod), room)
        .err()
        .map(|rejection| (rejection.reasons.join(", "), rejection.resolvable))
}

#[test]
fn resources_fit_or_are_named() {
    let busy = room(|_| {}, &[asking(json!({"cpu": "1500m", "memory": "1Gi"}))]);
    let table = [
        (json!({}), None),
        (json!({"cpu": "500m", "memory": "3Gi"}), None),
        (json!({"cpu": "501m"}), Some(("Insufficient cpu", true))),
        (json!({"cpu": "3"}), Some(("Insufficient cpu", false))),
        (
            json!({"cpu": "1", "memory": "3.5Gi"}),
            Some(("Insufficient cpu, Insufficient memory", true)),
        ),
        (json!({"example.com/gpu": "1"}), None),
        (
            json!({"example.com/gpu": "2"}),
            Some(("Insufficient example.com/gpu", false)),
        ),
        (
            json!({"example.com/none": "1"}),
            Some(("Insufficient example.com/none", false)),
        ),
        (json!({"cpu": "0", "example.com/none": "0"}), None),
    ];
    for (requests, expected) in table {
        let expected = expected.map(|(reason, resolvable)| (reason.to_owned(), resolvable));
        assert_eq!(
            verdict(asking(requests.clone()), &busy),
            expected,
            "{requests}"
        );
    }
    let full = room(
        |_| {},
        &[
            asking(json!({})),
            asking(json!({})),
            asking(json!({"cpu": "2"})),
        ],
    );
    assert_eq!(
        verdict(asking(json!({"cpu": "1"})), &full),
        Some(("Too many pods, Insufficient cpu".to_owned(), true))
    );
}

#[test]
fn taints_and_cordons_keep_pods_away_unless_tolerated() {
    let untolerated = Some(("node(s) had untolerated taint(s)".to_owned(), false));
    let tainted = |effect: &'static str| {
        room(
            |node| {
                node["spec"]["taints"] = json!([{"key": "team", "value": "a", "effect": effect}])
            },
            &[],
        )
    };
    let tolerating = |toleration: Value| json!({"tolerations": [toleration]});
    assert_eq!(verdict(json!({}), &tainted("NoSchedule")), untolerated);
    assert_eq!(verdict(json!({}), &tainted("NoExecute")), untolerated);
    assert_eq!(verdict(json!({}), &tainted("PreferNoSchedule")), None);
    let table = [
        (json!({"key": "team", "value": "a"}), true),
        (json!({"key": "team", "value": "b"}), false),
        (json!({"key": "team", "operator": "Exists"}), true),
        (json!({"operator": "Exists"}), true),
        (
            json!({"key": "team", "operator": "Exists", "effect": "NoExecute"}),
            false,
        ),
        (json!({"key": "other", "operator": "Exists"}), false),
        (
            json!({"key": "team", "value": "a", "operator": "Unheard"}),
            false,
        ),
    ];
    for (toleration, fits) in table {
        let verdict = verdict(tolerating(toleration.clone()), &tainted("NoSchedule"));
        assert_eq!(verdict.is_none(), fits, "{toleration}");
    }
    let short_of = |what: &'static str| {
        room(
            |node| {
                let key = format!("node.kubernetes.io/{what}-pressure");
                node["spec"]["taints"] = json!([{"key": key, "effect": "NoSchedule"}])
            },
            &[],
        )
    };
    let burstable = asking(json!({"memory": "1Mi"}));
    assert_eq!(verdict(burstable.clone(), &short_of("memory")), None);
    assert_eq!(verdict(burstable, &short_of("disk")), untolerated);
    for best_effort in [json!({}), asking(json!({"cpu": "0"}))] {
        assert_eq!(verdict(best_effort, &short_of("memory")), untolerated);
    }
    let cordoned = room(|node| node["spec"]["unschedulable"] = json!(true), &[]);
    assert_eq!(
        verdict(json!({}), &cordoned),
        Some(("node(s) were unschedulable".to_owned(), false))
    );
    let brave =
        tolerating(json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}));
    assert_eq!(verdict(brave, &cordoned), None);
}

#[test]
fn selectors_and_affinity_choose_nodes() {
    let node = room(|_| {}, &[]);
    let require = |terms: Value| {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        }}})
    };
    let one = |key: &str, operator: &str, values: Value| {
        require(
            json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]),
        )
    };
    let table = [
        (json!({"nodeSelector": {"disk": "ssd"}}), true),
        (json!({"nodeSelector": {"disk": "hdd"}}), false),
        (json!({"nodeSelector": {"zone": "a"}}), false),
        (one("disk", "In", json!(["ssd", "nvme"])), true),
        (one("disk", "NotIn", json!(["ssd"])), false),
        (one("zone", "NotIn", json!(["a"])), true),
        (one("disk", "Exists", json!([])), true),
        (one("disk", "DoesNotExist", json!([])), false),
        (one("cores", "Gt", json!(["4"])), true),
        (one("cores", "Lt", json!(["4"])), false),
        (one("disk", "Gt", json!(["4"])), false),
        (require(json!([{}])), false),
        (
            require(
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["one"]}]}]),
            ),
            true,
        ),
        (
            require(json!([
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["hdd"]}]},
                {"matchExpressions": [{"key": "cores", "operator": "In", "values": ["8"]}]},
            ])),
            true,
        ),
    ];
    for (spec, fits) in table {
        let expected = (!fits).then(|| {
            (
                "node(s) didn't match Pod's node affinity/selector".to_owned(),
                false,
            )
        });
        assert_eq!(verdict(spec.clone(), &node), expected, "{spec}");
    }
}

#[test]
fn a_host_port_is_taken_once() {
    let node = room(|_| {}, &[port(8080)]);
    assert_eq!(
        verdict(port(8080), &node),
        Some((
            "node(s) didn't have free ports for the requested pod ports".to_owned(),
            true
        ))
    );
    assert_eq!(verdict(port(8081), &node), None);
}
