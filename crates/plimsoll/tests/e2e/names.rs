//! Names in pods: resolv.conf and hosts by the pod's own settings, names of headless services, aliases.

use crate::support::{Space, eventually, holds, lacks, pod};

/// The pod, with more fields of its spec.
fn with(name: &str, spec: &str) -> String {
    pod(name, "sleep 1000").replace("spec:\n", &format!("spec:\n{spec}"))
}

pub fn a_pods_own_settings_of_names() {
    let space = Space::new("pod-names");
    space.apply(&with("plain", ""));
    space.apply(&with("none", "  dnsPolicy: None\n  dnsConfig:\n    nameservers: [192.0.2.53]\n    searches: [a.example, b.example]\n    options: [{name: ndots, value: '2'}, {name: edns0}]\n"));
    space.apply(&with("more", "  dnsConfig:\n    nameservers: [192.0.2.53]\n    searches: [a.example]\n    options: [{name: ndots, value: '1'}]\n  hostAliases:\n  - {ip: 127.0.0.9, hostnames: [db.example, db]}\n"));
    space.apply(&with("default", "  dnsPolicy: Default\n"));
    for name in ["plain", "none", "more", "default"] {
        space.ready(&format!("pod/{name}"));
    }
    let file = |pod: &str, path: &str| space.kubectl(&format!("exec {pod} -- cat {path}")).ok();
    let (resolv, gateway) = ("/etc/resolv.conf", &space.instance.gateway);
    let plain = file("plain", resolv);
    holds(
        &plain,
        "search pod-names.svc.cluster.local svc.cluster.local cluster.local",
    );
    holds(&plain, &format!("nameserver {gateway}\n"));
    holds(&plain, "options ndots:5\n");
    assert_eq!(
        file("none", resolv),
        "search a.example b.example\nnameserver 192.0.2.53\noptions ndots:2 edns0\n"
    );
    let more = file("more", resolv);
    holds(&more, "cluster.local a.example\n");
    holds(
        &more,
        &format!("nameserver {gateway}\nnameserver 192.0.2.53\noptions ndots:1\n"),
    );
    lacks(&file("default", resolv), "cluster.local");
    let hosts = file("more", "/etc/hosts");
    holds(
        &hosts,
        "# Entries added by HostAliases.\n127.0.0.9\tdb.example\tdb\n",
    );
    holds(&hosts, "127.0.0.1\tlocalhost");
    let resolved = space
        .kubectl("exec more -- ping -c 1 -W 1 db.example")
        .ran();
    holds(&resolved.both(), "PING db.example (127.0.0.9)");
}

pub fn names_of_headless_services_and_aliases() {
    let space = Space::new("headless-names");
    let script =
        "mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
    let member = |name: &str| {
        pod(name, script)
            .replace(&format!("app: {name}"), "app: db")
            .replace(
                "spec:\n",
                &format!("spec:\n  hostname: {name}\n  subdomain: db\n"),
            )
    };
    space.apply(&member("db-0"));
    // Never ready: its probe fails.
    space.apply(&format!(
        "{}    readinessProbe: {{exec: {{command: ['false']}}}}\n",
        member("db-1")
    ));
    space.apply(&pod("client", "sleep 1000"));
    let service = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  {more}\n  selector: {{app: db}}\n  ports: [{{name: http, port: 8080}}]\n"
        )
    };
    space.apply(&service(
        "db",
        "clusterIP: None\n  publishNotReadyAddresses: true",
    ));
    space.apply(&service("ready", "clusterIP: None"));
    space.apply(&service("web", "type: ClusterIP"));
    space.kubectl("create service externalname alias --external-name=web.headless-names.svc.cluster.local").ok();
    for name in ["db-0", "client"] {
        space.ready(&format!("pod/{name}"));
    }
    let lookup = |arguments: &str| {
        let ran = space
            .kubectl(&format!("exec client -- nslookup {arguments}"))
            .ran();
        if ran.code == 0 {
            Ok(ran.stdout)
        } else {
            Err(ran)
        }
    };
    let domain = "headless-names.svc.cluster.local";
    let ip = |name: &str| {
        eventually("an address", || {
            let ip = space.field(&format!("pod/{name}"), ".status.podIP");
            if ip.is_empty() {
                Err("none yet")
            } else {
                Ok(ip)
            }
        })
    };
    let (first, second) = (ip("db-0"), ip("db-1"));
    for (name, expected, without) in [
        (format!("db.{domain}"), vec![&first, &second], None),
        (format!("ready.{domain}"), vec![&first], Some(&second)),
        (format!("db-0.db.{domain}"), vec![&first], Some(&second)),
        (format!("db-1.db.{domain}"), vec![&second], None),
    ] {
        eventually(&name, || {
            let text = lookup(&format!("-type=a {name}")).map_err(|ran| ran.to_string())?;
            let answered = |ip: &String| text.contains(&format!("Address: {ip}\n"));
            let right = expected.iter().all(|ip| answered(ip)) && !without.is_some_and(answered);
            if right { Ok(()) } else { Err(text) }
        });
    }
    let srv =
        lookup(&format!("-type=srv _http._tcp.db.{domain}")).unwrap_or_else(|ran| panic!("{ran}"));
    holds(&srv, &format!("8080 db-0.db.{domain}"));
    let back = lookup(&first).unwrap_or_else(|ran| panic!("{ran}"));
    holds(&back, &format!("db-0.db.{domain}"));
    let own = space.kubectl("exec db-0 -- hostname -f").ok();
    assert_eq!(own, format!("db-0.db.{domain}\n"));
    eventually("the alias leads to the service", || {
        let ran = space
            .kubectl("exec client -- timeout 5 wget -q -O - http://alias:8080/")
            .ran();
        if ran.stdout == "db-0\n" {
            Ok(())
        } else {
            Err(ran)
        }
    });
}
