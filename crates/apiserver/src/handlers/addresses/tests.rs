//! Addresses and node ports come, never collide, and go.

use super::*;

fn addresses(cidr: &str) -> Addresses {
    let mut config = Config::new("unused");
    config.service_cidr = cidr.into();
    config.node_ports = (30000, 30001);
    Addresses::new(&config).expect("a usable range")
}

/// As a write does it.
fn claim(all: &Addresses, service: &mut Value, old: Option<&Value>) -> Result<Claim, ApiError> {
    if let Some(first) = service["spec"]["clusterIP"].as_str() {
        let first = json!([first]);
        if service["spec"]["clusterIPs"].is_null() {
            service["spec"]["clusterIPs"] = first;
        }
    }
    all.settle_families(service, old)?;
    all.claim(service, old)
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
        claim(&all, &mut s, None).expect("an address").keep();
        assert!(
            seen.insert(text(&s, &["spec", "clusterIP"]).to_owned()),
            "{s}"
        );
    }
    let mut s = service(json!({"type": "ClusterIP"}));
    let error = claim(&all, &mut s, None).err().expect("the range is full");
    assert!(error.message.contains("range is full"), "{}", error.message);
    let kind = crate::registry::find("", "v1", "services").expect("services");
    let gone = service(json!({"clusterIP": seen.iter().next().expect("one")}));
    all.release(kind, &gone);
    assert!(claim(&all, &mut s, None).is_ok());
}

#[test]
fn a_dropped_claim_gives_back() {
    let all = addresses("10.0.0.0/24");
    let mut s = service(json!({"type": "ClusterIP", "clusterIP": "10.0.0.9"}));
    drop(claim(&all, &mut s, None).expect("free"));
    claim(&all, &mut s, None).expect("free again").keep();
    let error = claim(&all, &mut s, None).err().expect("taken");
    assert!(
        error.message.contains("provided IP is already allocated"),
        "{}",
        error.message
    );
    for outside in ["10.0.1.1", "10.0.0.0", "10.0.0.255", "x"] {
        let mut s = service(json!({"clusterIP": outside}));
        assert_eq!(
            claim(&all, &mut s, None).err().map(|e| e.code),
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
    claim(&all, &mut a, None).expect("a port").keep();
    let number = a["spec"]["ports"][0]["nodePort"]
        .as_u64()
        .expect("a node port");
    assert!((30000..=30001).contains(&number));
    let mut plain = a.clone();
    plain["spec"]["type"] = "ClusterIP".into();
    claim(&all, &mut plain, Some(&a))
        .expect("no port needed")
        .keep();
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
    for _ in 0..2 {
        let mut s = service(json!({"type": "NodePort", "ports": port}));
        claim(&all, &mut s, None)
            .expect("both ports are free")
            .keep();
    }
    let mut s = service(json!({"type": "NodePort", "ports": port}));
    assert!(claim(&all, &mut s, None).is_err());
}

#[test]
fn a_port_keeps_its_node_port_by_its_name() {
    let mut config = Config::new("unused");
    config.node_ports = (30000, 32767);
    let all = Addresses::new(&config).expect("a usable range");
    let mut a = service(json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}));
    claim(&all, &mut a, None).expect("a port").keep();
    let number = a["spec"]["ports"][0]["nodePort"].clone();
    assert!(
        number.as_u64() >= Some(30085),
        "the lower part is for who chooses: {number}"
    );
    let mut other =
        service(json!({"type": "NodePort", "ports": [{"port": 8080, "protocol": "TCP"}]}));
    other["spec"]["clusterIP"] = a["spec"]["clusterIP"].clone();
    claim(&all, &mut other, Some(&a)).expect("kept").keep();
    assert_eq!(other["spec"]["ports"][0]["nodePort"], number);
    // but not while another of them names it
    let mut both = service(json!({"type": "NodePort", "ports": [
        {"name": "a", "port": 80, "protocol": "TCP", "nodePort": number}, {"port": 81, "protocol": "TCP"}]}));
    both["spec"]["clusterIP"] = a["spec"]["clusterIP"].clone();
    claim(&all, &mut both, Some(&other)).expect("two").keep();
    assert_eq!(both["spec"]["ports"][0]["nodePort"], number);
    assert_ne!(both["spec"]["ports"][1]["nodePort"], number);
}

