//! Tables of what storage a node can give.

use super::*;
use serde_json::{Value, json};

fn merge(into: &mut Value, change: &Value) {
    for (key, value) in change.as_object().into_iter().flatten() {
        match value.is_object() && into[key].is_object() {
            true => merge(&mut into[key], value),
            false => into[key] = value.clone(),
        }
    }
}

fn storage(claims: &[Value], volumes: &[Value]) -> Storage {
    let mut storage = Storage::default();
    for change in claims {
        let mut value = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
            "spec": {"storageClassName": "later", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
            "status": {"phase": "Pending"}});
        merge(&mut value, change);
        let claim: PersistentVolumeClaim = serde_json::from_value(value).unwrap();
        let key = ("n".to_owned(), claim.metadata.name.clone().unwrap());
        storage.claims.insert(key, claim);
    }
    for change in volumes {
        let mut value = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"],
            "storageClassName": "later", "hostPath": {"path": "/x"}}, "status": {"phase": "Available"}});
        merge(&mut value, change);
        let volume: PersistentVolume = serde_json::from_value(value).unwrap();
        storage
            .volumes
            .insert(volume.metadata.name.clone().unwrap(), volume);
    }
    for (name, mode, provisioner) in [
        ("later", "WaitForFirstConsumer", "example.com/p"),
        ("hand", "WaitForFirstConsumer", NO_PROVISIONER),
        ("now", "Immediate", "example.com/p"),
    ] {
        let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
        storage
            .classes
            .insert(name.to_owned(), serde_json::from_value(class).unwrap());
    }
    storage
}

fn node() -> Node {
    serde_json::from_value(
        json!({"metadata": {"name": "here", "labels": {"kubernetes.io/hostname": "here"}}}),
    )
    .unwrap()
}

fn on(host: &str) -> Value {
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}})
}

fn pod(claims: &[&str]) -> Pod {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}))
        .collect();
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [], "volumes": volumes}})).unwrap()
}

fn verdict(claims: &[Value], volumes: &[Value]) -> Result<String, String> {
    let storage = storage(claims, volumes);
    let needs = storage.needs(&pod(&["c"]))?;
    let choices = storage.check(&needs, &node())?;
    let shown: Vec<String> = choices
        .iter()
        .map(|choice| match choice {
            Choice::Static { claim, volume, .. } => format!("{claim}={volume}"),
            Choice::Provision { claim, told, .. } => format!("{claim}+{told}"),
        })
        .collect();
    Ok(shown.join(" "))
}

fn bound() -> Value {
    json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}}, "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}})
}

#[test]
fn in_upstreams_words() {
    let nothing = "node(s) didn't find available persistent volumes to bind";
    let table = [
        (vec![], vec![], Err("persistentvolumeclaim \"c\" not found")),
        (
            vec![json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}})],
            vec![],
            Err("persistentvolumeclaim \"c\" is being deleted"),
        ),
        (
            vec![json!({"spec": {"storageClassName": "now"}})],
            vec![],
            Err("pod has unbound immediate PersistentVolumeClaims"),
        ),
        (
            vec![json!({"spec": {"storageClassName": "none"}})],
            vec![],
            Err("pod has unbound immediate PersistentVolumeClaims"),
        ),
        (
            vec![json!({"spec": {"volumeName": "v"}})],
            vec![json!({})],
            Err("pod has unbound immediate PersistentVolumeClaims"),
        ),
        (vec![json!({})], vec![], Ok("c+false")),
        (
            vec![json!({"metadata": {"annotations": {SELECTED_NODE: "here"}}})],
            vec![json!({})],
            Ok("c+true"),
        ),
        (
            vec![json!({"metadata": {"annotations": {SELECTED_NODE: "there"}}})],
            vec![],
            Err(nothing),
        ),
        (
            vec![json!({"spec": {"storageClassName": "hand"}})],
            vec![],
            Err(nothing),
        ),
        (vec![bound()], vec![json!({})], Ok("")),
        (
            vec![bound()],
            vec![json!({"spec": {"nodeAffinity": on("here")}})],
            Ok(""),
        ),
        (
            vec![bound()],
            vec![json!({"spec": {"nodeAffinity": on("there")}})],
            Err("node(s) didn't match PersistentVolume's node affinity"),
        ),
        (
            vec![bound()],
            vec![],
            Err("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
        ),
    ];
    for (claims, volumes, want) in table {
        let want = want.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(verdict(&claims, &volumes), want, "{claims:?} {volumes:?}");
    }
}

