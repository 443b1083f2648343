//! Tables of what fits where.

use std::collections::BTreeMap;

use super::*;
use crate::labels::Labels;
use crate::testing::{self, cluster, merge, place, zone};
use serde_json::{Value, json};

/// One node with these pods.
fn room(change: impl FnOnce(&mut Value), taken: &[Value]) -> Cluster {
    let mut node = json!({
        "metadata": {"labels": {"disk": "ssd", "cores": "8"}},
        "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3", "example.com/gpu": "1"}},
    });
    change(&mut node);
    let mut cluster = cluster(&[("one", node)]);
    for (n, spec) in taken.iter().enumerate() {
        place(&mut cluster, "one", &n.to_string(), json!({"spec": spec}));
    }
    cluster
}

/// Why each node that refuses the pod does.
fn verdicts(change: Value, cluster: &Cluster) -> BTreeMap<String, (String, bool)> {
    verdicts_with(change, cluster, &Storage::default())
}

fn verdicts_with(
    change: Value,
    cluster: &Cluster,
    storage: &Storage,
) -> BTreeMap<String, (String, bool)> {
    let pod = testing::pod("p", change);
    let incoming = Incoming::of(&pod);
    let view = View {
        incoming: &incoming,
        cluster,
        storage,
        needs: &Needs::default(),
    };
    let counts = Counts::of(&view);
    let rooms = cluster.rooms().iter();
    rooms
        .filter_map(|(name, room)| {
            let why = check(&view, &counts, room).err()?;
            Some((name.clone(), (why.reasons.join(", "), why.resolvable)))
        })
        .collect()
}

fn verdict(spec: Value, cluster: &Cluster) -> Option<(String, bool)> {
    verdicts(json!({"spec": spec}), cluster).remove("one")
}

fn asking(requests: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
}

fn port(port: i32) -> Value {
    json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": port}]}]})
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
    // an init container holds its own only if it goes on running
    for (restarts, free) in [(json!("Always"), false), (json!(null), true)] {
        let init = json!({"initContainers": [{"name": "i", "restartPolicy": restarts,
            "ports": [{"containerPort": 80, "hostPort": 8080}]}], "containers": [{"name": "c"}]});
        assert_eq!(verdict(init, &node).is_none(), free, "{restarts}");
    }
}

#[test]
fn a_claim_of_one_pod_is_taken_everywhere() {
    let using =
        json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}});
    let mut cluster = zones();
    place(&mut cluster, "a", "1", using.clone());
    for (mode, refusing) in [("ReadWriteOncePod", 4), ("ReadWriteOnce", 0)] {
        let claim = json!({"spec": {"accessModes": [mode]}});
        let key = ("default".to_owned(), "c".to_owned());
        let storage = Storage {
            claims: [(key, serde_json::from_value(claim).unwrap())].into(),
            ..Storage::default()
        };
        let found = verdicts_with(using.clone(), &cluster, &storage);
        assert_eq!(found.len(), refusing, "{mode}");
        assert!(found.values().all(|(why, resolvable)| {
            *resolvable && why.contains("ReadWriteOncePod access mode")
        }));
    }
}

const UNSPREAD: &str = "node(s) didn't match pod topology spread constraints";
const NO_DOMAIN: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";

fn web() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}})
}

fn spread(change: Value) -> Value {
    let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    merge(&mut constraint, &change);
    let mut pod = web();
    pod["spec"] = json!({"topologySpreadConstraints": [constraint]});
    pod
}

/// Zones x (a, b) and y (c); d has none.
fn zones() -> Cluster {
    cluster(&[
        ("a", zone("x")),
        ("b", zone("x")),
        ("c", zone("y")),
        ("d", json!({})),
    ])
}

fn refusing(found: &BTreeMap<String, (String, bool)>, why: &str) -> Vec<String> {
    let refusing = found.iter().filter(|(_, (reason, _))| reason == why);
    refusing.map(|(name, _)| name.clone()).collect()
}