#[test]
fn one_port_by_two_protocols_has_one_node_port() {
    let all = addresses("10.0.0.0/24");
    let both = json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 54, "protocol": "TCP"}]);
    let mut s = service(json!({"type": "NodePort", "ports": both}));
    claim(&all, &mut s, None).expect("ports").keep();
    let number = |n: usize| s["spec"]["ports"][n]["nodePort"].as_u64();
    assert_eq!(number(0), number(1));
    assert_ne!(number(1), number(2));
    // Kept when an update does not name it, also beside a new port of another service.
    let mut update = s.clone();
    for port in update["spec"]["ports"].as_array_mut().expect("ports") {
        port.as_object_mut().expect("a port").remove("nodePort");
    }
    claim(&all, &mut update, Some(&s)).expect("ports").keep();
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

#[test]
fn both_families_are_handed_out_and_come_back() {
    let mut config = Config::new("unused");
    config.service_cidr = "10.0.0.0/28".into();
    config.service_cidr6 = Some("fd00::/124".into());
    let all = Addresses::new(&config).expect("usable ranges");
    assert_eq!(all.first().to_string(), "10.0.0.1");
    let ips = |s: &Value| {
        let listed = object::items(s, &["spec", "clusterIPs"]).iter();
        listed
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let dual = |policy: &str, families: &[&str]| {
        service(
            json!({ "type": "ClusterIP", "selector": { "a": "b" }, "ipFamilyPolicy": policy, "ipFamilies": families }),
        )
    };
    let mut two = dual("PreferDualStack", &["IPv6", "IPv4"]);
    claim(&all, &mut two, None).expect("addresses").keep();
    let had = ips(&two);
    assert!(
        had[0].starts_with("fd00::") && had[1].starts_with("10.0.0."),
        "{had:?}"
    );
    assert_eq!(two["spec"]["clusterIP"], had[0].as_str());
    // The second one is released, and is free for others again.
    let mut one = two.clone();
    one["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    claim(&all, &mut one, Some(&two)).expect("given up").keep();
    assert_eq!(ips(&one), had[..1]);
    let mut other = service(json!({ "type": "ClusterIP", "clusterIP": had[1] }));
    claim(&all, &mut other, None).expect("it is free").keep();
    // Back to two: another second one.
    let mut again = one.clone();
    again["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
    claim(&all, &mut again, Some(&one)).expect("another").keep();
    assert!(
        ips(&again)[0] == had[0] && ips(&again)[1] != had[1],
        "{again}"
    );
    // Asked for by its maker: within the range of its family, and free.
    for (wanted, part) in [
        ("fd00::77", "The range of valid IPs is fd00::/124"),
        (had[0].as_str(), "provided IP is already allocated"),
    ] {
        let mut s = service(json!({ "type": "ClusterIP", "clusterIP": wanted }));
        let error = claim(&all, &mut s, None).err().expect("refused");
        assert!(error.message.contains(part), "{}", error.message);
    }
    let kind = crate::registry::find("", "v1", "services").expect("services");
    all.release(kind, &again);
    let mut s = service(json!({ "type": "ClusterIP", "clusterIP": had[0] }));
    claim(&all, &mut s, None).expect("free again").keep();
    // A loose end: nothing of a claim that fails stays taken.
    let mut full = Vec::new();
    loop {
        let mut s = dual("SingleStack", &["IPv4"]);
        match claim(&all, &mut s, None) {
            Ok(claim) => claim.keep(),
            Err(_) => break,
        }
        full.push(s);
    }
    let mut s = dual("PreferDualStack", &["IPv6"]);
    assert!(claim(&all, &mut s, None).is_err(), "IPv4 is full");
    all.release(kind, &full[0]);
    claim(&all, &mut dual("PreferDualStack", &["IPv6"]), None)
        .expect("both")
        .keep();
}

#[test]
fn ranges_of_the_other_family_are_refused() {
    for cidr in ["", "10.0.0.0/16", "fd00::/64", "fd00::/126", "fd00::"] {
        let mut config = Config::new("unused");
        config.service_cidr6 = Some(cidr.into());
        assert!(Addresses::new(&config).is_err(), "{cidr:?}");
    }
}
