//! Networks and published ports.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::instance::{IMAGE, Instance, sleeper};

pub fn low_ports_are_for_everybody(instance: &Instance) {
    let script = "cat /proc/sys/net/ipv4/ping_group_range; timeout 1 nc -l -p 80 || true; echo end";
    let said = instance.said(script, json!({ "User": "1000:1000" }));
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(
        !said.contains("denied") && words.ends_with(&["end"]),
        "{said}"
    );
    assert_eq!(words[..2], ["0", "2147483647"], "{said}");
    let sysctls = json!({ "User": "1000", "HostConfig": { "Sysctls": { "net.ipv4.ip_unprivileged_port_start": "81" } } });
    let said = instance.said(script, sysctls);
    assert!(said.contains("denied"), "{said}");
}

fn host_port(instance: &Instance, id: &str) -> u16 {
    let shown = instance.inspect(id);
    let port = &shown["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"];
    let port = port.as_str().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("{}", shown["NetworkSettings"]))
}

pub fn host_ports_are_chosen_at_each_start(instance: &Instance) {
    let with = |port: &str| {
        let mut wanted = sleeper();
        wanted["HostConfig"] = json!({ "PortBindings": { "80/tcp": [{ "HostPort": port }] } });
        wanted
    };
    let again = |id: &str| {
        instance.done("POST", &format!("/containers/{id}/restart?t=0"));
        host_port(instance, id)
    };
    let stop = |id: &str| instance.done("POST", &format!("/containers/{id}/stop?t=0"));
    // any: another one when the last was taken meanwhile
    let id = instance.started(with(""));
    let first = host_port(instance, &id);
    stop(&id);
    let taken = TcpListener::bind(("0.0.0.0", first)).expect("given back");
    instance.done("POST", &format!("/containers/{id}/start"));
    let second = host_port(instance, &id);
    assert_ne!(second, first);
    drop(taken);
    instance.remove(&id);
    // a range: the first that is free
    let taken = TcpListener::bind(("0.0.0.0", first)).expect("free");
    let last = first.saturating_add(20);
    let id = instance.started(with(&format!("{first}-{last}")));
    let found = host_port(instance, &id);
    assert!((first + 1..=last).contains(&found), "{first} {found}");
    drop(taken);
    assert_eq!(again(&id), first);
    instance.remove(&id);
}

pub fn a_network_tells_its_containers(instance: &Instance) {
    let id = instance.started(sleeper());
    let shown = instance.inspect(&id);
    let address = shown["NetworkSettings"]["IPAddress"].as_str().expect("one");
    let bridge = instance.get("/networks/bridge");
    let member = &bridge["Containers"][&id];
    let with_prefix = member["IPv4Address"].as_str().expect("one");
    assert!(with_prefix.starts_with(&format!("{address}/")), "{bridge}");
    assert_eq!(
        member["Name"],
        json!(shown["Name"].as_str().map(|name| &name[1..]))
    );
    let filtered = instance.get("/networks?filters=%7B%22name%22%3A%5B%22host%22%5D%7D");
    let names: Vec<&Value> = filtered
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| &row["Name"])
        .collect();
    assert_eq!(names, ["host"]);
    instance.remove(&id);
    // others' may be there
    let bridge = instance.get("/networks/bridge");
    assert!(bridge["Containers"].is_object(), "{bridge}");
    assert_eq!(bridge["Containers"].get(&id), None);
}

/// The docker command pulls the image when it hears 404.
pub fn one_that_there_is_not_is_no_missing_image(instance: &Instance) {
    for (mode, said) in [
        ("nosuch", "network nosuch not found"),
        ("container:nosuch", "another container's network"),
    ] {
        let body = json!({ "Image": IMAGE, "HostConfig": { "NetworkMode": mode } }).to_string();
        let reply = instance.ask("POST", "/containers/create", body.as_bytes());
        assert_eq!(reply.status, 400, "{mode}");
        assert!(reply.text().contains(said), "{}", reply.text());
    }
}
