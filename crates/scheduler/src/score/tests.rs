//! Which node wins.

use serde_json::{Value, json};

use super::*;
use crate::cluster::Cluster;
use crate::testing::{answer, asking, cluster, merge, place, pod, zone};

fn two() -> Cluster {
    cluster(&[("a", zone("x")), ("b", zone("y"))])
}

fn with(mut change: Value, more: Value) -> Value {
    merge(&mut change, &more);
    change
}

fn choice(change: Value, cluster: &Cluster) -> String {
    answer(&pod("p", with(asking("500m", "512Mi"), change)), cluster).unwrap()
}

fn labelled(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}})
}

#[test]
fn the_emptier_node_wins_and_ties_go_by_name() {
    let mut cluster = two();
    assert_eq!(choice(json!({}), &cluster), "a");
    place(&mut cluster, "a", "1", asking("1", "1Gi"));
    assert_eq!(choice(json!({}), &cluster), "b");
    // pods that ask for nothing count too
    let mut cluster = two();
    place(
        &mut cluster,
        "a",
        "1",
        json!({"spec": {"containers": [{"name": "c"}]}}),
    );
    assert_eq!(choice(json!({}), &cluster), "b");
}

#[test]
fn balance_counts() {
    let mut cluster = two();
    // as much is left of both, and one becomes more alike
    place(&mut cluster, "a", "1", asking("0", "2Gi"));
    place(&mut cluster, "b", "2", asking("2", "0"));
    let large = pod("p", asking("0", "1Gi"));
    assert_eq!(answer(&large, &cluster).unwrap(), "b");
    let footprint =
        |cpu: &str, memory: &str| crate::cluster::Footprint::of(&pod("p", asking(cpu, memory)));
    let empty = &two();
    let room = &empty.rooms()["a"];
    // 2 of 4 processors, 1 of 4 GiB: a quarter apart, half of which is the deviation
    assert_eq!(resources::balanced(&footprint("2", "1Gi"), room), 68);
    assert_eq!(resources::balanced(&footprint("4", "0"), room), 50);
    assert_eq!(resources::balanced(&footprint("1", "1Gi"), room), 75);
    let mut tilted = two();
    place(&mut tilted, "a", "0", asking("4", "0"));
    let full = &tilted.rooms()["a"];
    assert_eq!(resources::balanced(&footprint("0", "4Gi"), full), 100);
    assert_eq!(resources::balanced(&footprint("0", "2Gi"), full), 87);
    assert_eq!(resources::balanced(&footprint("0", "0"), room), 0);
    assert_eq!(resources::least_allocated(&footprint("2", "1Gi"), room), 62);
}

#[test]
fn preferences_count_by_their_weight() {
    let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
    let mut cluster = cluster(&[("a", with(zone("x"), tainted)), ("b", zone("y"))]);
    place(&mut cluster, "b", "1", asking("2", "2Gi"));
    assert_eq!(choice(json!({}), &cluster), "b", "a taint weighs 3");
    let tolerant = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
    assert_eq!(choice(tolerant, &cluster), "a");
    let mut cluster = two();
    place(&mut cluster, "b", "1", asking("2", "2Gi"));
    let prefers = |weight: i64| {
        let wish = json!({"weight": weight, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["y"]}]}});
        json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}}})
    };
    assert_eq!(choice(prefers(1), &cluster), "b");
}

fn near(kind: &str, app: &str) -> Value {
    let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}});
    let wish = json!([{"weight": 50, "podAffinityTerm": term}]);
    json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": wish}}}})
}

#[test]
fn neighbours_attract_and_repel_both_ways() {
    let mut cluster = two();
    place(
        &mut cluster,
        "b",
        "db",
        with(asking("1", "1Gi"), labelled("db")),
    );
    assert_eq!(choice(near("podAffinity", "db"), &cluster), "b");
    assert_eq!(choice(near("podAntiAffinity", "db"), &cluster), "a");
    // the one that is there wishes, the new one does not
    let mut cluster = two();
    let wishing = with(asking("1", "1Gi"), near("podAffinity", "web"));
    place(&mut cluster, "b", "db", wishing);
    assert_eq!(choice(labelled("web"), &cluster), "b");
    assert_eq!(choice(labelled("other"), &cluster), "a");
    let mut cluster = two();
    place(
        &mut cluster,
        "a",
        "shy",
        with(json!({}), near("podAntiAffinity", "web")),
    );
    place(&mut cluster, "b", "load", asking("200m", "200Mi"));
    assert_eq!(choice(labelled("web"), &cluster), "b");
    assert_eq!(choice(labelled("other"), &cluster), "a");
}

#[test]
fn pods_are_spread_where_they_may_be_elsewhere_too() {
    let mut cluster = cluster(&[("a", zone("x")), ("b", zone("x")), ("c", zone("y"))]);
    place(&mut cluster, "a", "1", labelled("web"));
    place(&mut cluster, "b", "2", labelled("web"));
    place(&mut cluster, "c", "load", asking("1", "1Gi"));
    let spread = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": [{"maxSkew": 1,
        "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}}]}});
    assert_eq!(choice(spread, &cluster), "c");
    assert_eq!(choice(json!({}), &cluster), "a");
}

#[test]
fn a_controllers_pods_are_spread_without_being_asked() {
    let owned = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]}});
    let mut cluster = two();
    place(&mut cluster, "a", "1", owned.clone());
    place(&mut cluster, "b", "load", asking("1", "1Gi"));
    assert_eq!(choice(owned, &cluster), "b");
    assert_eq!(choice(json!({}), &cluster), "a");
}

#[test]
fn a_node_that_has_the_image_wins() {
    let image =
        |size: i64| json!({"status": {"images": [{"names": ["big:latest"], "sizeBytes": size}]}});
    let mib = 1024 * 1024;
    let of = |size: i64| {
        let mut cluster = cluster(&[("a", zone("x")), ("b", with(zone("y"), image(size)))]);
        place(&mut cluster, "b", "load", asking("40m", "0"));
        let container = json!([{"name": "c", "image": "big", "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}}]);
        choice(json!({"spec": {"containers": container}}), &cluster)
    };
    assert_eq!(of(900 * mib), "b");
    assert_eq!(of(20 * mib), "a", "too small to matter");
}
