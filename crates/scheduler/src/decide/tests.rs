//! Sentences, and that no decision breaks a rule.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::{answer, ask, asking, cluster, place, pod, zone};

const HELPLESS: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

fn sentence(nodes: usize, why: &str, preemption: &str) -> String {
    format!(
        "0/{nodes} nodes are available: {why}. no new claims to deallocate, preemption: 0/{nodes} nodes are available: {preemption}."
    )
}

#[test]
fn says_why_in_upstreams_words() {
    let mut one = cluster(&[("a", json!({}))]);
    let small = pod("small", asking("1", "0"));
    assert_eq!(answer(&small, &one), Ok("a".to_owned()));
    place(&mut one, "a", "x", asking("3500m", "0"));
    let (cpu, none) = ("1 Insufficient cpu", format!("1 {NO_VICTIMS}"));
    assert_eq!(answer(&small, &one), Err(sentence(1, cpu, &none)));
    let large = pod("large", asking("8", "0"));
    let helpless = format!("1 {HELPLESS}");
    assert_eq!(answer(&large, &one), Err(sentence(1, cpu, &helpless)));
    let cordoned = json!({"spec": {"unschedulable": true}});
    let mut several = cluster(&[("a", json!({})), ("b", cordoned.clone()), ("c", cordoned)]);
    place(&mut several, "a", "x", asking("4", "0"));
    let why = "1 Insufficient cpu, 2 node(s) were unschedulable";
    let both = format!("1 {NO_VICTIMS}, 2 {HELPLESS}");
    assert_eq!(answer(&small, &several), Err(sentence(3, why, &both)));
    let nowhere = Err("no nodes available to schedule pods".to_owned());
    assert_eq!(answer(&small, &Cluster::default()), nowhere);
}

#[test]
fn of_many_nodes_a_share_is_looked_at_all_the_way_around() {
    let names: Vec<String> = (0..1000).map(|n| format!("node-{n:04}")).collect();
    let all: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), json!({})))
        .collect();
    let mut many = cluster(&all);
    let small = pod("small", asking("1", "0"));
    let behind = |last: &str, cluster: &Cluster| {
        let placed = decide(&Incoming::of(&small), cluster, &Storage::default(), last);
        let placed = placed.unwrap();
        (placed.node, placed.last)
    };
    let both = |first: usize, last: usize| (names[first].clone(), names[last].clone());
    // 50 - 1000 / 125 percent
    assert_eq!(behind("", &many), both(0, 419));
    assert_eq!(behind(&names[299], &many), both(300, 719));
    assert_eq!(
        behind("node-0299a", &many),
        both(300, 719),
        "gone meanwhile"
    );
    // around the end, where the first of all names is among them
    assert_eq!(behind(&names[899], &many), both(0, 319));
    assert_eq!(behind(&names[999], &many), both(0, 419));
    // whatever is full is passed over, and the last that is left is found
    for name in &names[..999] {
        place(&mut many, name, &format!("on-{name}"), asking("4", "0"));
    }
    assert_eq!(behind(&names[299], &many), both(999, 299));
    assert_eq!(
        [1, 99, 200, 5000, 10_000].map(enough),
        [100, 100, 100, 500, 500]
    );
}

#[test]
fn says_why_a_claim_keeps_a_pod_waiting() {
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    let waiting = pod("p", json!({"spec": {"volumes": volumes}}));
    let two = cluster(&[("a", json!({})), ("b", json!({}))]);
    let why = "persistentvolumeclaim \"c\" not found";
    let helpless = format!("2 {HELPLESS}");
    assert_eq!(answer(&waiting, &two), Err(sentence(2, why, &helpless)));
}

fn on_nodes(names: &[&[&str]]) -> Value {
    let field = |name: &&str| json!({"key": "metadata.name", "operator": "In", "values": [name]});
    let terms: Vec<Value> = names
        .iter()
        .map(|all| json!({"matchFields": all.iter().map(field).collect::<Vec<_>>()}))
        .collect();
    json!({"spec": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}})
}

