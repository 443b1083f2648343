//! Addresses and node ports come, never collide, and go.

use super::*;

fn addresses(cidr: &str) -> Addresses {
    let mut config = Config::new("unused");
    config.service_cidr = cidr.into();
    config.node_ports = (30000, 30001);
    Addresses::new(&config).expect("a usable range")
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "s"}, "spec": spec})
}

#[test]
fn addresses_never_collide_and_come_back() {
    let all = addresses("10.0.0.0/28");
    let mut seen = HashSet::new();
    // Sixteen addresses less network, broadcast and the first one, which is the API server's.
    for _ in 0..13 {
        let mut s = service(json!({"type": "ClusterIP"}));
        all.claim(&mut s, None).expect("an address").keep();
        assert!(
            seen.insert(text(&s, &["spec", "clusterIP"]).to_owned()),
            "{s}"
        );
    }
    let mut s = service(json!({"type": "ClusterIP"}));
    let error = all.claim(&mut s, None).err().expect("the range is full");
    assert!(error.message.contains("range is full"), "{}", error.message);
    let kind = crate::registry::find("", "v1", "services").expect("services");
    let gone = service(json!({"clusterIP": seen.iter().next().expect("one")}));
    all.release(kind, &gone);
    assert!(all.claim(&mut s, None).is_ok());
}

#[test]
fn a_dropped_claim_gives_back() {
    let all = addresses("10.0.0.0/24");
    let mut s = service(json!({"type": "ClusterIP", "clusterIP": "10.0.0.9"}));
    drop(all.claim(&mut s, None).expect("free"));
    all.claim(&mut s, None).expect("free again").keep();
    let error = all.claim(&mut s, None).err().expect("taken");
    assert!(
        error.message.contains("provided IP is already allocated"),
        "{}",
        error.message
    );
    for outside in ["10.0.1.1", "10.0.0.0", "10.0.0.255", "x"] {
        let mut s = service(json!({"clusterIP": outside}));
        assert_eq!(
            all.claim(&mut s, None).err().map(|e| e.code),
            Some(422),
            "{outside}"
        );
    }
}

#[test]
fn node_ports_come_and_go_with_the_type() {
    let all = addresses("10.0.0.0/24");
    let port = json!([{"port": 80, "protocol": "TCP"}]);
    let mut a = service(json!({"type": "NodePort", "ports": port}));
    all.claim(&mut a, None).expect("a port").keep();
    let number = a["spec"]["ports"][0]["nodePort"]
        .as_u64()
        .expect("a node port");
    assert!((30000..=30001).contains(&number));
    let mut plain = a.clone();
    plain["spec"]["type"] = "ClusterIP".into();
    all.claim(&mut plain, Some(&a))
        .expect("no port needed")
        .keep();
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
    for _ in 0..2 {
        let mut s = service(json!({"type": "NodePort", "ports": port}));
        all.claim(&mut s, None).expect("both ports are free").keep();
    }
    let mut s = service(json!({"type": "NodePort", "ports": port}));
    assert!(all.claim(&mut s, None).is_err());
}

#[test]
fn one_port_by_two_protocols_has_one_node_port() {
    let all = addresses("10.0.0.0/24");
    let both = json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 54, "protocol": "TCP"}]);
    let mut s = service(json!({"type": "NodePort", "ports": both}));
    all.claim(&mut s, None).expect("ports").keep();
    let number = |n: usize| s["spec"]["ports"][n]["nodePort"].as_u64();
    assert_eq!(number(0), number(1));
    assert_ne!(number(1), number(2));
    // Kept when an update does not name it, also beside a new port of another service.
    let mut update = s.clone();
    for port in update["spec"]["ports"].as_array_mut().expect("ports") {
        port.as_object_mut().expect("a port").remove("nodePort");
    }
    all.claim(&mut update, Some(&s)).expect("ports").keep();
    assert_eq!(update["spec"]["ports"], s["spec"]["ports"]);
}

#[test]
fn unusable_ranges_are_refused() {
    for cidr in [
        "",
        "10.0.0.0",
        "10.0.0.0/x",
        "10.0.0.0/30",
        "fd00::/64",
        "10.0.0.0/4",
    ] {
        let mut config = Config::new("unused");
        config.service_cidr = cidr.into();
        assert!(Addresses::new(&config).is_err(), "{cidr:?}");
    }
}
