use super::*;
use crate::schema::Gvk;

fn deployment_node() -> Node<'static> {
    Node::of(&Gvk::gvk("apps", "v1", "Deployment")).expect("a type")
}

fn manager(name: &str, operation: Operation) -> Manager {
    Manager {
        name: name.into(),
        operation,
        api_version: "apps/v1".into(),
        subresource: String::new(),
        time: "2026-01-01T00:00:00Z".into(),
        fields: FieldSet::default(),
    }
}

fn applied<'a>(name: &str, config: &'a Value, force: bool) -> Applied<'a> {
    Applied {
        one_schema: false,
        node: deployment_node(),
        manager: manager(name, Operation::Apply),
        config,
        force,
    }
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

fn containers(list: Value) -> Value {
    object(json!({"template": {"spec": {"containers": list}}}))
}

/// What is left when `first`, then `second` are applied by one manager over what another one has.
fn twice(live: &Value, first: &Value, second: &Value) -> Value {
    let one = update(applied("me", first, true), live).expect("applied");
    update(applied("me", second, true), &one).expect("applied again")["spec"].clone()
}

#[test]
fn fields_that_are_not_applied_any_more_go() {
    let first = object(
        json!({"replicas": 2, "paused": true, "strategy": {"type": "Recreate"},
        "template": {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {
            "nodeSelector": {"x": "y"},
            "containers": [{"name": "one", "image": "a", "env": [{"name": "E", "value": "v"}, {"name": "F"}]}, {"name": "two", "image": "b"}]}}}),
    );
    let second = object(json!({"replicas": 2,
        "template": {"metadata": {"labels": {"b": "2"}}, "spec": {
            "containers": [{"name": "one", "image": "a", "env": [{"name": "F"}]}]}}}));
    let made = create(applied("me", &first, false)).expect("made");
    // What defaulting adds belongs to nobody and goes with its item.
    let mut live = made.clone();
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = "Always".into();
    let after = update(applied("me", &second, false), &live).expect("applied");
    assert_eq!(after["spec"], second["spec"]);
    let again = update(applied("me", &second, false), &after).expect("applied again");
    assert_eq!(again, after, "applying the same again changes nothing");
}

#[test]
fn what_somebody_else_owns_stays() {
    let theirs =
        containers(json!([{"name": "theirs", "image": "x"}, {"name": "shared", "image": "s"}]));
    let live = create(applied("them", &theirs, false)).expect("made");
    let first = containers(
        json!([{"name": "shared", "image": "s", "tty": true}, {"name": "mine", "image": "m"}]),
    );
    let second = containers(json!([]));
    assert_eq!(twice(&live, &first, &second), theirs["spec"]);
    let one = update(applied("me", &first, false), &live).expect("nothing is contested");
    let names: Vec<_> = one["spec"]["template"]["spec"]["containers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|c| c["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["theirs", "shared", "mine"]);
}

