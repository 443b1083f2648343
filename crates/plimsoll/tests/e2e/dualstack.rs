//! Both address families: pods, services, names, policies and published ports, by real clients.

use crate::support::{Run, Space, eventually, free_port, holds, lacks, pod};

/// Whether this machine has IPv6; without it everything is IPv4's.
fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
        .is_ok_and(|disabled| disabled.trim() == "0")
}

fn server(name: &str) -> String {
    let script =
        "mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
    pod(name, script)
}

fn get(space: &Space, url: &str) -> Result<String, String> {
    let ran = space
        .kubectl(&format!(
            "exec client -- timeout 5 wget -q -O - http://{url}/"
        ))
        .ran();
    if ran.code == 0 {
        Ok(ran.stdout)
    } else {
        Err(ran.to_string())
    }
}

pub fn a_service_of_both_families_is_reached_by_both() {
    if !has_ipv6() {
        eprintln!("this machine has no IPv6: nothing to see");
        return;
    }
    let space = Space::new("dualstack");
    space.apply(&server("web"));
    let told = "    env: [{name: ALL, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}]\n";
    space.apply(&(pod("client", "echo $ALL; sleep 1000") + told));
    space.apply(
        "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {ipFamilies: [IPv6], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
",
    );
    space.ready("pod/web");
    space.ready("pod/client");
    let ips = space.field("service/web", ".spec.clusterIPs[*]");
    let [v4, v6] = ips.split(' ').collect::<Vec<_>>()[..] else {
        panic!("two addresses: {ips}");
    };
    assert!(v6.starts_with("fd") && !v4.contains(':'), "{ips}");
    assert_eq!(
        space.field("service/web", ".spec.ipFamilies[*]"),
        "IPv4 IPv6"
    );
    let pods = space.field("pod/web", ".status.podIPs[*].ip");
    let [pod4, pod6] = pods.split(' ').collect::<Vec<_>>()[..] else {
        panic!("two addresses: {pods}");
    };
    assert_eq!(space.field("pod/web", ".status.podIP"), pod4);
    let own = space
        .field("pod/client", ".status.podIPs[*].ip")
        .replace(' ', ",");
    assert_eq!(space.kubectl("logs client").ok(), format!("{own}\n"));
    let file = space.kubectl("exec client -- cat /etc/hosts").ok();
    own.split(',')
        .for_each(|ip| holds(&file, &format!("{ip}\tclient")));

    // What kubectl shows.
    let shown = space.kubectl("get svc web -o wide --no-headers").ok();
    holds(&shown, v4);
    let described = space.kubectl("describe svc web").ok();
    for line in [
        "IP Family Policy:".to_owned(),
        "PreferDualStack".to_owned(),
        "IPv4,IPv6".to_owned(),
        format!("{v4},{v6}"),
    ] {
        holds(&described, &line);
    }
    space.until_says("describe svc web", &format!("[{pod6}]:8080"));
    let slices = "get endpointslices -l kubernetes.io/service-name=web --no-headers";
    let slices = space.kubectl(slices).ok();
    assert_eq!(slices.lines().count(), 2, "{slices}");
    for (family, ip) in [("IPv4", pod4), ("IPv6", pod6)] {
        let line = slices.lines().find(|line| line.contains(family));
        holds(line.expect("a slice of the family"), ip);
    }
    let nodes = space.field(
        "node",
        ".items[0].status.addresses[?(@.type==\"InternalIP\")].address",
    );
    assert_eq!(nodes.split(' ').count(), 2, "{nodes}");

    let ranges = space.field("node", ".items[0].spec.podCIDRs[*]");
    assert_eq!(ranges.split(' ').count(), 2, "{ranges}");
    assert!(
        ranges
            .split(' ')
            .nth(1)
            .is_some_and(|range| range.starts_with("fd")),
        "{ranges}"
    );

    // By every address and name, from a pod and from the machine.
    let node_port = space.field("service/web", ".spec.ports[0].nodePort");
    let six = space.field("service/six", ".spec.clusterIP");
    let gateways: Vec<&str> = nodes.split(' ').collect();
    for url in [
        v4.to_owned(),
        format!("[{v6}]"),
        format!("[{six}]"),
        format!("[{pod6}]:8080"),
        format!("{}:{node_port}", gateways[0]),
        format!("[{}]:{node_port}", gateways[1]),
    ] {
        assert_eq!(space.instance.fetch(&format!("http://{url}/")), "web\n");
        let asked = eventually(&format!("a pod gets {url}"), || get(&space, &url));
        assert_eq!(asked, "web\n", "{url}");
    }
    let name = "web.dualstack.svc.cluster.local";
    let asked = |name: &str| {
        let ran = space
            .kubectl(&format!("exec client -- nslookup {name}"))
            .ran();
        ran.both()
    };
    for (name, parts) in [
        (name, [v4, v6]),
        ("db.dualstack.svc.cluster.local", [pod4, pod6]),
        ("six.dualstack.svc.cluster.local", [&*six, &*six]),
    ] {
        let found = asked(name);
        parts.iter().for_each(|part| holds(&found, part));
    }
    holds(&asked(v6), name);

    // Down to one family and up again; the first address stays, the second is released.
    let patch = |policy: &str| {
        let patch = format!("'{{\"spec\":{{\"ipFamilyPolicy\":\"{policy}\"}}}}'");
        space.kubectl(&format!("patch svc web -p {patch}")).ok()
    };
    patch("SingleStack");
    assert_eq!(space.field("service/web", ".spec.clusterIPs[*]"), v4);
    eventually("nobody answers by IPv6 any more", || {
        match get(&space, &format!("[{v6}]")) {
            Ok(text) => Err(text),
            Err(_) => Ok(()),
        }
    });
    assert_eq!(get(&space, v4).as_deref(), Ok("web\n"));
    lacks(&asked(name), v6);
    patch("RequireDualStack");
    let again = space.field("service/web", ".spec.clusterIPs[*]");
    let (first, second) = again.split_once(' ').expect("two addresses");
    assert_eq!(first, v4);
    let url = format!("[{second}]");
    eventually("a pod gets it again", || get(&space, &url));

    // A policy is of both.
    space.apply("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\nspec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}\n");
    for url in [v4, &url, &format!("[{pod6}]:8080")] {
        eventually(&format!("{url} is closed"), || match get(&space, url) {
            Ok(text) => Err(text),
            Err(_) => Ok(()),
        });
    }
    // Its own machine always may.
    assert_eq!(
        space.instance.fetch(&format!("http://[{pod6}]:8080/")),
        "web\n"
    );
}

