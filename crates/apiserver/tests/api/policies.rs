//! NetworkPolicies: defaults, refusals in upstream's words, and the columns that kubectl shows.

use serde_json::{Value, json};

use crate::server::{SERVICES, Server, service};

const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";

fn policy(spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"}, "spec": spec})
}

#[tokio::test]
async fn types_and_protocols_have_defaults() {
    let server = Server::new().await;
    let mut made = policy(json!({"podSelector": {}}));
    let answer = server.post(POLICIES, &made).await.expect(201);
    assert_eq!(answer["spec"]["policyTypes"], json!(["Ingress"]));
    assert_eq!(answer["metadata"]["generation"], 1);
    made["metadata"]["name"] = "q".into();
    made["spec"]["egress"] = json!([{"ports": [{"port": 53}]}]);
    let answer = server.post(POLICIES, &made).await.expect(201);
    assert_eq!(answer["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    let port = &answer["spec"]["egress"][0]["ports"][0];
    assert_eq!(port["protocol"], "TCP");
    let change = json!({"spec": {"policyTypes": ["Egress"]}});
    let answer = server
        .patch(&format!("{POLICIES}/q"), "merge", &change)
        .await
        .expect(200);
    assert_eq!(answer["metadata"]["generation"], 2);
}

#[tokio::test]
async fn mistakes_are_told_in_upstreams_words() {
    let server = Server::new().await;
    let ingress = |rule: Value| json!({"podSelector": {}, "ingress": [rule]});
    let from = |peer: Value| ingress(json!({"from": [peer]}));
    let ports = |port: Value| ingress(json!({"ports": [port]}));
    let block =
        |cidr: &str, except: &[&str]| from(json!({"ipBlock": {"cidr": cidr, "except": except}}));
    let cases = [
        (
            from(json!({})),
            "spec.ingress[0].from[0]: Required value: must specify a peer",
        ),
        (
            from(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
            "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
        ),
        (
            block("", &[]),
            "spec.ingress[0].from[0].ipBlock.cidr: Required value",
        ),
        (
            block("10.0.0.0", &[]),
            "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
        (
            block("10.0.0.0/8", &["192.168.0.0/16"]),
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"192.168.0.0/16\": must be a strict subset of `cidr`",
        ),
        (
            block("10.0.0.0/8", &["10.0.0.0/8"]),
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
        ),
        (
            ports(json!({"port": 0})),
            "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            ports(json!({"port": 80, "endPort": 79})),
            "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
        ),
        (
            ports(json!({"port": "http", "endPort": 90})),
            "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric",
        ),
        (
            ports(json!({"endPort": 90})),
            "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is not specified",
        ),
        (
            ports(json!({"port": 80, "protocol": "ICMP"})),
            "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            json!({"podSelector": {"matchLabels": {"a": "b c"}}}),
            "spec.podSelector.matchLabels: Invalid value: \"b c\": a valid label must be",
        ),
        (
            json!({"podSelector": {}, "policyTypes": ["Sideways"]}),
            "spec.policyTypes[0]: Unsupported value: \"Sideways\": supported values: \"Egress\", \"Ingress\"",
        ),
        (
            json!({"podSelector": {}, "egress": [{"to": [{}]}]}),
            "spec.egress[0].to[0]: Required value: must specify a peer",
        ),
    ];
    for (spec, expected) in cases {
        let message = server.post(POLICIES, &policy(spec)).await.refusal(422);
        let expected = format!("NetworkPolicy.networking.k8s.io \"p\" is invalid: {expected}");
        assert!(
            message.starts_with(&expected),
            "expected {expected}\n     got {message}"
        );
    }
}

#[tokio::test]
async fn what_kubectl_shows() {
    let server = Server::new().await;
    for (name, selector) in [
        ("all", json!({})),
        (
            "some",
            json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}]}),
        ),
    ] {
        let mut made = policy(json!({"podSelector": selector}));
        made["metadata"]["name"] = name.into();
        server.post(POLICIES, &made).await.expect(201);
    }
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = server.ask("GET", POLICIES, &accept, "").await.expect(200);
    let cells = |n: usize| table["rows"][n]["cells"].as_array().expect("cells")[..2].to_vec();
    assert_eq!(cells(0), ["all", "<none>"]);
    assert_eq!(cells(1), ["some", "app=web,tier in (a,b)"]);
}

#[tokio::test]
async fn ways_into_services_are_checked() {
    let server = Server::new().await;
    let made = |spec: Value| {
        let mut made = service("s");
        for (key, value) in spec.as_object().expect("an object") {
            made["spec"][key] = value.clone();
        }
        made
    };
    let sctp = json!({"ports": [{"port": 80, "protocol": "SCTP"}]});
    let twice = json!({"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30001}]});
    let cases = [
        (
            sctp,
            "spec.ports[0].protocol: Invalid value: \"SCTP\": services forward TCP and UDP here, not SCTP",
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30001}]}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (twice, "spec.ports[1].nodePort: Duplicate value: 30001"),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
        (
            json!({"externalIPs": ["127.0.0.1"]}),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            json!({"externalIPs": ["0.0.0.0"]}),
            "spec.externalIPs[0]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0 or ::)",
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            "spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0"]}),
            "spec.loadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
    ];
    for (spec, expected) in cases {
        let message = server.post(SERVICES, &made(spec)).await.refusal(422);
        let expected = format!("Service \"s\" is invalid: {expected}");
        assert!(
            message.starts_with(&expected),
            "expected {expected}\n     got {message}"
        );
    }
    // Another type gives the port back; another service can have it then, and nobody before.
    let node_port = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]});
    server
        .post(SERVICES, &made(node_port.clone()))
        .await
        .expect(201);
    let mut other = made(node_port);
    other["metadata"]["name"] = "t".into();
    let message = server.post(SERVICES, &other).await.refusal(422);
    assert_eq!(
        message,
        "Service \"t\" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"
    );
    let plain = server
        .patch(
            &format!("{SERVICES}/s"),
            "merge",
            &json!({"spec": {"type": "ClusterIP"}}),
        )
        .await
        .expect(200);
    assert!(plain["spec"]["ports"][0]["nodePort"].is_null(), "{plain}");
    server.post(SERVICES, &other).await.expect(201);
    server
        .ask("DELETE", &format!("{SERVICES}/t"), &[], "")
        .await
        .expect(200);
    server.post(SERVICES, &other).await.expect(201);
}

#[tokio::test]
async fn endpoints_lead_nowhere_special() {
    let server = Server::new().await;
    let slice = |address: &str| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "e"},
        "addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [{"port": 22}]})
    };
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    for (address, why) in [
        ("127.0.0.1", "may not be in the loopback range"),
        ("169.254.169.254", "may not be in the link-local range"),
        ("224.0.0.1", "may not be in the link-local multicast range"),
        ("0.0.0.0", "may not be unspecified"),
    ] {
        let message = server.post(path, &slice(address)).await.refusal(422);
        assert!(message.contains(why), "{message}");
    }
    server.post(path, &slice("192.0.2.1")).await.expect(201);
}
