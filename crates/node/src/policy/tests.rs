//! Upstream's scenarios (`test/e2e/network/netpol/network_policy.go`) on three namespaces x, y, z with pods a, b, c in each,
//! every one of which serves TCP and UDP on 80 (`serve-80-tcp`, `serve-80-udp`) and 81: who reaches whom?

mod fixture;

use fixture::{EVERYBODY, Matrix, allowed, ipv6, namespaces, pods, policy};
use serde_json::{Value, json};

use super::*;

#[test]
fn who_reaches_a_pod() {
    let pod = |name: &str| json!({ "matchLabels": { "pod": name } });
    let ns = |name: &str| json!({ "matchLabels": { "ns": name } });
    let expression = |key: &str, operator: &str, values: &[&str]| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
    let from = |peers: Value| json!({ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "from": peers }] });
    // what it is, the policy's spec, who reaches x/a on 80
    let table = [
        (
            "no policy selects it",
            json!({ "podSelector": pod("b") }),
            EVERYBODY,
        ),
        (
            "default deny, by default of the types",
            json!({ "podSelector": {} }),
            "",
        ),
        (
            "default deny",
            json!({ "podSelector": {}, "policyTypes": ["Ingress"] }),
            "",
        ),
        (
            "allow all",
            json!({ "podSelector": {}, "ingress": [{}] }),
            EVERYBODY,
        ),
        ("an empty from", from(json!([])), EVERYBODY),
        (
            "egress only leaves ingress open",
            json!({ "podSelector": {}, "policyTypes": ["Egress"] }),
            "y/a y/b y/c z/a z/b z/c outside",
        ),
        (
            "pods of the namespace",
            from(json!([{ "podSelector": {} }])),
            "x/b x/c",
        ),
        (
            "a pod of the namespace",
            from(json!([{ "podSelector": pod("b") }])),
            "x/b",
        ),
        (
            "all namespaces",
            from(json!([{ "namespaceSelector": {} }])),
            "x/b x/c y/a y/b y/c z/a z/b z/c",
        ),
        (
            "a namespace",
            from(json!([{ "namespaceSelector": ns("y") }])),
            "y/a y/b y/c",
        ),
        (
            "a namespace by its name",
            from(
                json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "z" } } }]),
            ),
            "z/a z/b z/c",
        ),
        (
            "namespaces by expression",
            from(json!([{ "namespaceSelector": expression("ns", "NotIn", &["x"]) }])),
            "y/a y/b y/c z/a z/b z/c",
        ),
        (
            "pods and namespaces together",
            from(json!([{ "namespaceSelector": ns("y"), "podSelector": pod("a") }])),
            "y/a",
        ),
        (
            "pods or namespaces",
            from(json!([{ "namespaceSelector": ns("y") }, { "podSelector": pod("b") }])),
            "x/b y/a y/b y/c",
        ),
        (
            "pods by expression in any namespace",
            from(
                json!([{ "namespaceSelector": {}, "podSelector": expression("pod", "In", &["b", "c"]) }]),
            ),
            "x/b x/c y/b y/c z/b z/c",
        ),
        (
            "a label that is there",
            from(json!([{ "podSelector": expression("pod", "Exists", &[]) }])),
            "x/b x/c",
        ),
        (
            "a label that is not there",
            from(
                json!([{ "namespaceSelector": {}, "podSelector": expression("pod", "DoesNotExist", &[]) }]),
            ),
            "",
        ),
        (
            "a label that nobody has",
            from(json!([{ "podSelector": { "matchLabels": { "no": "one" } } }])),
            "",
        ),
        (
            "a block",
            from(json!([{ "ipBlock": { "cidr": "203.0.113.0/24" } }])),
            "outside",
        ),
        (
            "a block with an exception",
            from(
                json!([{ "ipBlock": { "cidr": "10.64.0.0/24", "except": ["10.64.0.16/28", "10.64.0.32/29"] } }]),
            ),
            "x/b x/c",
        ),
        (
            "everything but a block",
            from(json!([{ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"] } }])),
            "outside",
        ),
        (
            "a block of the other family",
            from(json!([{ "ipBlock": { "cidr": "2001:db8::/32" } }])),
            "",
        ),
        (
            "a block or a pod",
            from(json!([{ "ipBlock": { "cidr": "10.64.0.21/32" } }, { "podSelector": pod("c") }])),
            "x/c y/a",
        ),
    ];
    for (what, spec, expected) in table {
        let matrix = Matrix::of(&[policy("p", spec)]);
        assert_eq!(matrix.reach("x/a", 80), expected, "{what}");
        assert!(matrix.tcp("y/b", "y/a", 80), "{what}: another namespace");
    }
}

#[test]
fn by_which_ports() {
    let a = json!({ "matchLabels": { "pod": "a" } });
    let ingress = |ports: Value| json!({ "podSelector": a, "ingress": [{ "ports": ports }] });
    // 80/TCP, 81/TCP, 80/UDP of x/a
    let table = [
        (
            "no ports",
            json!({ "podSelector": a, "ingress": [{}] }),
            [true, true, true],
        ),
        (
            "a number is TCP",
            ingress(json!([{ "port": 80 }])),
            [true, false, false],
        ),
        (
            "a protocol",
            ingress(json!([{ "port": 80, "protocol": "UDP" }])),
            [false, false, true],
        ),
        (
            "all of a protocol",
            ingress(json!([{ "protocol": "TCP" }])),
            [true, true, false],
        ),
        (
            "a range",
            ingress(json!([{ "port": 81, "endPort": 90 }])),
            [false, true, false],
        ),
        (
            "a name",
            ingress(json!([{ "port": "serve-80-tcp" }])),
            [true, false, false],
        ),
        (
            "a name of another protocol",
            ingress(json!([{ "port": "serve-80-udp" }])),
            [false, false, false],
        ),
        (
            "its name",
            ingress(json!([{ "port": "serve-80-udp", "protocol": "UDP" }])),
            [false, false, true],
        ),
        (
            "a name that it has not",
            ingress(json!([{ "port": "http" }])),
            [false, false, false],
        ),
        (
            "several",
            ingress(json!([{ "port": 81 }, { "port": "serve-80-udp", "protocol": "UDP" }])),
            [false, true, true],
        ),
        (
            "SCTP",
            ingress(json!([{ "port": 80, "protocol": "SCTP" }])),
            [false, false, false],
        ),
    ];
    for (what, spec, expected) in table {
        let m = Matrix::of(&[policy("p", spec)]);
        let got = [
            m.tcp("y/b", "x/a", 80),
            m.tcp("y/b", "x/a", 81),
            m.udp("y/b", "x/a", 80),
        ];
        assert_eq!(got, expected, "{what}");
    }
    // Peers and ports of one rule go together; rules and policies add up.
    let rules = json!({ "podSelector": a, "ingress": [
        { "from": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }], "ports": [{ "port": 80 }] },
        { "from": [{ "namespaceSelector": { "matchLabels": { "ns": "z" } } }], "ports": [{ "port": 81 }] } ] });
    let more = json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "pod": "c" } } }] }] });
    let m = Matrix::of(&[policy("p", rules), policy("q", more)]);
    assert_eq!(m.reach("x/a", 80), "x/c y/a y/b y/c");
    assert_eq!(m.reach("x/a", 81), "x/c z/a z/b z/c");
    assert_eq!(
        m.reach("x/b", 80),
        "x/c",
        "the second selects all of the namespace"
    );
}