#[test]
fn conflicts_name_the_manager_and_the_field() {
    let theirs = object(
        json!({"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "x"}]}}}),
    );
    let live = create(applied("them", &theirs, false)).expect("made");
    let mine = object(
        json!({"replicas": 3, "template": {"spec": {"containers": [{"name": "c", "image": "y"}]}}}),
    );
    let ApplyError::Conflicts(conflicts) =
        update(applied("me", &mine, false), &live).expect_err("conflicts")
    else {
        panic!("conflicts expected");
    };
    let found: Vec<_> = conflicts
        .iter()
        .map(|c| (c.manager.as_str(), c.path.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("\"them\"", ".spec.replicas"),
            (
                "\"them\"",
                ".spec.template.spec.containers[name=\"c\"].image"
            )
        ]
    );
    let forced = update(applied("me", &mine, true), &live).expect("forced");
    assert_eq!(forced["spec"], mine["spec"]);
    let them = decode(forced["metadata"].get("managedFields")).expect("managers");
    let them = them.iter().find(|m| m.name == "them").expect("them");
    assert!(!them.fields.paths().contains(&".spec.replicas".to_owned()));
    // The same value is no conflict, and is owned by both.
    update(applied("third", &mine, false), &forced).expect("the same values");
}

#[test]
fn updates_take_ownership() {
    let config = object(json!({"replicas": 2, "minReadySeconds": 1}));
    let old = create(applied("me", &config, false)).expect("made");
    let mut new = old.clone();
    new["spec"] = json!({"replicas": 5});
    let managers = decode(old["metadata"].get("managedFields")).expect("managers");
    let updater = manager("scaler", Operation::Update);
    let managed =
        after_update(deployment_node(), false, updater, managers, &old, &new).expect("tracked");
    new["metadata"]["managedFields"] = managed.clone();
    assert_eq!(managed.as_array().map(Vec::len), Some(1), "{managed}");
    assert_eq!(managed[0]["manager"], "scaler");
    assert_eq!(
        managed[0]["fieldsV1"],
        json!({"f:spec": {"f:replicas": {}}})
    );
    let error = update(applied("me", &config, false), &new).expect_err("a conflict");
    let expected = Conflict {
        manager: "\"scaler\" using apps/v1".into(),
        path: ".spec.replicas".into(),
    };
    assert_eq!(error, ApplyError::Conflicts(vec![expected]));
    // Without the field, the object keeps what the updater set.
    let less = object(json!({"minReadySeconds": 1}));
    let after = update(applied("me", &less, false), &new).expect("applied");
    assert_eq!(after["spec"], json!({"replicas": 5, "minReadySeconds": 1}));
}

#[test]
fn what_was_there_before_the_first_apply_belongs_to_it() {
    let live = object(json!({"replicas": 2}));
    let error = update(applied("me", &object(json!({"replicas": 3})), false), &live);
    assert!(
        matches!(error, Err(ApplyError::Conflicts(c)) if c[0].manager.starts_with("\"before-first-apply\""))
    );
    let same =
        update(applied("me", &object(json!({"replicas": 2})), false), &live).expect("no change");
    assert_eq!(same["spec"], live["spec"]);
}

#[test]
fn lists_and_structs_of_one_piece_are_replaced() {
    let first = object(json!({"selector": {"matchLabels": {"a": "1", "b": "2"}},
        "template": {"spec": {"containers": [{"name": "c", "command": ["a", "b"], "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]}]}}}));
    let second = object(json!({"selector": {"matchLabels": {"b": "3"}},
        "template": {"spec": {"containers": [{"name": "c", "command": ["c"], "ports": [{"containerPort": 80, "protocol": "TCP", "name": "x"}]}]}}}));
    let live = object(json!({}));
    let after = twice(&live, &first, &second);
    assert_eq!(after, second["spec"]);
}

#[test]
fn repeated_and_keyless_items_are_refused() {
    for list in [
        json!([{"name": "c"}, {"name": "c"}]),
        json!([{"image": "x"}]),
    ] {
        let config = containers(list);
        assert!(matches!(
            create(applied("me", &config, false)),
            Err(ApplyError::Malformed(_))
        ));
    }
}

#[test]
fn managers_of_updates_are_bounded() {
    let mut managers: Vec<_> = (0..40)
        .map(|n| {
            let mut one = manager(&format!("m{n}"), Operation::Update);
            one.time = format!("2026-01-01T00:00:{n:02}Z");
            one.fields.child(format!("f:x{n}")).member = true;
            one
        })
        .collect();
    managers.push(Manager {
        fields: managers[0].fields.clone(),
        ..manager("me", Operation::Apply)
    });
    let kept = decode(Some(&encode(managers))).expect("managers");
    assert_eq!(kept.len(), 11);
    let ancient = kept
        .iter()
        .find(|m| m.name == "ancient-changes")
        .expect("the old ones");
    assert_eq!(ancient.fields.paths().len(), 31);
}

/// The sets that kubectl shows of new objects on a cluster of upstream's.
#[test]
fn what_somebody_creates_is_theirs_with_the_maps_and_lists_that_hold_it() {
    let of = |group: &str, kind: &str, object: Value| {
        let node = Node::of(&Gvk::gvk(group, "v1", kind)).expect("a type");
        after_create(node, manager("kubectl-create", Operation::Update), &object)[0]["fieldsV1"]
            .clone()
    };
    let secret = json!({"metadata": {"name": "s"}, "data": {"auth": "eA=="}, "type": "Opaque"});
    assert_eq!(
        of("", "Secret", secret),
        json!({"f:data": {".": {}, "f:auth": {}}, "f:type": {}})
    );
    // kubectl create deployment
    let deployment = json!({
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "progressDeadlineSeconds": 600, "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{
                        "name": "nginx", "image": "nginx", "resources": {},
                        "env": [{"name": "A", "value": "b"}],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "livenessProbe": {"httpGet": {"path": "/"}},
                    }],
                    "restartPolicy": "Always", "securityContext": {},
                },
            },
        },
        "status": {},
    });
    let container = json!({
        ".": {}, "f:name": {}, "f:image": {}, "f:resources": {},
        "f:env": {".": {}, "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
            ".": {}, "f:containerPort": {}, "f:protocol": {}}},
        "f:livenessProbe": {".": {}, "f:httpGet": {".": {}, "f:path": {}}},
    });
    let expected = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:selector": {},
            "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:containers": {"k:{\"name\":\"nginx\"}": container},
                    "f:restartPolicy": {}, "f:securityContext": {},
                },
            },
        },
    });
    assert_eq!(of("apps", "Deployment", deployment), expected);
    let service = json!({"metadata": {"name": "s"}, "spec": {
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "selector": {"a": "b"}, "type": "ClusterIP"}});
    assert_eq!(
        of("", "Service", service),
        json!({"f:spec": {
            "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {
                ".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
            "f:selector": {}, "f:type": {},
        }})
    );
}

