//! Tables of Endpoints and the slices that mirror them.

use super::*;
use serde_json::{Value, json};

fn endpoints(subsets: Value) -> Endpoints {
    serde_json::from_value(json!({
        "metadata": {
            "name": "db", "namespace": "shop", "uid": "e", "labels": {"team": "a"},
            "annotations": {LAST_APPLIED: "{}", "note": "x"},
        },
        "subsets": subsets,
    }))
    .unwrap()
}

/// Carries out a plan; shows the slices as `NAME:FAMILY:PORT=ADDRESSES`, with `!` behind those that are not ready.
fn carry_out(plan: Plan, slices: &mut Vec<Arc<EndpointSlice>>) -> String {
    slices.retain(|slice| !plan.delete.contains(&objects::name(&**slice).to_owned()));
    for changed in plan.update {
        let name = objects::name(&changed).to_owned();
        let at = slices
            .iter()
            .position(|slice| objects::name(&**slice) == name);
        slices[at.expect("updates what exists")] = Arc::new(changed);
    }
    for mut new in plan.create {
        new.metadata.name = Some(format!("db-{}", slices.len()));
        slices.push(Arc::new(new));
    }
    let shown = slices.iter().map(|slice| {
        let ports: Vec<String> = slice
            .ports
            .iter()
            .flatten()
            .map(|port| port.port.unwrap().to_string())
            .collect();
        let addresses = slice.endpoints.iter().flatten().map(|one| {
            let ready = one.conditions.as_ref().unwrap().ready.unwrap();
            format!("{}{}", one.addresses[0], if ready { "" } else { "!" })
        });
        let addresses: Vec<String> = addresses.collect();
        format!(
            "{}:{}:{}={}",
            objects::name(&**slice),
            slice.address_type,
            ports.join(","),
            addresses.join(",")
        )
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn slices_follow_what_is_written_by_hand() {
    let mut slices = Vec::new();
    for (what, subsets, expected) in [
        (
            "one",
            json!([{"addresses": [{"ip": "10.9.0.1"}], "ports": [{"port": 5432}]}]),
            "db-0:IPv4:5432=10.9.0.1",
        ),
        (
            "another address, another state",
            json!([{"addresses": [{"ip": "10.9.0.1"}], "notReadyAddresses": [{"ip": "10.9.0.2"}], "ports": [{"port": 5432}]}]),
            "db-0:IPv4:5432=10.9.0.1,10.9.0.2!",
        ),
        (
            "two families",
            json!([{"addresses": [{"ip": "10.9.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 5432}]}]),
            "db-0:IPv4:5432=10.9.0.1 db-1:IPv6:5432=fd00::1",
        ),
        (
            "another port, the slice is used again; the other family goes",
            json!([{"addresses": [{"ip": "10.9.0.1"}], "ports": [{"port": 5433}]}]),
            "db-0:IPv4:5433=10.9.0.1",
        ),
        (
            "subsets of the same ports are one slice",
            json!([{"addresses": [{"ip": "10.9.0.1"}], "ports": [{"port": 1}]}, {"addresses": [{"ip": "10.9.0.2"}], "ports": [{"port": 1}]}]),
            "db-0:IPv4:1=10.9.0.1,10.9.0.2",
        ),
        ("none", json!([]), ""),
    ] {
        let endpoints = endpoints(subsets);
        let plan = super::plan(&endpoints, &slices);
        assert_eq!(carry_out(plan, &mut slices), expected, "{what}");
        let again = super::plan(&endpoints, &slices);
        assert!(
            again.create.is_empty() && again.update.is_empty() && again.delete.is_empty(),
            "{what}: {again:?}"
        );
    }
}

#[test]
fn a_slice_carries_what_its_endpoints_carry_and_belongs_to_them() {
    let endpoints = endpoints(
        json!([{"addresses": [{"ip": "10.9.0.1", "nodeName": "one", "hostname": "a"}], "ports": [{"port": 5432, "name": "sql"}]}]),
    );
    let slice = json!(super::plan(&endpoints, &[]).create[0]);
    let expected = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "generateName": "db-", "namespace": "shop", "annotations": {"note": "x"},
            "labels": {"team": "a", "kubernetes.io/service-name": "db", "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Endpoints", "name": "db", "uid": "e", "controller": true, "blockOwnerDeletion": true}],
        },
        "endpoints": [{"addresses": ["10.9.0.1"], "conditions": {"ready": true}, "nodeName": "one", "hostname": "a"}],
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
    });
    assert_eq!(slice, expected);
}

#[test]
fn what_cannot_be_mirrored_is_counted() {
    let many: Vec<Value> = (0..1002)
        .map(|n| json!({"ip": format!("10.9.{}.{}", n / 250, n % 250)}))
        .collect();
    let mut first = vec![json!({"ip": "nowhere"})];
    first.extend(many);
    let plan = super::plan(
        &endpoints(json!([{"addresses": first, "ports": [{"port": 1}]}])),
        &[],
    );
    assert_eq!((plan.invalid, plan.beyond), (1, 2));
    assert_eq!(plan.create[0].endpoints.as_ref().unwrap().len(), 1000);
}