/// As a DaemonSet's pods are placed.
#[test]
fn a_pod_that_names_its_node_is_told_about_no_other() {
    let cordoned = json!({"spec": {"unschedulable": true}});
    let three = cluster(&[("a", json!({})), ("b", cordoned), ("c", json!({}))]);
    let place = |names: &[&[&str]]| answer(&pod("p", on_nodes(names)), &three);
    assert_eq!(place(&[&["c"]]), Ok("c".to_owned()));
    assert_eq!(place(&[&["none"], &["c"]]), Ok("c".to_owned()));
    let others = "2 node(s) didn't satisfy plugin(s) [NodeAffinity]";
    let why = format!("1 node(s) were unschedulable, {others}");
    let helpless = format!("3 {HELPLESS}");
    assert_eq!(place(&[&["b"]]), Err(sentence(3, &why, &helpless)));
    let all = "3 node(s) didn't satisfy plugin(s) [NodeAffinity]";
    assert_eq!(place(&[&["none"]]), Err(sentence(3, all, &helpless)));
    let conflict = "pod affinity terms conflict";
    assert_eq!(place(&[&["a", "c"]]), Err(sentence(3, conflict, &helpless)));
}

#[test]
fn room_that_is_being_made_is_not_given_away() {
    let mut one = cluster(&[("a", json!({}))]);
    let priority = |value: i32| json!({"spec": {"priority": value}});
    let mut important = asking("4", "0");
    crate::testing::merge(&mut important, &priority(5));
    let important = pod("important", important);
    one.nominate("a", Incoming::of(&important).resident);
    let mut other = asking("1", "0");
    assert!(answer(&pod("lesser", other.clone()), &one).is_err());
    crate::testing::merge(&mut other, &priority(9));
    assert_eq!(answer(&pod("greater", other), &one), Ok("a".to_owned()));
    assert_eq!(answer(&important, &one), Ok("a".to_owned()));
    one.withdraw("important");
    assert_eq!(
        answer(&pod("lesser", asking("1", "0")), &one),
        Ok("a".to_owned())
    );
}

#[test]
fn a_pod_goes_where_room_was_made_for_it() {
    let mut two = cluster(&[("a", json!({})), ("b", json!({}))]);
    place(&mut two, "b", "x", asking("2", "2Gi"));
    let mut given = asking("1", "0");
    assert_eq!(answer(&pod("p", given.clone()), &two), Ok("a".to_owned()));
    given["status"] = json!({"nominatedNodeName": "b"});
    assert_eq!(answer(&pod("p", given), &two), Ok("b".to_owned()));
}

/// What a random pod wants.
fn wish() -> impl Strategy<Value = Value> {
    let near = |kind: &'static str, app: usize, key: &'static str| {
        let term = json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": format!("app-{app}")}}});
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    };
    let key = prop_oneof![Just("zone"), Just("kubernetes.io/hostname")];
    prop_oneof![
        3 => Just(json!({})),
        1 => (0..3_usize, key.clone()).prop_map(move |(app, key)| near("podAffinity", app, key)),
        2 => (0..3_usize, key.clone()).prop_map(move |(app, key)| near("podAntiAffinity", app, key)),
        2 => (0..3_usize, key, 1..3).prop_map(|(app, key, skew)| json!({"topologySpreadConstraints": [{
            "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": format!("app-{app}")}}}]})),
        1 => Just(json!({"tolerations": [{"operator": "Exists"}]})),
        1 => Just(json!({"nodeSelector": {"zone": "x"}})),
    ]
}

