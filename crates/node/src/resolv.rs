//! resolv.conf of a pod: what its dnsPolicy and dnsConfig make of the cluster's DNS and the machine's own settings.
//!
//! Follows upstream's `pkg/kubelet/network/dns`: nameservers and search domains are appended without doubles, options of the
//! same name replaced, and what resolvers would not read is left out.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::PodSpec;

/// What upstream's validation and glibc take.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_BYTES_MAX: usize = 2048;

/// What a pod's settings are made from.
pub struct Sources<'a> {
    /// Text of the machine's resolv.conf.
    pub machine: &'a str,
    /// The cluster's DNS server.
    pub server: Ipv4Addr,
    /// The cluster's domain.
    pub domain: &'a str,
}

/// Lines of a resolv.conf, taken apart.
#[derive(Default)]
struct Settings {
    servers: Vec<String>,
    searches: Vec<String>,
    /// Names with their values.
    options: Vec<(String, Option<String>)>,
}

/// Text of the pod's resolv.conf.
pub fn text(spec: &PodSpec, namespace: &str, sources: &Sources<'_>) -> String {
    let machine = parse(sources.machine);
    let own_network = spec.host_network != Some(true);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let mut settings = match policy {
        "None" => Settings::default(),
        "ClusterFirstWithHostNet" => cluster(namespace, sources, machine),
        "ClusterFirst" if own_network => cluster(namespace, sources, machine),
        _ => inherited(machine, own_network, sources.server),
    };
    if let Some(config) = &spec.dns_config {
        let append = |to: &mut Vec<String>, from: &Option<Vec<String>>| {
            for text in from.iter().flatten() {
                if !to.contains(text) {
                    to.push(text.clone());
                }
            }
        };
        append(&mut settings.servers, &config.nameservers);
        append(&mut settings.searches, &config.searches);
        for option in config.options.iter().flatten() {
            let Some(name) = option.name.clone() else {
                continue;
            };
            let value = option.value.clone();
            match settings
                .options
                .iter_mut()
                .find(|(known, _)| *known == name)
            {
                Some(known) => known.1 = value,
                None => settings.options.push((name, value)),
            }
        }
    }
    settings.text()
}

fn cluster(namespace: &str, sources: &Sources<'_>, machine: Settings) -> Settings {
    let domain = sources.domain;
    let mut searches = vec![
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.to_owned(),
    ];
    for search in machine.searches {
        if !searches.contains(&search) {
            searches.push(search);
        }
    }
    Settings {
        servers: vec![sources.server.to_string()],
        searches,
        options: vec![("ndots".into(), Some("5".into()))],
    }
}

/// The machine's settings. A resolver on its loopback is another loopback's in the pod: there the cluster's server, which
/// forwards to that resolver, stands in for it.
fn inherited(mut machine: Settings, own_network: bool, server: Ipv4Addr) -> Settings {
    let unreachable = |text: &String| {
        let address: Result<IpAddr, _> = text.parse();
        address.map_or(true, |address| address.is_loopback())
    };
    if own_network && machine.servers.iter().all(unreachable) {
        machine.servers = vec![server.to_string()];
    } else if own_network {
        machine.servers.retain(|text| !unreachable(text));
    }
    machine
}

fn parse(text: &str) -> Settings {
    let mut settings = Settings::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => settings.servers.extend(words.next().map(str::to_owned)),
            // the last line of the kind counts
            Some("search" | "domain") => {
                let domains = words.map(|word| word.trim_end_matches('.').to_owned());
                // systemd-resolved writes "search ." where there is none
                settings.searches = domains.filter(|domain| !domain.is_empty()).collect();
            }
            Some("options") => {
                settings.options = words
                    .map(|word| match word.split_once(':') {
                        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                        None => (word.to_owned(), None),
                    })
                    .collect();
            }
            _ => {}
        }
    }
    settings
}