#[test]
fn pods_are_spread_over_domains() {
    // where pods run, the constraint, which nodes would skew
    let table: [(&[&str], Value, &[&str]); 13] = [
        (&[], json!({}), &[]),
        (&["a"], json!({}), &["a", "b"]),
        (&["a", "c"], json!({}), &[]),
        (&["a", "b"], json!({"maxSkew": 2}), &["a", "b"]),
        (&["a"], json!({"maxSkew": 2}), &[]),
        (&["a", "c"], json!({"minDomains": 3}), &["a", "b", "c"]),
        (&["a"], json!({"minDomains": 2}), &["a", "b"]),
        (
            &["a"],
            json!({"topologyKey": "kubernetes.io/hostname"}),
            &["a"],
        ),
        (
            &["a"],
            json!({"labelSelector": {"matchLabels": {"app": "other"}}}),
            &[],
        ),
        (&["a"], json!({"labelSelector": null}), &[]),
        (&["a"], json!({"whenUnsatisfiable": "ScheduleAnyway"}), &[]),
        (&["a"], json!({"matchLabelKeys": ["app"]}), &["a", "b"]),
        (&["d"], json!({}), &[]),
    ];
    for (pods, constraint, expected) in table {
        let mut cluster = zones();
        for (n, node) in pods.iter().enumerate() {
            place(&mut cluster, node, &n.to_string(), web());
        }
        // neither of another namespace nor on the way out
        let mut foreign = web();
        foreign["metadata"]["namespace"] = json!("elsewhere");
        place(&mut cluster, "a", "foreign", foreign);
        let mut going = web();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        place(&mut cluster, "a", "going", going);
        let found = verdicts(spread(constraint.clone()), &cluster);
        assert_eq!(
            refusing(&found, UNSPREAD),
            expected,
            "{pods:?} {constraint}"
        );
        let labelled =
            constraint["topologyKey"].is_null() && constraint["whenUnsatisfiable"].is_null();
        let unlabelled: &[&str] = if labelled { &["d"] } else { &[] };
        assert_eq!(refusing(&found, NO_DOMAIN), unlabelled, "{constraint}");
        assert!(
            found
                .iter()
                .all(|(name, (_, resolvable))| *resolvable == (name != "d"))
        );
    }
}

#[test]
fn policies_say_which_nodes_count_for_spreading() {
    let tainted = json!({"metadata": {"labels": {"zone": "y"}}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    let mut cluster = cluster(&[("a", zone("x")), ("t", tainted)]);
    place(&mut cluster, "a", "1", web());
    // the empty zone is out of reach: it counts by default, and not if taints are honored
    let found = verdicts(spread(json!({})), &cluster);
    assert_eq!(refusing(&found, UNSPREAD), ["a"]);
    let found = verdicts(spread(json!({"nodeTaintsPolicy": "Honor"})), &cluster);
    assert_eq!(refusing(&found, UNSPREAD), [""; 0]);
    // the same of a node selector, the other way round
    let mut cluster = zones();
    place(&mut cluster, "a", "1", web());
    let selecting = |policy: &str| {
        let mut pod = spread(json!({"nodeAffinityPolicy": policy}));
        pod["spec"]["nodeSelector"] = json!({"zone": "x"});
        refusing(&verdicts(pod, &cluster), UNSPREAD)
    };
    assert_eq!(selecting("Honor"), [""; 0]);
    assert_eq!(selecting("Ignore"), ["a", "b"]);
}

const NOT_NEAR: &str = "node(s) didn't match pod affinity rules";
const NOT_APART: &str = "node(s) didn't match pod anti-affinity rules";
const UNWELCOME: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

fn wants(kind: &str, key: &str, app: &str) -> Value {
    let term = json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}});
    json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}})
}

