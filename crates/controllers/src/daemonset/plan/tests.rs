//! Tables: nodes and pods, and what is done.

use super::*;
use serde_json::{Value, json};

fn set(strategy: Value) -> DaemonSet {
    serde_json::from_value(json!({"metadata": {"name": "agent"}, "spec": {"selector": {}, "template": {}, "updateStrategy": strategy}})).unwrap()
}

fn rolling(unavailable: Value, surge: Value) -> DaemonSet {
    set(
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}),
    )
}

/// `n!`: new (`n`) or old (`o`) pod, then nothing for ready, `!` not ready, `f` failed, `s` succeeded, `-` terminating,
/// `w` not scheduled.
fn pod(name: &str, text: &str, age: usize) -> Arc<Pod> {
    let (revision, state) = text.split_at(1);
    let (phase, ready) = match state {
        "" | "-" => ("Running", "True"),
        "!" => ("Running", "False"),
        "w" => ("Pending", "False"),
        "f" => ("Failed", "False"),
        "s" => ("Succeeded", "False"),
        _ => panic!("{text}"),
    };
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "labels": {HASH: if revision == "n" { "new" } else { "old" }},
                "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z"),
                "deletionTimestamp": (state == "-").then_some("2026-01-01T00:00:00Z"),
            },
            "spec": {"nodeName": if state == "w" { "" } else { "x" }, "containers": []},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap(),
    )
}

/// `a=o b=n,o! c= d?=o`: nodes and their pods in order of age; `?`: pods should not be there and may stay, `x`: may not,
/// `~`: there is no such node. Pods are named by node and place: `b0`, `b1`.
fn spots(text: &str) -> Spots {
    text.split_whitespace()
        .map(|part| {
            let (node, pods) = part.split_once('=').unwrap();
            let place = |should_run, may_stay| {
                Some(Place {
                    should_run,
                    may_stay,
                })
            };
            let place = match &node[1..] {
                "" => place(true, true),
                "?" => place(false, true),
                "x" => place(false, false),
                "~" => None,
                _ => panic!("{node}"),
            };
            let name = &node[..1];
            let pods = pods.split(',').filter(|pod| !pod.is_empty());
            let pods = pods
                .enumerate()
                .map(|(n, text)| pod(&format!("{name}{n}"), text, n))
                .collect();
            (name.to_owned(), Spot { place, pods })
        })
        .collect()
}

fn decide(set: &DaemonSet, text: &str) -> String {
    let plan = plan(&View {
        set,
        spots: &spots(text),
        hash: "new",
        now: "2026-01-01T00:01:00Z".parse().unwrap(),
        // on this one it failed too often
        due: &|node, _| node != "z",
    });
    let mut said: Vec<String> = plan.create.iter().map(|node| format!("+{node}")).collect();
    let name = |pod: &Arc<Pod>| objects::name(&**pod).to_owned();
    said.extend(plan.delete.iter().map(|pod| format!("-{}", name(pod))));
    said.extend(plan.ended.iter().map(|(_, pod)| format!("!{}", name(pod))));
    said.join(" ")
}

#[test]
fn every_node_has_one_pod() {
    let cases = [
        ("a= b= c=n", "+a +b"),
        ("a=n b=n", ""),
        // where it should not be, and where it must not be
        ("a?= bx=", ""),
        ("a?=n bx=n", "-b0"),
        ("ax=n-", ""),
        // several: the oldest that is scheduled stays
        ("a=n,n,n", "-a1 -a2"),
        ("a=nw,n", "-a0"),
        ("a=n-,n", ""),
        ("a=n-", ""),
        ("a=nf b=ns", "!a0 !b0"),
        // of a node that is gone
        ("a~=nw b~=n", "-a0"),
    ];
    for (text, expected) in cases {
        assert_eq!(
            decide(&rolling(json!(1), json!(0)), text),
            expected,
            "{text}"
        );
    }
}

#[test]
fn an_update_replaces_as_many_as_may_be_unavailable() {
    let cases = [
        (json!(1), "a=o b=o c=o", "-a0"),
        (json!(2), "a=o b=o c=o", "-a0 -b0"),
        (json!("50%"), "a=o b=o c=o", "-a0 -b0"),
        (json!("1%"), "a=o b=o c=o", "-a0"),
        (json!(1), "a=n! b=o", ""),
        (json!(1), "a=o- b=o", ""),
        (json!(1), "a=n b=o", "-b0"),
        // those that are down anyway go, and count
        (json!(1), "a=o! b=o! c=o", "-a0 -b0"),
        (json!(2), "a=o! b=o c=o", "-a0 -b0"),
        // one that failed too often to be made anew now holds nobody up
        (json!(2), "a=o b=o z=of", "-z0 -a0 !z0"),
        (json!(2), "a=o b=o z=nf", "-a0 !z0"),
        (json!(1), "a=o b=of", "!b0"),
        // a pod that is missing comes first
        (json!(1), "a= b=o", "+a"),
        (json!(1), "a=n b=n", ""),
    ];
    for (unavailable, text, expected) in cases {
        let set = rolling(unavailable, json!(0));
        assert_eq!(decide(&set, text), expected, "{text}");
    }
    assert_eq!(decide(&set(json!({"type": "OnDelete"})), "a=o b=o!"), "");
    assert_eq!(
        decide(&set(json!({"type": "OnDelete"})), "a= b=o,o"),
        "+a -b1"
    );
}

#[test]
fn an_update_may_have_the_new_pod_beside_the_old() {
    let cases = [
        (json!(1), "a=o b=o", "+a"),
        (json!(2), "a=o b=o c=o", "+a +b"),
        (json!("100%"), "a=o b=o", "+a +b"),
        (json!(1), "a=o,n! b=o", ""),
        (json!(1), "a=o,n b=o", "-a0"),
        // an old one that is not ready is replaced without counting
        (json!(1), "a=o! b=o", "+a +b"),
        (json!(1), "a=o!,n! b=o", "-a0"),
        (json!(1), "a=", "+a"),
        (json!(1), "a=n- b=n", "+a"),
        (json!(1), "a=o,n!,n! b=o", "-a2"),
        // where it should not be it goes when enough others are there
        (json!(1), "a?=o b=n", "-a0"),
        (json!(1), "a?=o b=n!", ""),
        (json!(1), "a?=o! b=n", "-a0"),
    ];
    for (surge, text, expected) in cases {
        let set = rolling(json!(0), surge);
        assert_eq!(decide(&set, text), expected, "{text}");
    }
}
