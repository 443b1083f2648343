//! Tables of services, pods and the slices that result.

use super::*;
use serde_json::{Value, json};

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "s", "labels": {"team": "a"}},
        "spec": spec,
    }))
    .unwrap()
}

fn simple() -> Service {
    service(
        json!({"clusterIP": "10.0.0.1", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}),
    )
}

fn pod(n: usize, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": format!("p{n}"), "namespace": "shop", "uid": format!("u{n}")},
        "spec": {"nodeName": "one", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {
            "phase": "Running", "podIP": format!("10.1.{}.{}", n / 250, n % 250 + 1),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    change(&mut value);
    Arc::new(serde_json::from_value(value).unwrap())
}

/// The slices as they are after the plan is carried out.
fn carry_out(plan: Plan, existing: &[Arc<EndpointSlice>]) -> Vec<Arc<EndpointSlice>> {
    let mut slices: BTreeMap<String, Arc<EndpointSlice>> = existing
        .iter()
        .map(|slice| (objects::name(&**slice).to_owned(), slice.clone()))
        .collect();
    for name in plan.delete {
        slices.remove(&name).expect("deletes what exists");
    }
    for slice in plan.update {
        slices
            .insert(objects::name(&slice).to_owned(), Arc::new(slice))
            .expect("updates what exists");
    }
    for (n, mut slice) in plan.create.into_iter().enumerate() {
        let name = format!("web-{}-{n}", slices.len());
        slice.metadata.name = Some(name.clone());
        slices.insert(name, Arc::new(slice));
    }
    slices.into_values().collect()
}

fn counts(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    let mut counts: Vec<usize> = slices
        .iter()
        .map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len))
        .collect();
    counts.sort_unstable();
    counts
}

#[test]
fn one_pod_makes_one_slice() {
    let plan = plan(&simple(), &[pod(1, |_| {})], &[]);
    let slice = serde_json::to_value(&plan.create[0]).unwrap();
    assert_eq!(
        slice,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "generateName": "web-", "namespace": "shop",
                "labels": {
                    "team": "a", "kubernetes.io/service-name": "web",
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": "web", "uid": "s",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "addressType": "IPv4",
            "ports": [{"name": "", "protocol": "TCP", "port": 8080}],
            "endpoints": [{
                "addresses": ["10.1.0.2"], "nodeName": "one",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "p1", "uid": "u1"},
            }],
        })
    );
}

#[test]
fn slices_of_an_earlier_service_of_the_name_are_not_taken_over() {
    let pods = [pod(1, |_| {})];
    let earlier = carry_out(plan(&simple(), &pods, &[]), &[]);
    let mut anew = simple();
    anew.metadata.uid = Some("another".into());
    let plan = plan(&anew, &pods, &earlier);
    assert_eq!(
        (plan.create.len(), plan.update.len(), plan.delete.len()),
        (1, 0, 1)
    );
    let owner = objects::controller_of(&plan.create[0]).expect("an owner");
    assert_eq!(owner.uid, "another");
}

#[test]
fn conditions_follow_readiness_and_deletion() {
    // change, publishNotReadyAddresses → ready, serving, terminating; nothing: not listed
    type Case = (fn(&mut Value), bool, Option<(bool, bool, bool)>);
    let table: [Case; 7] = [
        (|_| {}, false, Some((true, true, false))),
        (
            |p| p["status"]["conditions"][0]["status"] = json!("False"),
            false,
            Some((false, false, false)),
        ),
        (
            |p| p["status"]["conditions"][0]["status"] = json!("False"),
            true,
            Some((true, false, false)),
        ),
        (
            |p| p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            false,
            Some((false, true, true)),
        ),
        (|p| p["status"]["phase"] = json!("Failed"), false, None),
        (|p| p["status"]["phase"] = json!("Succeeded"), true, None),
        (|p| p["status"]["podIP"] = json!(""), true, None),
    ];
    for (n, (change, publish, expected)) in table.into_iter().enumerate() {
        let service =
            service(json!({"selector": {"app": "web"}, "publishNotReadyAddresses": publish}));
        let pod = pod(1, change);
        let conditions = endpoints::endpoint(&service, &pod, "IPv4").map(|endpoint| {
            let conditions = endpoint.conditions.unwrap();
            (
                conditions.ready.unwrap(),
                conditions.serving.unwrap(),
                conditions.terminating.unwrap(),
            )
        });
        assert_eq!(conditions, expected, "case {n}");
    }
}

#[test]
fn headless_services_name_hosts_and_say_so() {
    let service = service(json!({"clusterIP": "None", "selector": {"app": "web"}}));
    let pod = pod(1, |p| {
        p["spec"]["hostname"] = json!("first");
        p["spec"]["subdomain"] = json!("web");
    });
    let plan = plan(&service, &[pod], &[]);
    assert_eq!(
        plan.create[0].metadata.labels.as_ref().unwrap()[HEADLESS],
        ""
    );
    assert_eq!(
        plan.create[0].endpoints.as_ref().unwrap()[0]
            .hostname
            .as_deref(),
        Some("first")
    );
    assert_eq!(plan.create[0].ports, None);
}