#[test]
fn a_new_map_is_its_makers_and_an_old_one_is_not() {
    let node = Node::of(&Gvk::gvk("", "v1", "ConfigMap")).expect("a type");
    let object = |data: Value| json!({"metadata": {"name": "c"}, "data": data});
    let made = object(json!({"a": "1"}));
    let owned = after_create(node, manager("one", Operation::Update), &made);
    let changed = object(json!({"a": "1", "b": "2"}));
    let managers = decode(Some(&owned)).expect("managers");
    let owned = after_update(
        node,
        false,
        manager("two", Operation::Update),
        managers,
        &made,
        &changed,
    );
    let owned = owned.expect("tracked");
    assert_eq!(
        owned[0]["fieldsV1"],
        json!({"f:data": {".": {}, "f:a": {}}})
    );
    assert_eq!(owned[1]["fieldsV1"], json!({"f:data": {"f:b": {}}}));
    // Who takes the map away takes it from everybody.
    let managers = decode(Some(&owned)).expect("managers");
    let none = json!({"metadata": {"name": "c", "labels": {"x": "y"}}});
    let owned = after_update(
        node,
        false,
        manager("two", Operation::Update),
        managers,
        &changed,
        &none,
    );
    let owned = owned.expect("tracked");
    assert_eq!(owned.as_array().map(Vec::len), Some(1), "{owned}");
    assert_eq!(
        owned[0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}})
    );
}

/// Without its key an item is none: every further apply would be refused.
#[test]
fn an_item_goes_although_somebody_has_changed_something_in_it() {
    let with = |env: Value| containers(json!([{"name": "c", "env": env}]));
    let (a, b) = (json!({"name": "A", "value": "1"}), json!({"name": "B"}));
    let made = create(applied("chart", &with(json!([a, b])), false)).expect("made");
    // kubectl set env
    let mut changed = made.clone();
    changed["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"] = "z".into();
    let managers = decode(made["metadata"].get("managedFields")).expect("managers");
    let somebody = manager("kubectl-set", Operation::Update);
    changed["metadata"]["managedFields"] = after_update(
        deployment_node(),
        false,
        somebody,
        managers,
        &made,
        &changed,
    )
    .expect("tracked");
    let next = with(json!([b]));
    let after = update(applied("chart", &next, false), &changed).expect("applied");
    assert_eq!(after["spec"], next["spec"]);
    let left = decode(after["metadata"].get("managedFields")).expect("managers");
    let names: Vec<_> = left.iter().map(|manager| manager.name.as_str()).collect();
    assert_eq!(names, ["chart"], "nothing is left of it");
}

