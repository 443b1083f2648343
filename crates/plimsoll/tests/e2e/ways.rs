//! The ways into a service: node ports, the load balancer's address, affinity, endpoints made by hand.

use std::collections::BTreeSet;
use std::net::TcpListener;

use crate::support::{Run, Space, eventually, free_port, holds, pod};

/// A pod that answers its name at /.
fn named(name: &str, app: &str) -> String {
    let script =
        "mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
    pod(name, script).replace(&format!("app: {name}"), &format!("app: {app}"))
}

/// Whether nobody answers at a URL of this machine.
fn silent(url: &str) -> Result<(), String> {
    let ran = Run::new("curl", &format!("-sS -f -m 2 {url}")).ran();
    if ran.code == 0 {
        Err(ran.to_string())
    } else {
        Ok(())
    }
}

pub fn a_node_port_is_reached_by_every_address_and_belongs_to_one_service() {
    let space = Space::new("node-ports");
    space.apply(&named("web", "web"));
    space
        .kubectl("expose pod web --type=NodePort --port=80 --target-port=8080")
        .ok();
    space.ready("pod/web");
    let port = space.field("service/web", ".spec.ports[0].nodePort");
    let number: u16 = port.parse().expect("a port");
    assert!((30000..=32767).contains(&number));
    let own = machine_address();
    for address in ["127.0.0.1", space.instance.gateway.as_str(), own.as_str()] {
        assert_eq!(
            space.instance.fetch(&format!("http://{address}:{port}/")),
            "web\n"
        );
    }
    let other = |port: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: other}}\nspec:\n  type: NodePort\n  selector: {{app: web}}\n  ports: [{{port: 80, targetPort: 8080, nodePort: {port}}}]\n"
        )
    };
    let refused = space.kubectl("apply -f -").stdin(other(&port)).fails(1);
    holds(&refused, "provided port is already allocated");
    let refused = space.kubectl("apply -f -").stdin(other("8080")).fails(1);
    holds(&refused, "The range of valid ports is 30000-32767");
    // Kept when something else changes; given back with the type.
    space.kubectl("annotate service web note=x").ok();
    space
        .kubectl("patch service web -p '{\"spec\":{\"selector\":{\"app\":\"web\"}}}'")
        .ok();
    assert_eq!(space.field("service/web", ".spec.ports[0].nodePort"), port);
    space
        .kubectl("patch service web --type=merge -p '{\"spec\":{\"type\":\"ClusterIP\"}}'")
        .ok();
    assert_eq!(space.field("service/web", ".spec.ports[0].nodePort"), "");
    eventually("the port is closed", || {
        silent(&format!("http://127.0.0.1:{port}/"))
    });
    space.apply(&other(&port));
    assert_eq!(
        space.instance.fetch(&format!("http://127.0.0.1:{port}/")),
        "web\n"
    );
}

/// The address from which this machine speaks to others.
fn machine_address() -> String {
    let text = Run::new("ip", "-4 route get 203.0.113.1").ok();
    let mut words = text.split_whitespace().skip_while(|word| *word != "src");
    words.nth(1).expect("a source address").to_owned()
}

pub fn a_load_balancer_has_the_machines_address_and_tells_who_holds_a_port() {
    let space = Space::new("balancer");
    space.apply(&named("web", "web"));
    space.apply(&named("other", "other"));
    space.ready("pod/web");
    space.ready("pod/other");
    let (address, port) = (machine_address(), free_port());
    let expose = |pod: &str, port: u16| {
        space
            .kubectl(&format!(
                "expose pod {pod} --type=LoadBalancer --port={port} --target-port=8080"
            ))
            .ok()
    };
    let ingress = ".status.loadBalancer.ingress[0].ip";
    expose("web", port);
    space.until("service/web", ingress, &address);
    let shown = space.kubectl("get service web --no-headers").ok();
    holds(
        &shown,
        &format!(
            "LoadBalancer   {}",
            space.field("service/web", ".spec.clusterIP")
        ),
    );
    holds(&shown, &address);
    let url = format!("http://{address}:{port}/");
    assert_eq!(space.instance.fetch(&url), "web\n");
    space.until_says("describe service web", "EnsuredLoadBalancer");

    // Another service, then another program, holds the port.
    expose("other", port);
    let told = space.until_says("describe service other", "SyncLoadBalancerFailed");
    holds(
        &told,
        &format!("port {port}/TCP of {address} is held by the service balancer/web"),
    );
    space.until("service/other", ".status.conditions[0].reason", "PortInUse");
    holds(&space.kubectl("get service other").ok(), "<pending>");
    assert_eq!(space.instance.fetch(&url), "web\n");
    space.kubectl("delete service web").ok();
    space.until("service/other", ingress, &address);
    space.until("service/other", ".status.conditions", "");
    assert_eq!(space.instance.fetch(&url), "other\n");

    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let held = listener.local_addr().expect("an address").port();
    expose("web", held);
    let told = space.until_says("describe service web", "SyncLoadBalancerFailed");
    holds(
        &told,
        &format!("port {held}/TCP of {address} is held by a program of this machine"),
    );
    drop(listener);
    space.until("service/web", ingress, &address);
    assert_eq!(
        space.instance.fetch(&format!("http://{address}:{held}/")),
        "web\n"
    );

    space
        .kubectl("patch service other --type=merge -p '{\"spec\":{\"type\":\"ClusterIP\"}}'")
        .ok();
    space.until("service/other", ".status.loadBalancer", "{}");
    space.kubectl("delete service web").ok();
    for url in [url, format!("http://{address}:{held}/")] {
        eventually("nobody answers any more", || silent(&url));
    }
}