impl Settings {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut searches = String::new();
        for search in self.searches.iter().take(SEARCHES_MAX) {
            if searches.len() + 1 + search.len() > SEARCH_BYTES_MAX {
                break;
            }
            searches.push(' ');
            searches.push_str(search);
        }
        if !searches.is_empty() {
            text += &format!("search{searches}\n");
        }
        for server in self.servers.iter().take(NAMESERVERS_MAX) {
            text += &format!("nameserver {server}\n");
        }
        let options: Vec<String> = self
            .options
            .iter()
            .map(|(name, value)| match value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            })
            .collect();
        if !options.is_empty() {
            text += &format!("options {}\n", options.join(" "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies_and_settings() {
        const CLUSTER: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.64.0.1\noptions ndots:5\n";
        const STUB: &str = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan. .\n";
        const PLAIN: &str = "search old\nsearch lan corp.example\nnameserver 192.0.2.53\nnameserver 127.0.0.1\n# x\n";
        let host = json!(true);
        let table = [
            (json!({}), "", CLUSTER),
            (
                json!({ "dnsPolicy": "ClusterFirst" }),
                PLAIN,
                "search shop.svc.cluster.local svc.cluster.local cluster.local lan corp.example\nnameserver 10.64.0.1\noptions ndots:5\n",
            ),
            (
                json!({ "hostNetwork": host }),
                PLAIN,
                "search lan corp.example\nnameserver 192.0.2.53\nnameserver 127.0.0.1\n",
            ),
            (
                json!({ "hostNetwork": host, "dnsPolicy": "ClusterFirstWithHostNet" }),
                "",
                CLUSTER,
            ),
            (
                json!({ "dnsPolicy": "Default" }),
                PLAIN,
                "search lan corp.example\nnameserver 192.0.2.53\n",
            ),
            (
                json!({ "dnsPolicy": "Default" }),
                STUB,
                "search lan\nnameserver 10.64.0.1\noptions edns0 trust-ad\n",
            ),
            (
                json!({ "dnsPolicy": "Default" }),
                "",
                "nameserver 10.64.0.1\n",
            ),
            (
                json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": ["1.2.3.4"], "searches": ["a", "b"], "options": [{ "name": "ndots", "value": "2" }, { "name": "edns0" }] } }),
                PLAIN,
                "search a b\nnameserver 1.2.3.4\noptions ndots:2 edns0\n",
            ),
            (
                json!({ "dnsConfig": { "nameservers": ["10.64.0.1", "1.1.1.1", "2.2.2.2", "3.3.3.3"], "searches": ["svc.cluster.local", "x"], "options": [{ "name": "ndots", "value": "1" }, { "name": "rotate" }] } }),
                "",
                "search shop.svc.cluster.local svc.cluster.local cluster.local x\nnameserver 10.64.0.1\nnameserver 1.1.1.1\nnameserver 2.2.2.2\noptions ndots:1 rotate\n",
            ),
        ];
        for (spec, machine, expected) in table {
            let mut full = spec.clone();
            full["containers"] = json!([]);
            let spec_read: PodSpec = serde_json::from_value(full).expect("a spec");
            let sources = Sources {
                machine,
                server: Ipv4Addr::new(10, 64, 0, 1),
                domain: "cluster.local",
            };
            assert_eq!(
                text(&spec_read, "shop", &sources),
                expected,
                "{spec} {machine}"
            );
        }
    }

    #[test]
    fn too_many_search_domains_are_cut() {
        let searches: Vec<String> = (0..60)
            .map(|n| format!("{n}.{}", "x".repeat(100)))
            .collect();
        let spec: PodSpec = serde_json::from_value(json!({ "containers": [], "dnsPolicy": "None",
            "dnsConfig": { "nameservers": ["1.2.3.4"], "searches": searches } }))
        .expect("a spec");
        let sources = Sources {
            machine: "",
            server: Ipv4Addr::LOCALHOST,
            domain: "cluster.local",
        };
        let text = text(&spec, "n", &sources);
        let line = text.lines().next().unwrap_or_default();
        assert!(
            line.len() <= SEARCH_BYTES_MAX + 6 && line.split(' ').count() > 10,
            "{line}"
        );
    }
}
