//! The graph as a table of changes and of what they lead to.

use super::*;

fn owner(uid: &str, blocks: bool) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Thing".into(),
        name: format!("name-{uid}"),
        uid: uid.into(),
        controller: None,
        block_owner_deletion: Some(blocks),
    }
}

fn node(uid: &str, owners: &[OwnerReference], finalizers: &[&str], deleting: bool) -> Node {
    Node {
        identity: Identity {
            api_version: "v1".into(),
            kind: "Thing".into(),
            namespace: Some("shop".into()),
            name: format!("name-{uid}"),
            uid: uid.into(),
        },
        resource_version: None,
        owners: owners.to_vec(),
        finalizers: finalizers.iter().map(|name| (*name).to_owned()).collect(),
        deleting,
    }
}

fn sorted(mut uids: Vec<String>) -> Vec<String> {
    uids.sort();
    uids
}

#[test]
fn an_owners_end_leads_to_its_dependents() {
    let mut graph = Graph::default();
    assert!(graph.apply(node("a", &[], &[], false)).is_empty());
    assert_eq!(
        graph.apply(node("b", &[owner("a", true)], &[], false)),
        ["b"]
    );
    assert_eq!(
        graph.apply(node("c", &[owner("a", false)], &[], false)),
        ["c"]
    );
    assert_eq!(sorted(graph.remove("a")), ["b", "c"]);
    // And nothing of them is left behind.
    graph.remove("b");
    graph.remove("c");
    assert!(graph.nodes.is_empty() && graph.dependents.is_empty());
}

#[test]
fn a_kind_that_becomes_known_leads_to_those_whose_owner_is_missing() {
    let of = |uid: &str, api_version: &str| OwnerReference {
        api_version: api_version.into(),
        ..owner(uid, true)
    };
    let mut graph = Graph::default();
    graph.apply(node("there", &[], &[], false));
    graph.apply(node("kept", &[owner("there", true)], &[], false));
    graph.apply(node("core", &[owner("gone", true)], &[], false));
    graph.apply(node("old", &[of("gone", "shop.io/v1alpha1")], &[], false));
    graph.apply(node("new", &[of("gone", "shop.io/v1")], &[], false));
    assert_eq!(graph.bereft_of("v1", "Thing"), ["core"]);
    assert_eq!(
        sorted(graph.bereft_of("shop.io/v1", "Thing")),
        ["new", "old"]
    );
    assert!(graph.bereft_of("v1", "Other").is_empty());
}

#[test]
fn an_owner_that_waits_leads_to_its_dependents_and_is_led_to_by_their_end() {
    let mut graph = Graph::default();
    graph.apply(node("a", &[], &[], false));
    graph.apply(node("b", &[owner("a", true)], &[], false));
    graph.apply(node("c", &[owner("a", false)], &[], false));
    let waiting = node("a", &[], &[FOREGROUND], true);
    assert_eq!(sorted(graph.apply(waiting.clone())), ["a", "b", "c"]);
    assert_eq!(step(&graph, &waiting), Step::Nothing);
    assert_eq!(graph.remove("b"), ["a"]);
    assert_eq!(step(&graph, &waiting), Step::Release, "c does not block");
}

#[test]
fn a_dependent_that_stops_blocking_leads_to_its_waiting_owner() {
    let mut graph = Graph::default();
    let waiting = node("a", &[], &[FOREGROUND], true);
    graph.apply(waiting.clone());
    graph.apply(node("b", &[owner("a", true)], &[], false));
    assert_eq!(step(&graph, &waiting), Step::Nothing);
    assert_eq!(graph.apply(node("b", &[], &[], false)), ["a"]);
    assert_eq!(step(&graph, &waiting), Step::Release);
}

#[test]
fn steps_follow_finalizers_and_owners() {
    let graph = Graph::default();
    let table = [
        (node("x", &[], &[], false), Step::Nothing),
        (node("x", &[owner("a", true)], &[], false), Step::Judge),
        (node("x", &[owner("a", true)], &[], true), Step::Nothing),
        (node("x", &[], &[ORPHAN], true), Step::Orphan),
        (node("x", &[], &[ORPHAN], false), Step::Nothing),
        (node("x", &[], &[FOREGROUND], true), Step::Release),
        (
            node("x", &[owner("a", true)], &[FOREGROUND], false),
            Step::Judge,
        ),
    ];
    for (node, expected) in table {
        assert_eq!(step(&graph, &node), expected, "{node:?}");
    }
}

#[test]
fn verdicts_follow_the_owners() {
    use Owner::{Absent, Solid, Waiting};
    let judged = |standings: &[Owner], dependents| {
        let owners: Vec<(OwnerReference, Owner)> = standings
            .iter()
            .enumerate()
            .map(|(n, standing)| (owner(&n.to_string(), true), *standing))
            .collect();
        judge(&owners, dependents)
    };
    let delete = |foreground| Verdict::Delete { foreground };
    assert_eq!(judged(&[Solid, Solid], false), Verdict::Keep);
    assert_eq!(
        judged(&[Solid, Absent, Waiting], false),
        Verdict::Unlink(vec![owner("0", true)])
    );
    assert_eq!(judged(&[Absent], true), delete(false));
    assert_eq!(judged(&[Waiting], false), delete(false));
    assert_eq!(judged(&[Waiting, Absent], true), delete(true));
}

#[test]
fn owners_stand_by_where_they_and_the_object_are() {
    let mut owner = node("a", &[], &[], false);
    let of = |namespace: Option<&str>| Identity {
        namespace: namespace.map(str::to_owned),
        ..node("b", &[], &[], false).identity
    };
    assert_eq!(standing_of(&owner, &of(Some("shop"))), Some(Owner::Solid));
    assert_eq!(standing_of(&owner, &of(Some("else"))), Some(Owner::Absent));
    assert_eq!(standing_of(&owner, &of(None)), None, "nobody can tell");
    owner.identity.namespace = None;
    for namespace in [Some("shop"), None] {
        assert_eq!(standing_of(&owner, &of(namespace)), Some(Owner::Solid));
    }
    let waiting = node("a", &[], &[FOREGROUND], true);
    assert_eq!(
        standing_of(&waiting, &of(Some("shop"))),
        Some(Owner::Waiting)
    );
}

#[test]
fn a_circle_of_waiting_owners_is_opened() {
    let free = node("c", &[], &[], false);
    let waiting = node("a", &[owner("b", true)], &[FOREGROUND], true);
    let blocking = node("b", &[owner("a", true), owner("x", false)], &[], false);
    let opened = unblocked(&blocking, &[free.clone(), waiting.clone()]).expect("opened");
    let blocks: Vec<Option<bool>> = opened.iter().map(|o| o.block_owner_deletion).collect();
    assert_eq!(blocks, [Some(false), Some(false)]);
    assert_eq!(unblocked(&blocking, &[free]), None, "no circle");
    let open = node("b", &opened, &[], false);
    assert_eq!(unblocked(&open, &[waiting]), None, "done already");
}
