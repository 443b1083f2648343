//! Who goes, and where.

use serde_json::{Value, json};

use super::*;
use crate::budget::Budget;
use crate::cluster::Cluster;
use crate::incoming::Incoming;
use crate::testing::{ask, asking, cluster, merge, place, pod};

fn of(priority: i32, cpu: &str) -> Value {
    let mut change = asking(cpu, "0");
    merge(
        &mut change,
        &json!({"spec": {"priority": priority}, "metadata": {"labels": {"app": "web"}}}),
    );
    change
}

fn started(mut change: Value, second: i64) -> Value {
    change["status"] = json!({"startTime": Timestamp::from_second(second).unwrap().to_string()});
    change
}

/// `node: victims`, or the message.
fn outcome(change: Value, cluster: &Cluster) -> Result<String, String> {
    let refusal = ask(&pod("high", change), cluster).unwrap_err();
    match refusal.preemption {
        None => Err(refusal.message),
        Some(preemption) => {
            let names: Vec<&str> = preemption
                .victims
                .iter()
                .map(|one| one.name.as_str())
                .collect();
            Ok(format!("{}: {}", preemption.node, names.join(" ")))
        }
    }
}

fn budget(allowed: i32) -> Budget {
    let object = json!({"metadata": {"namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}});
    Budget::of(&serde_json::from_value(object).unwrap())
}

#[test]
fn as_few_as_possible_go_and_the_least_important() {
    // the pods of one node: name, priority, processors, start; what the new one asks for
    type Row<'a> = (
        &'a [(&'a str, i32, &'a str, i64)],
        &'a str,
        Result<&'a str, ()>,
    );
    let table: [Row; 7] = [
        (&[("a", 0, "2", 1), ("b", 0, "2", 2)], "2", Ok("n: b")),
        (&[("a", 0, "2", 1), ("b", 0, "2", 2)], "3", Ok("n: a b")),
        (&[("a", 3, "2", 1), ("b", 1, "2", 0)], "2", Ok("n: b")),
        (&[("a", 0, "3", 1), ("b", 0, "1", 2)], "1", Ok("n: b")),
        (&[("a", 0, "1", 1), ("b", 0, "3", 2)], "2", Ok("n: b")),
        (&[("a", 10, "2", 1), ("b", 10, "2", 2)], "2", Err(())),
        (&[("a", 11, "2", 1), ("b", 0, "2", 2)], "3", Err(())),
    ];
    for (pods, cpu, expected) in table {
        let mut cluster = cluster(&[("n", json!({}))]);
        for (name, priority, cpu, second) in pods {
            place(
                &mut cluster,
                "n",
                name,
                started(of(*priority, cpu), *second),
            );
        }
        let seen = outcome(of(10, cpu), &cluster);
        assert_eq!(seen.as_deref().map_err(|_| ()), expected, "{pods:?} {cpu}");
    }
}

#[test]
fn says_nothing_of_preemption_when_there_is_some_and_why_when_not() {
    let mut one = cluster(&[("n", json!({}))]);
    place(&mut one, "n", "low", of(0, "4"));
    let refusal = ask(&pod("high", of(10, "1")), &one).unwrap_err();
    assert_eq!(
        refusal.message,
        "0/1 nodes are available: 1 Insufficient cpu."
    );
    let mut never = of(10, "1");
    never["spec"]["preemptionPolicy"] = json!("Never");
    assert_eq!(
        outcome(never, &one).unwrap_err(),
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
    );
    place(&mut one, "n", "higher", of(20, "0"));
    let mut ports = of(10, "1");
    ports["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    let mut taken = of(20, "0");
    taken["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    place(&mut one, "n", "taken", taken);
    let port = "1 node(s) didn't have free ports for the requested pod ports";
    assert_eq!(
        outcome(ports, &one).unwrap_err(),
        format!(
            "0/1 nodes are available: {port}. no new claims to deallocate, preemption: 0/1 nodes are available: {port}."
        )
    );
}

#[test]
fn a_pod_waits_for_those_that_go_already() {
    let mut one = cluster(&[("n", json!({}))]);
    let mut going = of(0, "4");
    merge(
        &mut going,
        &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}}),
    );
    place(&mut one, "n", "going", going);
    let mut waiting = of(10, "1");
    waiting["status"] = json!({"nominatedNodeName": "n"});
    let refusal = ask(&pod("high", waiting.clone()), &one).unwrap_err();
    assert!(!refusal.hopeless && refusal.preemption.is_none());
    assert!(
        refusal
            .message
            .ends_with("preemption: not eligible due to a terminating pod on the nominated node."),
        "{}",
        refusal.message
    );
    // where it cannot go any more it does not wait
    let cordoned = json!({"metadata": {"name": "n"}, "spec": {"unschedulable": true}});
    one.set_node(serde_json::from_value(cordoned).unwrap());
    assert!(ask(&pod("high", waiting), &one).unwrap_err().hopeless);
}

#[test]
fn budgets_are_respected_where_possible() {
    let mut two = cluster(&[("a", json!({})), ("b", json!({}))]);
    place(&mut two, "a", "protected", of(0, "4"));
    let mut other = of(5, "4");
    other["metadata"]["labels"] = json!({});
    place(&mut two, "b", "other", other);
    // the less important one goes, unless a budget says otherwise
    assert_eq!(outcome(of(10, "1"), &two).unwrap(), "a: protected");
    two.budgets.insert("default/b".to_owned(), budget(0));
    assert_eq!(outcome(of(10, "1"), &two).unwrap(), "b: other");
    two.budgets.insert("default/b".to_owned(), budget(1));
    assert_eq!(outcome(of(10, "1"), &two).unwrap(), "a: protected");
    // and on one node those are spared first that it protects
    let mut one = cluster(&[("n", json!({}))]);
    place(&mut one, "n", "protected", of(0, "2"));
    let mut free = of(5, "2");
    free["metadata"]["labels"] = json!({});
    place(&mut one, "n", "free", free);
    assert_eq!(outcome(of(10, "2"), &one).unwrap(), "n: protected");
    one.budgets.insert("default/b".to_owned(), budget(0));
    assert_eq!(outcome(of(10, "2"), &one).unwrap(), "n: free");
}

#[test]
fn the_node_where_it_hurts_least() {
    // what runs on each of two nodes: priority, processors, start
    type Pods<'a> = &'a [(i32, &'a str, i64)];
    let table: [(Pods, Pods, &str); 5] = [
        (&[(5, "4", 1)], &[(3, "4", 1)], "b"),
        (
            &[(3, "2", 1), (3, "2", 1)],
            &[(3, "2", 1), (1, "2", 1)],
            "b",
        ),
        (&[(3, "2", 1), (3, "2", 1)], &[(3, "4", 1)], "b"),
        (&[(3, "4", 1)], &[(3, "4", 9)], "b"),
        (&[(3, "4", 1)], &[(3, "4", 1)], "a"),
    ];
    for (first, second, expected) in table {
        let mut two = cluster(&[("a", json!({})), ("b", json!({}))]);
        for (node, pods) in [("a", first), ("b", second)] {
            for (n, (priority, cpu, second)) in pods.iter().enumerate() {
                place(
                    &mut two,
                    node,
                    &format!("{node}{n}"),
                    started(of(*priority, cpu), *second),
                );
            }
        }
        let refusal = ask(&pod("high", of(10, "4")), &two).unwrap_err();
        assert_eq!(
            refusal.preemption.unwrap().node,
            expected,
            "{first:?} {second:?}"
        );
    }
}

#[test]
fn anti_affinity_and_spread_make_victims_too() {
    let mut one = cluster(&[("n", json!({}))]);
    place(&mut one, "n", "near", of(0, "1"));
    place(&mut one, "n", "far", {
        let mut far = of(0, "1");
        far["metadata"]["labels"] = json!({"app": "other"});
        far
    });
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}});
    let mut apart = of(10, "1");
    apart["spec"]["affinity"] =
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    assert_eq!(outcome(apart, &one).unwrap(), "n: near");
}

#[test]
fn lesser_pods_lose_the_room_that_was_made_for_them() {
    let mut one = cluster(&[("n", json!({}))]);
    place(&mut one, "n", "low", of(0, "4"));
    let middle = pod("middle", of(5, "4"));
    one.nominate("n", Incoming::of(&middle).resident);
    let refusal = ask(&pod("high", of(10, "4")), &one).unwrap_err();
    let preemption = refusal.preemption.unwrap();
    let names: Vec<&str> = preemption
        .displaced
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["middle"]);
}