pub fn a_client_stays_with_one_pod() {
    let space = Space::new("affinity");
    for name in ["web-0", "web-1", "web-2"] {
        space.apply(&named(name, "web"));
    }
    space.apply(&pod("client", "sleep 1000"));
    space
        .kubectl("create service clusterip web --tcp=80:8080")
        .ok();
    for name in ["web-0", "web-1", "web-2", "client"] {
        space.ready(&format!("pod/{name}"));
    }
    eventually("all three are endpoints", || {
        let ends = space.field(
            "endpointslices -l kubernetes.io/service-name=web",
            ".items[*].endpoints[*].addresses[0]",
        );
        if ends.split(' ').count() == 3 {
            Ok(())
        } else {
            Err(ends)
        }
    });
    let answers = |count: u32| -> BTreeSet<String> {
        let script =
            format!("for i in $(seq {count}); do timeout 5 wget -q -O - http://web/ || true; done");
        let text = space
            .kubectl(&format!("exec client -- sh -c '{script}'"))
            .ok();
        text.lines().map(str::to_owned).collect()
    };
    eventually("all three answer", || {
        let all = answers(30);
        if all.len() == 3 {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    });
    space.kubectl("patch service web -p '{\"spec\":{\"sessionAffinity\":\"ClientIP\",\"sessionAffinityConfig\":{\"clientIP\":{\"timeoutSeconds\":600}}}}'").ok();
    let one = eventually("one of them keeps the client", || {
        let some = answers(20);
        if some.len() == 1 {
            Ok(some)
        } else {
            Err(format!("{some:?}"))
        }
    });
    // A fourth pod changes nothing; when its own goes, another takes over for good.
    space.apply(&named("web-3", "web"));
    space.ready("pod/web-3");
    assert_eq!(answers(20), one);
    space
        .kubectl(&format!("delete pod {} --now", one.first().expect("one")))
        .ok();
    let next = eventually("another one", || {
        let some = answers(20);
        if some.len() == 1 && some != one {
            Ok(some)
        } else {
            Err(format!("{some:?}"))
        }
    });
    assert_eq!(answers(20), next);
    let described = space.kubectl("describe service web").ok();
    holds(&described, "ClientIP");
}

pub fn endpoints_made_by_hand_and_what_is_not_forwarded() {
    let space = Space::new("by-hand");
    space.apply(&named("web", "web"));
    space.apply(&pod("client", "sleep 1000"));
    space.ready("pod/web");
    space.ready("pod/client");
    let ip = space.field("pod/web", ".status.podIP");
    // Two protocols on one port, ports by name, no selector.
    space.apply("apiVersion: v1\nkind: Service\nmetadata: {name: manual}\nspec:\n  ports:\n  - {name: http, port: 80, protocol: TCP}\n  - {name: dns, port: 80, protocol: UDP}\n");
    let address = space.field("service/manual", ".spec.clusterIP");
    let slice = |ip: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: manual-1\n  labels: {{kubernetes.io/service-name: manual}}\naddressType: IPv4\nports:\n- {{name: http, port: 8080, protocol: TCP}}\nendpoints:\n- addresses: [{ip}]\n"
        )
    };
    space.apply(&slice(&ip));
    assert_eq!(space.instance.fetch(&format!("http://{address}/")), "web\n");
    let refused = space
        .kubectl("apply -f -")
        .stdin(slice("127.0.0.1"))
        .fails(1);
    holds(
        &refused,
        "may not be in the loopback range (127.0.0.0/8, ::1/128)",
    );
    space.kubectl("delete endpointslice manual-1").ok();
    eventually("it is closed", || silent(&format!("http://{address}/")));
    let sctp = "apiVersion: v1\nkind: Service\nmetadata: {name: sctp}\nspec: {ports: [{port: 80, protocol: SCTP}]}\n";
    let refused = space.kubectl("apply -f -").stdin(sctp).fails(1);
    holds(&refused, "services forward TCP and UDP here, not SCTP");
}