#[test]
fn a_volume_that_is_there_is_taken_before_one_is_made() {
    let large = json!({"metadata": {"name": "large"}, "spec": {"capacity": {"storage": "9Gi"}}});
    let small = json!({"metadata": {"name": "small"}, "spec": {"capacity": {"storage": "1Gi"}}});
    let away = json!({"metadata": {"name": "away"}, "spec": {"nodeAffinity": on("there")}});
    let kept = json!({"metadata": {"name": "kept"}, "spec": {"capacity": {"storage": "20Gi"}, "claimRef": {"namespace": "n", "name": "c"}}});
    let other = json!({"metadata": {"name": "other"}, "spec": {"claimRef": {"namespace": "n", "name": "d"}}});
    let all = [large.clone(), small.clone(), away.clone(), other.clone()];
    assert_eq!(verdict(&[json!({})], &all), Ok("c=large".into()));
    assert_eq!(
        verdict(&[json!({})], &[large.clone(), kept]),
        Ok("c=kept".into())
    );
    assert_eq!(
        verdict(&[json!({})], &[small, away, other]),
        Ok("c+false".into())
    );
    // two claims never get one volume
    let two = storage(
        &[json!({}), json!({"metadata": {"name": "d", "uid": "v"}})],
        &[large],
    );
    let needs = two.needs(&pod(&["c", "d"])).unwrap();
    let choices = two.check(&needs, &node()).unwrap();
    let fixed = choices
        .iter()
        .filter(|choice| matches!(choice, Choice::Static { .. }))
        .count();
    assert_eq!((choices.len(), fixed), (2, 1));
}

#[test]
fn volumes_stay_in_their_zones() {
    let ask = |of_volume: Value, of_node: Value| {
        let bound = json!({"spec": {"volumeName": "v"}, "metadata": {"annotations": {BIND_COMPLETED: "yes"}}});
        let storage = storage(&[bound], &[json!({"metadata": {"labels": of_volume}})]);
        let node = json!({"metadata": {"name": "here", "labels": of_node}});
        let needs = storage.needs(&pod(&["c"])).unwrap();
        storage
            .check(&needs, &serde_json::from_value(node).unwrap())
            .is_ok()
    };
    let zone = |zone: &str| json!({"topology.kubernetes.io/zone": zone});
    let old = |zone: &str| json!({"failure-domain.beta.kubernetes.io/zone": zone});
    for (of_volume, of_node, expected) in [
        (zone("a"), zone("a"), true),
        (zone("a"), zone("b"), false),
        (zone("a__b"), zone("b"), true),
        (old("a"), zone("a"), true),
        (old("a"), zone("b"), false),
        (old("a"), old("a"), true),
        (zone("a"), json!({}), true),
        (
            zone("a"),
            json!({"topology.kubernetes.io/region": "r"}),
            false,
        ),
        (json!({}), zone("a"), true),
    ] {
        assert_eq!(
            ask(of_volume.clone(), of_node.clone()),
            expected,
            "{of_volume} {of_node}"
        );
    }
}

#[test]
fn classes_provide_where_they_may() {
    let ask = |topologies: Value| {
        let mut storage = storage(&[json!({})], &[]);
        let class = storage.classes.get_mut("later").unwrap();
        class.allowed_topologies = serde_json::from_value(topologies).unwrap();
        let needs = storage.needs(&pod(&["c"])).unwrap();
        storage.check(&needs, &node()).is_ok()
    };
    let host = |hosts: &[&str]| json!({"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": hosts}]});
    assert!(ask(Value::Null));
    assert!(ask(json!([])));
    assert!(ask(json!([host(&["there"]), host(&["there", "here"])])));
    assert!(!ask(json!([host(&["there"])])));
    assert!(!ask(json!([{}])));
}
