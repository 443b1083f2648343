//! NetworkPolicies: closed by default, opened by labels, in force before a pod's first packet, no obstacle to probes.

use crate::support::{Space, eventually, holds, lacks, pod};

const DENY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n";

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n{spec}"
    )
}

/// A pod that answers its name at /, and is ready when the node can ask it.
fn server(name: &str) -> String {
    let script =
        "mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
    format!(
        "{}    ports: [{{name: http, containerPort: 8080}}]\n    readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}\n",
        pod(name, script)
    )
}

fn get(space: &Space, from: &str, url: &str) -> Result<(), String> {
    let ran = space
        .kubectl(&format!(
            "exec {from} -- timeout 3 wget -q -O - http://{url}/"
        ))
        .ran();
    if ran.code == 0 {
        Ok(())
    } else {
        Err(ran.to_string())
    }
}

#[track_caller]
fn open(space: &Space, from: &str, url: &str) {
    eventually(&format!("{from} reaches {url}"), || get(space, from, url));
}

#[track_caller]
fn closed(space: &Space, from: &str, url: &str) {
    eventually(&format!("{from} does not reach {url}"), || {
        match get(space, from, url) {
            Ok(()) => Err("it does"),
            Err(_) => Ok(()),
        }
    });
}

pub fn what_is_denied_is_closed_and_what_is_permitted_open() {
    let space = Space::new("policies");
    let other = Space::new("policies-other");
    space.apply(&server("web"));
    for name in ["friend", "stranger"] {
        space.apply(&pod(name, "sleep 1000"));
    }
    other.apply(&pod("guest", "sleep 1000"));
    space
        .kubectl("expose pod web --type=NodePort --port=80 --target-port=8080")
        .ok();
    for name in ["web", "friend", "stranger"] {
        space.ready(&format!("pod/{name}"));
    }
    other.ready("pod/guest");
    open(&space, "friend", "web");
    open(&other, "guest", "web.policies");

    space.apply(&policy("web", "  podSelector: {matchLabels: {app: web}}\n  ingress:\n  - from: [{podSelector: {matchLabels: {app: friend}}}]\n    ports: [{port: http}]\n"));
    closed(&space, "stranger", "web");
    closed(&other, "guest", "web.policies");
    open(&space, "friend", "web");
    // The node and whoever comes through it: probes, and a person's curl.
    let port = space.field("service/web", ".spec.ports[0].nodePort");
    assert_eq!(
        space.instance.fetch(&format!("http://127.0.0.1:{port}/")),
        "web\n"
    );
    assert_eq!(
        space.field("pod/web", ".status.containerStatuses[0].ready"),
        "true"
    );
    let listed = space.kubectl("get netpol").ok();
    holds(&listed, "app=web");
    let described = space.kubectl("describe networkpolicy web").ok();
    holds(&described, "PodSelector: app=friend");

    // Labels of pods and namespaces open and close.
    space
        .kubectl("label pod stranger app=friend --overwrite")
        .ok();
    open(&space, "stranger", "web");
    space
        .kubectl("label pod stranger app=stranger --overwrite")
        .ok();
    closed(&space, "stranger", "web");
    space.apply(&policy("guests", "  podSelector: {}\n  ingress:\n  - from: [{namespaceSelector: {matchLabels: {guests: welcome}}}]\n"));
    closed(&other, "guest", "web.policies");
    space
        .kubectl("label namespace policies-other guests=welcome")
        .ok();
    open(&other, "guest", "web.policies");
    space.kubectl("delete netpol --all").ok();
    open(&space, "stranger", "web");
}

pub fn a_pod_is_protected_before_its_first_packet_and_asks_dns_only_when_permitted() {
    let space = Space::new("protected");
    space.apply(&server("web"));
    space.ready("pod/web");
    let ip = space.field("pod/web", ".status.podIP");
    space.apply(&DENY.replace(
        "podSelector: {}",
        "podSelector: {matchLabels: {closed: 'yes'}}",
    ));
    // It tries as fast as it can from its first instruction on, and goes on for a while.
    let script = format!(
        "for i in 1 2 3 4 5 6; do timeout 1 wget -q -O - http://{ip}:8080/ && echo REACHED; done; echo done; sleep 1000"
    );
    for name in ["one", "two", "three"] {
        let hasty = pod(name, &script).replace(
            &format!("{{app: {name}}}"),
            &format!("{{app: {name}, closed: 'yes'}}"),
        );
        space.apply(&hasty);
    }
    for name in ["one", "two", "three"] {
        let log = space.until_says(&format!("logs {name}"), "done");
        lacks(&log, "REACHED");
    }
    // An egress rule for the service's pods does not open DNS; the usual rule for CoreDNS does.
    let lookup = |name: &str| {
        let ran = space
            .kubectl(&format!(
                "exec {name} -- timeout 3 nslookup -type=a web.protected.svc.cluster.local"
            ))
            .ran();
        if ran.code == 0 {
            Ok(())
        } else {
            Err(ran.to_string())
        }
    };
    space
        .kubectl("expose pod web --port=80 --target-port=8080")
        .ok();
    assert!(lookup("one").is_err());
    space.apply(&policy("to-web", "  podSelector: {matchLabels: {closed: 'yes'}}\n  policyTypes: [Egress]\n  egress:\n  - to: [{podSelector: {matchLabels: {app: web}}}]\n"));
    open(&space, "one", &format!("{ip}:8080"));
    assert!(lookup("one").is_err());
    space.apply(&policy("dns", "  podSelector: {matchLabels: {app: one}}\n  policyTypes: [Egress]\n  egress:\n  - to:\n    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}\n      podSelector: {matchLabels: {k8s-app: kube-dns}}\n    ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]\n"));
    eventually("one resolves", || lookup("one"));
    open(&space, "one", "web");
    assert!(lookup("two").is_err());
}