#[test]
fn pods_are_near_and_apart() {
    const HOST: &str = "kubernetes.io/hostname";
    let own = |mut change: Value| {
        merge(&mut change, &web());
        change
    };
    // the pod of app "web" that runs on a, the new one, which nodes refuse and why
    let table: [(Value, Value, &str, &[&str]); 9] = [
        (
            web(),
            wants("podAffinity", "zone", "web"),
            NOT_NEAR,
            &["c", "d"],
        ),
        (
            web(),
            wants("podAffinity", HOST, "web"),
            NOT_NEAR,
            &["b", "c", "d"],
        ),
        (
            web(),
            wants("podAffinity", "zone", "db"),
            NOT_NEAR,
            &["a", "b", "c", "d"],
        ),
        // the first of its kind may go anywhere where the label is
        (
            json!({}),
            own(wants("podAffinity", "zone", "web")),
            NOT_NEAR,
            &["d"],
        ),
        (
            web(),
            own(wants("podAffinity", "zone", "web")),
            NOT_NEAR,
            &["c", "d"],
        ),
        (
            web(),
            wants("podAntiAffinity", "zone", "web"),
            NOT_APART,
            &["a", "b"],
        ),
        (
            web(),
            wants("podAntiAffinity", HOST, "web"),
            NOT_APART,
            &["a"],
        ),
        (
            own(wants("podAntiAffinity", "zone", "db")),
            json!({"metadata": {"labels": {"app": "db"}}}),
            UNWELCOME,
            &["a", "b"],
        ),
        (
            own(wants("podAntiAffinity", "zone", "db")),
            json!({}),
            UNWELCOME,
            &[],
        ),
    ];
    for (there, coming, why, expected) in table {
        let mut cluster = zones();
        place(&mut cluster, "a", "there", there.clone());
        let found = verdicts(coming.clone(), &cluster);
        assert_eq!(refusing(&found, why), expected, "{there} {coming}");
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(
            found
                .values()
                .all(|(_, resolvable)| *resolvable == (why != NOT_NEAR))
        );
    }
}

#[test]
fn neighbours_are_looked_for_in_other_namespaces_where_asked() {
    let mut cluster = zones();
    let labels = Labels::from([("team".to_owned(), "a".to_owned())]);
    cluster.namespaces.insert("other".to_owned(), labels);
    let mut there = web();
    there["metadata"]["namespace"] = json!("other");
    place(&mut cluster, "a", "there", there);
    let found = |change: Value| {
        let mut pod = wants("podAntiAffinity", "zone", "web");
        let term = &mut pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            [0];
        merge(term, &change);
        refusing(&verdicts(pod, &cluster), NOT_APART)
    };
    assert_eq!(found(json!({})), [""; 0]);
    assert_eq!(found(json!({"namespaces": ["other"]})), ["a", "b"]);
    assert_eq!(found(json!({"namespaceSelector": {}})), ["a", "b"]);
    assert_eq!(
        found(json!({"namespaceSelector": {"matchLabels": {"team": "b"}}})),
        [""; 0]
    );
}

/// Shifting the counts there and back leaves them as they were, and agrees with counting anew.
#[test]
fn counts_can_be_shifted() {
    let mut cluster = zones();
    place(&mut cluster, "a", "1", web());
    let mut coming = spread(json!({}));
    merge(&mut coming, &wants("podAntiAffinity", "zone", "web"));
    let pod = testing::pod("p", coming);
    let incoming = Incoming::of(&pod);
    let (storage, needs) = (Storage::default(), Needs::default());
    macro_rules! view {
        () => {
            View {
                incoming: &incoming,
                cluster: &cluster,
                storage: &storage,
                needs: &needs,
            }
        };
    }
    let before = format!("{:?}", Counts::of(&view!()));
    let mut counts = Counts::of(&view!());
    let more = Resident::of(&testing::pod("2", web()));
    let room = cluster.rooms()["c"].clone();
    counts.shift(&view!(), &more, &room, 1);
    let shifted = counts.clone();
    counts.shift(&view!(), &more, &room, -1);
    place(&mut cluster, "c", "2", web());
    let anew = Counts::of(&view!());
    for name in ["a", "b", "c", "d"] {
        let room = &cluster.rooms()[name];
        let view = view!();
        assert_eq!(
            check(&view, &shifted, room),
            check(&view, &anew, room),
            "{name}"
        );
    }
    let sorted = |text: String| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    assert_eq!(sorted(format!("{counts:?}")), sorted(before));
}