#[test]
fn whom_a_pod_reaches() {
    let a = json!({ "matchLabels": { "pod": "a" } });
    let egress =
        |rules: Value| json!({ "podSelector": a, "policyTypes": ["Egress"], "egress": rules });
    let table = [
        ("deny", egress(json!([])), "", false),
        ("allow", egress(json!([{}])), EVERYBODY, true),
        (
            "a namespace, without DNS",
            egress(json!([{ "to": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }] }])),
            "y/a y/b y/c",
            false,
        ),
        (
            "all pods include DNS",
            egress(json!([{ "to": [{ "namespaceSelector": {} }] }])),
            "x/b x/c y/a y/b y/c z/a z/b z/c",
            true,
        ),
        (
            "DNS as everywhere",
            egress(
                json!([{ "to": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
            "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } } }], "ports": [{ "port": 53, "protocol": "UDP" }] }]),
            ),
            "",
            true,
        ),
        (
            "DNS by port",
            egress(json!([{ "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53 }] }])),
            "",
            true,
        ),
        (
            "DNS by the port's name",
            egress(
                json!([{ "to": [{ "namespaceSelector": {} }], "ports": [{ "port": "dns", "protocol": "UDP" }] }]),
            ),
            "",
            true,
        ),
        (
            "a block",
            egress(
                json!([{ "to": [{ "ipBlock": { "cidr": "203.0.113.0/24", "except": ["203.0.113.8/29"] } }] }]),
            ),
            "outside",
            false,
        ),
        (
            "an exception",
            egress(
                json!([{ "to": [{ "ipBlock": { "cidr": "203.0.113.0/24", "except": ["203.0.113.0/29"] } }] }]),
            ),
            "",
            false,
        ),
        (
            "a named port of some pods",
            egress(
                json!([{ "to": [{ "podSelector": {} }], "ports": [{ "port": "serve-80-tcp" }] }]),
            ),
            "x/b x/c",
            false,
        ),
        (
            "a named port of anybody",
            egress(json!([{ "ports": [{ "port": "serve-80-tcp" }] }])),
            "x/b x/c y/a y/b y/c z/a z/b z/c",
            false,
        ),
        (
            "a named port of a block",
            egress(
                json!([{ "to": [{ "ipBlock": { "cidr": "10.64.0.0/24" } }], "ports": [{ "port": "serve-80-tcp" }] }]),
            ),
            "",
            false,
        ),
    ];
    for (what, spec, expected, dns) in table {
        let m = Matrix::of(&[policy("p", spec)]);
        assert_eq!(m.reached("x/a", 80), expected, "{what}");
        assert_eq!(m.udp("x/a", "dns", 53), dns, "{what}: DNS");
        assert_eq!(
            m.reached("x/b", 80).split(' ').count(),
            9,
            "{what}: not selected"
        );
    }
    let named =
        egress(json!([{ "to": [{ "podSelector": {} }], "ports": [{ "port": "serve-80-tcp" }] }]));
    assert_eq!(Matrix::of(&[policy("p", named)]).reached("x/a", 81), "");
}

#[test]
fn both_sides_have_to_agree() {
    let out = json!({ "podSelector": { "matchLabels": { "pod": "a" } }, "policyTypes": ["Ingress", "Egress"],
        "egress": [{ "to": [{ "podSelector": { "matchLabels": { "pod": "b" } } }] }] });
    let m = Matrix::of(&[policy("out", out.clone())]);
    assert!(m.tcp("x/a", "x/b", 80) && !m.tcp("x/b", "x/a", 80) && !m.tcp("x/a", "x/c", 80));
    let close = json!({ "podSelector": { "matchLabels": { "pod": "b" } } });
    let m = Matrix::of(&[policy("out", out), policy("close", close)]);
    assert!(!m.tcp("x/a", "x/b", 80));
    assert!(m.tcp("x/a", "x/a", 80), "nothing keeps a pod from itself");
}

#[test]
fn an_egress_rule_implies_its_type() {
    let spec = json!({ "podSelector": {}, "egress": [{ "to": [{ "podSelector": {} }] }] });
    let m = Matrix::of(&[policy("p", spec)]);
    assert_eq!(
        (m.reach("x/a", 80).as_str(), m.tcp("x/a", "y/a", 80)),
        ("", false)
    );
}

#[test]
fn changes_of_labels_count() {
    let policies = [policy(
        "p",
        json!({ "podSelector": {}, "ingress": [{ "from": [{
        "namespaceSelector": { "matchLabels": { "team": "red" } }, "podSelector": { "matchLabels": { "role": "client" } } }] }] }),
    )];
    let (mut namespaces, mut pods) = (namespaces(), pods());
    let target = Matrix::address("x/a");
    let open = |namespaces: &BTreeMap<String, Labels>, pods: &[PodView]| {
        let rules = compile(&policies, namespaces, pods);
        allowed(&rules, Matrix::address("y/b"), target, Transport::Tcp, 80)
    };
    assert!(!open(&namespaces, &pods));
    let client = pods.iter_mut().find(|pod| pod.uid == "y/b").expect("y/b");
    client.labels.insert("role".into(), "client".into());
    assert!(!open(&namespaces, &pods));
    namespaces
        .get_mut("y")
        .expect("y")
        .insert("team".into(), "red".into());
    assert!(open(&namespaces, &pods));
    pods.retain(|pod| pod.uid != "y/b");
    assert!(
        !open(&namespaces, &pods),
        "its address may be another's soon"
    );
}

#[test]
fn both_families_are_under_the_same_policies_and_a_block_is_of_one() {
    let block =
        |cidr: &str, except: &[&str]| json!({ "ipBlock": { "cidr": cidr, "except": except } });
    let blocks = [
        block("fd00::/120", &["fd00::20/124"]),
        json!({ "podSelector": { "matchLabels": { "pod": "b" } } }),
    ];
    let spec = json!({ "podSelector": { "matchLabels": { "pod": "a" } }, "ingress": [{ "from": blocks }] });
    let rules = compile(&[policy("p", spec)], &namespaces(), &pods());
    assert_eq!(
        rules.len(),
        2,
        "the pod is listed with each of its addresses"
    );
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let may =
        |from: &str, to: &str| allowed(&rules, address(from), address(to), Transport::Tcp, 80);
    let (v4, v6) = ("10.64.0.11", ipv6(11).to_string());
    assert!(
        may("10.64.0.12", v4) && may(&ipv6(12).to_string(), &v6),
        "selected by its labels"
    );
    assert!(
        !may("10.64.0.13", v4),
        "a block of the other family is no peer"
    );
    assert!(may("fd00::d1", &v6) && !may("fd00::21", &v6) && !may("fd00:1::1", &v6));
    assert!(may("10.64.0.13", "10.64.0.12") && may("fd00:1::1", &ipv6(12).to_string()));
}
