//! Tests of what services and their slices come to.

use super::*;
use serde_json::json;

#[test]
fn services_meet_their_endpoints() {
    let service = |name: &str, ip: &str| -> Service {
        serde_json::from_value(json!({ "metadata": { "namespace": "shop", "name": name },
            "spec": { "clusterIP": ip, "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] } }))
        .expect("service")
    };
    let slice: EndpointSlice = serde_json::from_value(json!({ "addressType": "IPv4",
        "metadata": { "namespace": "shop", "name": "web-x", "labels": { "kubernetes.io/service-name": "web" } },
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": [
            { "addresses": ["10.1.0.3"], "conditions": { "ready": true } },
            { "addresses": ["10.1.0.2"], "conditions": { "ready": true }, "hostname": "web-0" },
            { "addresses": ["10.1.0.4"], "conditions": { "ready": false } },
            { "addresses": ["10.1.0.5"], "conditions": { "ready": false, "serving": true, "terminating": true } } ] }))
    .expect("slice");
    let got = desired(
        [
            service("web", "10.9.0.1"),
            service("alone", "None"),
            service("pending", ""),
        ]
        .iter(),
        [slice].iter(),
        "here",
    );
    assert_eq!(
        got.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
        ["alone", "web"]
    );
    assert!(got[0].cluster_ips.is_empty());
    let endpoints: Vec<String> = got[1].ports[0]
        .endpoints
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        endpoints,
        ["10.1.0.2:8080", "10.1.0.3:8080"],
        "unready and terminating ones are not used"
    );
    assert_eq!(got[1].hosts[0].hostname.as_deref(), Some("web-0"));
}

fn one(spec: serde_json::Value, slices: serde_json::Value) -> network::Service {
    let service: Service = serde_json::from_value(json!({
        "metadata": { "namespace": "n", "name": "s" }, "spec": spec,
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.9" }, { "ip": "192.0.2.8", "ipMode": "Proxy" }] } } }))
    .expect("service");
    let slices: Vec<EndpointSlice> = slices
        .as_array()
        .expect("slices")
        .iter()
        .map(|slice| {
            let mut slice = slice.clone();
            if slice["addressType"].is_null() {
                slice["addressType"] = "IPv4".into();
            }
            slice["metadata"] = json!({ "namespace": "n", "name": "x", "labels": { "kubernetes.io/service-name": "s" } });
            serde_json::from_value(slice).expect("slice")
        })
        .collect();
    desired([service].iter(), slices.iter(), "here").remove(0)
}

fn shown(endpoints: &[SocketAddr]) -> String {
    let all: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    all.join(" ")
}

#[test]
fn endpoints_of_this_node_are_told_apart() {
    let service = one(
        json!({ "clusterIP": "10.9.0.1", "ports": [{ "port": 80 }], "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local" }),
        json!([{ "ports": [{ "name": "", "port": 8080 }], "endpoints": [
            { "addresses": ["10.1.0.2"], "nodeName": "here" },
            { "addresses": ["10.1.0.3"], "nodeName": "there" },
            { "addresses": ["192.0.2.7"] } ] }]),
    );
    assert!(service.internal_local && service.external_local);
    let port = &service.ports[0];
    assert_eq!(
        shown(&port.endpoints),
        "10.1.0.2:8080 10.1.0.3:8080 192.0.2.7:8080"
    );
    assert_eq!(shown(&port.local_endpoints), "10.1.0.2:8080");
}

#[test]
fn ports_are_found_by_name_and_protocol() {
    let service = one(
        json!({ "clusterIP": "10.9.0.1", "ports": [
            { "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
            { "name": "other", "port": 54, "protocol": "SCTP" } ] }),
        json!([
            { "ports": [{ "name": "dns", "port": 1053, "protocol": "UDP" }, { "name": "dns-tcp", "port": 2053, "protocol": "TCP" }],
              "endpoints": [{ "addresses": ["10.1.0.2"] }] },
            { "ports": [{ "name": "dns", "port": 3053, "protocol": "UDP" }], "endpoints": [{ "addresses": ["10.1.0.3"] }] }]),
    );
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|p| format!("{}/{} {}", p.port, p.protocol, shown(&p.endpoints)))
        .collect();
    assert_eq!(
        ports,
        ["53/udp 10.1.0.2:1053 10.1.0.3:3053", "53/tcp 10.1.0.2:2053"]
    );
}

#[test]
fn each_family_has_its_slices() {
    let slices = json!([
        { "addressType": "IPv4", "ports": [{ "name": "", "port": 80 }], "endpoints": [
            { "addresses": ["10.1.0.2"], "conditions": { "ready": false, "serving": true, "terminating": true } } ] },
        { "addressType": "IPv6", "ports": [{ "name": "", "port": 80 }], "endpoints": [{ "addresses": ["fd00::2"] }] },
        { "addressType": "FQDN", "ports": [{ "name": "", "port": 80 }], "endpoints": [{ "addresses": ["192.0.2.1"] }] } ]);
    for (ips, families, addresses, expected) in [
        // Of each family those that are there, also when only one of them has none that is ready.
        (
            json!(["10.9.0.1", "fd01::1"]),
            json!(["IPv4", "IPv6"]),
            2,
            "10.1.0.2:80 [fd00::2]:80",
        ),
        (json!(["fd01::1"]), json!(["IPv6"]), 1, "[fd00::2]:80"),
        (json!(["10.9.0.1"]), json!(["IPv4"]), 1, "10.1.0.2:80"),
        (json!(["None"]), json!(["IPv6"]), 0, "[fd00::2]:80"),
    ] {
        let service = one(
            json!({ "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families, "ports": [{ "port": 80 }] }),
            slices.clone(),
        );
        assert_eq!(service.cluster_ips.len(), addresses, "{ips}");
        assert_eq!(shown(&service.ports[0].endpoints), expected, "{ips}");
    }
}

#[test]
fn settings_of_a_service() {
    let service = one(
        json!({ "clusterIP": "10.9.0.1", "type": "LoadBalancer", "sessionAffinity": "ClientIP",
            "externalIPs": ["203.0.113.1", "2001:db8::1"], "loadBalancerSourceRanges": ["198.51.100.0/24"] }),
        json!([]),
    );
    assert_eq!(service.affinity_seconds, Some(10_800));
    assert_eq!(service.external_ips.len(), 2);
    assert_eq!(service.balancer_ips, [IpAddr::from([192, 0, 2, 9])]);
    assert_eq!(service.source_ranges.len(), 1);
    let service = one(
        json!({ "clusterIP": "10.9.0.1", "type": "NodePort", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 7 } } }),
        json!([]),
    );
    assert_eq!(service.affinity_seconds, Some(7));
    assert!(
        service.balancer_ips.is_empty(),
        "what is left of another type"
    );
}

#[test]
fn unready_addresses_are_published_on_request() {
    for (publish, expected) in [(false, ""), (true, "10.1.0.2")] {
        let service = one(
            json!({ "clusterIP": "None", "publishNotReadyAddresses": publish, "ports": [{ "port": 80 }] }),
            json!([{ "ports": [{ "name": "", "port": 80 }], "endpoints": [
                { "addresses": ["10.1.0.2"], "conditions": { "ready": false }, "hostname": "db-0" } ] }]),
        );
        let hosts: Vec<String> = service
            .hosts
            .iter()
            .map(|h| h.address.to_string())
            .collect();
        assert_eq!(hosts.join(" "), expected);
    }
}

#[test]
fn an_ending_endpoint_serves_unless_it_says_no() {
    for (serving, expected) in [
        (json!(null), "10.1.0.2:80"),
        (json!(true), "10.1.0.2:80"),
        (json!(false), ""),
    ] {
        let service = one(
            json!({ "clusterIP": "10.9.0.1", "ports": [{ "port": 80 }] }),
            json!([{ "ports": [{ "name": "", "port": 80 }], "endpoints": [{ "addresses": ["10.1.0.2"],
                "conditions": { "ready": false, "serving": serving, "terminating": true } }] }]),
        );
        assert_eq!(shown(&service.ports[0].endpoints), expected, "{serving}");
    }
}