pub fn containers_have_both_families_and_publish_on_both() {
    if !has_ipv6() {
        eprintln!("this machine has no IPv6: nothing to see");
        return;
    }
    let space = Space::new("dualstack-docker");
    let instance = &space.instance;
    let (port, other) = (free_port(), free_port());
    let run = |name: &str, publish: &str| {
        instance
            .docker(&format!(
                "run -d --name {name} {publish} busybox:static sh -c 'hostname > /tmp/index.html; exec httpd -f -p 80 -h /tmp'"
            ))
            .ok()
    };
    run("both", &format!("-p {port}:80"));
    run("six", &format!("-p [::]:{other}:80"));
    let inspect = |field: &str| {
        let field = format!("{{{{.NetworkSettings.{field}}}}}");
        instance.docker(&format!("inspect -f {field} both")).ok()
    };
    let (address, gateway) = (inspect("GlobalIPv6Address"), inspect("IPv6Gateway"));
    let (address, gateway) = (address.trim(), gateway.trim());
    assert!(address.starts_with("fd"), "{address}");
    assert_eq!(inspect("GlobalIPv6PrefixLen").trim(), "64");
    let network = instance.docker("network inspect bridge").ok();
    holds(&network, "\"EnableIPv6\": true");
    holds(&network, gateway);
    holds(&instance.docker("exec both cat /etc/hosts").ok(), address);
    for host in [
        "127.0.0.1",
        "[::1]",
        &format!("[{gateway}]"),
        &instance.gateway,
    ] {
        instance.fetch(&format!("http://{host}:{port}/"));
    }
    instance.fetch(&format!("http://[{address}]:80/"));
    for host in ["[::1]", &format!("[{gateway}]")] {
        instance.fetch(&format!("http://{host}:{other}/"));
    }
    let refused = Run::new("curl", &format!("-sS -f -m 5 http://127.0.0.1:{other}/")).ran();
    assert_ne!(refused.code, 0, "published on IPv6 alone: {refused}");
    holds(&instance.docker("port six").ok(), &format!("[::]:{other}"));
    instance.docker("rm -f both six").ok();
}