/// What kubectl applied by itself, and nobody has changed since, is its own.
#[test]
fn kubectl_goes_over_to_the_server() {
    let image = |image: &str| containers(json!([{"name": "c", "image": image}]));
    let by_itself = |live: Value, last: &Value| {
        let mut live = live;
        live["metadata"]["annotations"] = json!({LAST_APPLIED: last.to_string()});
        let creator = manager("kubectl-client-side-apply", Operation::Update);
        live["metadata"]["managedFields"] = after_create(deployment_node(), creator, &live);
        live
    };
    let first = image("a:1");
    let live = by_itself(first.clone(), &first);
    let next = image("a:2");
    assert!(update(applied("kubectl", &next, false), &live).is_err());
    let after = update_by_kubectl(applied("kubectl", &next, false), &live).expect("no conflict");
    assert_eq!(after["spec"], next["spec"]);
    // somebody has changed it since
    let contested = by_itself(image("b:1"), &first);
    let refused = update_by_kubectl(applied("kubectl", &next, false), &contested);
    assert!(
        matches!(&refused, Err(ApplyError::Conflicts(conflicts)) if conflicts.len() == 1),
        "{refused:?}"
    );
    // as another version
    let mut old = first.clone();
    old["apiVersion"] = "apps/v1beta1".into();
    let before = by_itself(first, &old);
    assert!(update_by_kubectl(applied("kubectl", &next, false), &before).is_err());
}

#[test]
fn an_apply_that_changes_values_has_its_own_time() {
    let image = |image: &str| containers(json!([{"name": "c", "image": image}]));
    let made = create(applied("me", &image("a:1"), false)).expect("made");
    let again = |config: &Value| {
        let mut later = manager("me", Operation::Apply);
        later.time = "2026-02-02T00:00:00Z".into();
        let after = update(applied("me", config, false), &made).expect("applied");
        let managers = after["metadata"].get("managedFields").cloned();
        stamp(managers, &later, &made, &after).expect("managers")[0]["time"].clone()
    };
    assert_eq!(again(&image("a:1")), "2026-01-01T00:00:00Z");
    assert_eq!(again(&image("a:2")), "2026-02-02T00:00:00Z");
}

#[test]
fn references_without_a_name_are_told_apart_by_their_default() {
    let config = object(json!({"template": {"spec": {"imagePullSecrets": [{}]}}}));
    let made = create(applied("me", &config, false)).expect("made");
    update(applied("me", &config, false), &made).expect("applied again");
}

/// The binder's part of the field is not the applier's.
#[test]
fn a_volumes_claim_is_owned_by_field() {
    let node = || Node::of(&Gvk::gvk("", "v1", "PersistentVolume")).expect("a type");
    let config = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": {"claimRef": {"namespace": "n", "name": "c"}}});
    let of = |config| Applied {
        one_schema: false,
        node: node(),
        manager: manager("me", Operation::Apply),
        config,
        force: false,
    };
    let made = create(of(&config)).expect("made");
    let mut bound = made.clone();
    bound["spec"]["claimRef"]["uid"] = "u".into();
    let managers = decode(made["metadata"].get("managedFields")).expect("managers");
    let binder = manager("binder", Operation::Update);
    bound["metadata"]["managedFields"] =
        after_update(node(), false, binder, managers, &made, &bound).expect("tracked");
    let after = update(of(&config), &bound).expect("no conflict");
    assert_eq!(after["spec"]["claimRef"]["uid"], "u");
}