#[test]
fn pods_with_other_port_numbers_get_their_own_slice() {
    let other = pod(2, |p| {
        p["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090)
    });
    let plan = plan(&simple(), &[pod(1, |_| {}), other], &[]);
    let ports: Vec<i32> = plan
        .create
        .iter()
        .map(|slice| slice.ports.as_ref().unwrap()[0].port.unwrap())
        .collect();
    assert_eq!(ports, [8080, 9090]);
}

#[test]
fn slices_hold_a_hundred_and_endpoints_stay_where_they_are() {
    let service = simple();
    let pods: Vec<Arc<Pod>> = (0..250).map(|n| pod(n, |_| {})).collect();
    let slices = carry_out(plan(&service, &pods, &[]), &[]);
    assert_eq!(counts(&slices), [50, 100, 100]);
    let again = plan(&service, &pods, &slices);
    assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
    // One pod less and one more: only slices that have to change are written.
    let mut changed = pods[1..].to_vec();
    changed.push(pod(250, |_| {}));
    let step = plan(&service, &changed, &slices);
    assert_eq!(
        (step.create.len(), step.update.len(), step.delete.len()),
        (0, 1, 0)
    );
    assert_eq!(counts(&carry_out(step, &slices)), [50, 100, 100]);
}

#[test]
fn without_endpoints_one_empty_slice_remains() {
    let service = simple();
    let pods: Vec<Arc<Pod>> = (0..150).map(|n| pod(n, |_| {})).collect();
    let slices = carry_out(plan(&service, &pods, &[]), &[]);
    let empty = carry_out(plan(&service, &[], &slices), &slices);
    assert_eq!(counts(&empty), [0]);
    let again = plan(&service, &[], &empty);
    assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
    let back = carry_out(plan(&service, &pods[..1], &empty), &empty);
    assert_eq!(counts(&back), [1]);
    assert_eq!(counts(&carry_out(plan(&service, &[], &[]), &[])), [0]);
}

#[test]
fn each_family_of_the_service_has_slices_of_its_own() {
    let both = |change: &dyn Fn(&mut Value)| {
        let mut spec = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"],
            "selector": {"app": "web"}, "ports": [{"port": 80}]});
        change(&mut spec);
        service(spec)
    };
    let dual = pod(1, |pod| {
        pod["status"]["podIPs"] = json!([{"ip": "10.1.0.2"}, {"ip": "fd00:1::2"}]);
    });
    let shown = |slices: &[Arc<EndpointSlice>]| {
        let mut all: Vec<String> = slices
            .iter()
            .map(|slice| {
                let ends = slice.endpoints.iter().flatten();
                let ips: Vec<String> = ends.flat_map(|end| end.addresses.clone()).collect();
                format!("{} {}", slice.address_type, ips.join(" "))
                    .trim()
                    .to_owned()
            })
            .collect();
        all.sort();
        all
    };
    let service = both(&|_| {});
    let slices = carry_out(plan(&service, std::slice::from_ref(&dual), &[]), &[]);
    assert_eq!(shown(&slices), ["IPv4 10.1.0.2", "IPv6 fd00:1::2"]);
    let again = plan(&service, std::slice::from_ref(&dual), &slices);
    assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
    // A pod that has IPv4 alone: the other family is known to have none.
    let old = plan(&service, &[pod(1, |_| {})], &slices);
    let slices = carry_out(old, &slices);
    assert_eq!(shown(&slices), ["IPv4 10.1.0.2", "IPv6"]);
    // Down to one family, and another one: slices of the others go.
    let single = both(&|spec| {
        spec["ipFamilies"] = json!(["IPv6"]);
        spec["clusterIP"] = json!("fd00::1");
    });
    let slices = carry_out(plan(&single, std::slice::from_ref(&dual), &slices), &slices);
    assert_eq!(shown(&slices), ["IPv6 fd00:1::2"]);
    let none = carry_out(plan(&both(&|_| {}), &[], &slices), &slices);
    assert_eq!(shown(&none), ["IPv4", "IPv6"]);
    // Nothing said: the address tells; a headless one of old has whatever pods have.
    let headless = both(&|spec| {
        spec["ipFamilies"] = Value::Null;
        spec["clusterIP"] = "None".into();
    });
    let slices = carry_out(plan(&headless, std::slice::from_ref(&dual), &[]), &[]);
    assert_eq!(shown(&slices), ["IPv4 10.1.0.2", "IPv6 fd00:1::2"]);
}