fn apart(cluster: &Cluster) -> Result<(), TestCaseError> {
    let all: Vec<_> = cluster
        .rooms()
        .values()
        .flat_map(|room| room.residents.iter().map(move |one| (room, one)))
        .collect();
    for (room, one) in &all {
        for (other_room, other) in &all {
            for term in &one.neighbours.apart {
                let same = room.label(&term.topology_key) == other_room.label(&term.topology_key);
                let meant = one.uid != other.uid && term.means(other, &cluster.namespaces);
                prop_assert!(!(same && meant), "{} beside {}", other.uid, one.uid);
            }
        }
    }
    Ok(())
}

proptest! {
    /// Whatever arrives, no node is promised more than it has, and a pod is refused only if no node has room.
    #[test]
    fn never_overcommits(sizes in proptest::collection::vec(1..2400_i64, 1..60), nodes in 1..4_usize) {
        let names = ["a", "b", "c"];
        let nodes: Vec<(&str, Value)> = names[..nodes].iter().map(|name| (*name, json!({}))).collect();
        let mut cluster = cluster(&nodes);
        for (n, size) in sizes.iter().enumerate() {
            let pod = pod(&n.to_string(), asking(&format!("{size}m"), "0"));
            match ask(&pod, &cluster) {
                Ok(placed) => { cluster.place(&placed.node, Incoming::of(&pod).resident); }
                Err(_) => {
                    for room in cluster.rooms().values() {
                        let left = 4000 - room.taken.get("cpu");
                        prop_assert!(left < *size || room.residents.len() == 20);
                    }
                }
            }
        }
        for room in cluster.rooms().values() {
            prop_assert!(room.taken.get("cpu") <= 4000);
            prop_assert!(room.residents.len() <= 20);
        }
    }

    /// Whatever pods want of nodes and of each other, what they require holds of where they are put.
    #[test]
    fn never_breaks_a_requirement(pods in proptest::collection::vec((0..3_usize, wish(), 0..3000_i64), 1..25)) {
        let tainted = json!({"metadata": {"labels": {"zone": "y"}}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
        let mut cluster = cluster(&[("a", zone("x")), ("b", zone("x")), ("c", zone("y")), ("d", tainted)]);
        for (n, (app, wish, cpu)) in pods.iter().enumerate() {
            let mut change = asking(&format!("{cpu}m"), "0");
            change["metadata"] = json!({"labels": {"app": format!("app-{app}")}});
            crate::testing::merge(&mut change, &json!({"spec": wish}));
            let pod = pod(&format!("p{n}"), change);
            let Ok(placed) = ask(&pod, &cluster) else { continue };
            let tolerant = wish["tolerations"].is_array();
            prop_assert!(placed.node != "d" || tolerant);
            prop_assert!(wish["nodeSelector"].is_null() || ["a", "b"].contains(&placed.node.as_str()));
            cluster.place(&placed.node, Incoming::of(&pod).resident);
            apart(&cluster)?;
            if let Some(constraint) = wish["topologySpreadConstraints"].get(0) {
                // the counts that the constraint is about, of the nodes that count
                let key = constraint["topologyKey"].as_str().unwrap();
                let selected = constraint["labelSelector"]["matchLabels"]["app"].as_str().unwrap();
                let mut counts: BTreeMap<String, i64> = BTreeMap::new();
                for room in cluster.rooms().values() {
                    let count = room.residents.iter().filter(|one| one.labels["app"] == selected).count() as i64;
                    *counts.entry(room.label(key).unwrap().to_owned()).or_insert(0) += count;
                }
                let here = counts[cluster.rooms()[&placed.node].label(key).unwrap()];
                let own = selected == format!("app-{app}");
                let before = here - i64::from(own);
                let least = counts.iter().map(|(value, count)| {
                    let same = own && Some(value.as_str()) == cluster.rooms()[&placed.node].label(key);
                    count - i64::from(same)
                }).min().unwrap();
                let skew = constraint["maxSkew"].as_i64().unwrap();
                prop_assert!(before + i64::from(own) - least <= skew, "{counts:?}");
            }
        }
        for room in cluster.rooms().values() {
            prop_assert!(room.taken.get("cpu") <= 4000);
        }
    }
}
