//! The networks that there are: bridge, host and none, always.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Docker;
use crate::containers::{self, Container};
use crate::filters::Filters;
use crate::query::Query;
use crate::reply::{Answer, Refusal, json_of};

const KNOWN: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

/// One of the networks.
struct Network {
    name: &'static str,
    driver: &'static str,
}

const ALL: [Network; 3] = [
    Network {
        name: "bridge",
        driver: "bridge",
    },
    Network {
        name: "host",
        driver: "host",
    },
    Network {
        name: "none",
        driver: "null",
    },
];

/// The ID of a network; of one that there is not, none.
pub fn id(docker: &Docker, name: &str) -> String {
    match ALL.iter().any(|network| network.name == name) {
        true => format!("{}-{name}", docker.inner.network.config().instance),
        false => String::new(),
    }
}

/// The name of the network that a container is on.
pub fn of(container: &Container) -> &str {
    match container.record.host.network_mode.as_str() {
        "" | "default" => "bridge",
        other => other,
    }
}

/// `NetworkSettings.Networks` of a container.
pub fn endpoints(docker: &Docker, container: &Container) -> Value {
    let mut endpoint = addresses(docker, container);
    let name = of(container);
    endpoint["NetworkID"] = json!(id(docker, name));
    endpoint["EndpointID"] = json!(if container.running() {
        container.id()
    } else {
        ""
    });
    endpoint["Aliases"] = Value::Null;
    json!({ name: endpoint })
}

/// Addresses as `inspect` has them, for a container and for its network; empty where there are none.
pub fn addresses(docker: &Docker, container: &Container) -> Value {
    let attachment = docker.inner.network.attachment(container.id());
    let ipv6 = attachment.as_ref().and_then(|attachment| attachment.ipv6);
    let (address6, gateway6, prefix6) = ipv6.map_or_else(Default::default, |ipv6| {
        let prefix = ipv6.prefix_len;
        (ipv6.address.to_string(), ipv6.gateway.to_string(), prefix)
    });
    let (address, gateway, mac, prefix) = attachment.map_or_else(Default::default, |known| {
        let (address, gateway) = (known.address.to_string(), known.gateway.to_string());
        (address, gateway, known.mac, known.prefix_len)
    });
    json!({
        "IPAddress": address, "Gateway": gateway, "MacAddress": mac, "IPPrefixLen": prefix,
        "GlobalIPv6Address": address6, "IPv6Gateway": gateway6, "GlobalIPv6PrefixLen": prefix6,
    })
}

fn described(docker: &Docker, network: &Network) -> Value {
    let config = docker.inner.network.config();
    let is_bridge = network.driver == "bridge";
    let ranges = config
        .pod_cidrs()
        .into_iter()
        .zip(docker.inner.network.gateways());
    let subnets: Vec<Value> = ranges
        .filter(|_| is_bridge)
        .map(|(range, gateway)| json!({ "Subnet": range.to_string(), "Gateway": gateway.to_string() }))
        .collect();
    json!({
        "Name": network.name, "Id": id(docker, network.name), "Created": "0001-01-01T00:00:00Z", "Scope": "local", "Driver": network.driver,
        "EnableIPv6": is_bridge && config.ipv6.is_some(), "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": { "Network": "" },
        "ConfigOnly": false, "Containers": {}, "Options": {}, "Labels": {}, "IPAM": { "Driver": "default", "Options": null, "Config": subnets },
    })
}

pub fn list(docker: &Docker, query: &Query) -> Answer {
    let filters = Filters::of(query, &KNOWN)?;
    let dangling = filters.flag("dangling")?;
    for kind in filters.values("type") {
        if !["builtin", "custom"].contains(&kind.as_str()) {
            return Err(Refusal::bad(format!("invalid filter: 'type'='{kind}'")));
        }
    }
    let wanted = ALL
        .iter()
        // those that are always there are never left over
        .filter(|network| {
            dangling != Some(true) && wants(&filters, network, &id(docker, network.name))
        });
    let rows: Vec<Value> = wanted.map(|network| described(docker, network)).collect();
    json_of(&rows)
}

fn wants(filters: &Filters, network: &Network, id: &str) -> bool {
    filters.any("driver", |value| value == network.driver)
        && filters.any("scope", |value| value == "local")
        && filters.any("type", |value| value == "builtin")
        && filters.matches("name", network.name)
        && filters.any("id", |value| id.starts_with(value))
        && filters.labels(&BTreeMap::new())
}

/// By name, ID, or the beginning of an ID that no other has.
pub async fn inspect(docker: &Docker, wanted: &str) -> Answer {
    let exact = ALL
        .iter()
        .find(|network| network.name == wanted || id(docker, network.name) == wanted);
    let mut beginning = ALL
        .iter()
        .filter(|network| id(docker, network.name).starts_with(wanted));
    let found = match (exact, beginning.next(), beginning.next()) {
        (Some(exact), ..) => exact,
        (None, Some(only), None) => only,
        _ => return Err(Refusal::not_found(format!("network {wanted} not found"))),
    };
    let mut shown = described(docker, found);
    let members = containers::all(docker).await.into_iter();
    let members = members.filter(|container| container.running() && of(container) == found.name);
    let members: Map<String, Value> = members
        .map(|container| {
            let known = addresses(docker, &container);
            let with_prefix = |address: &str, prefix: &str| match known[address].as_str() {
                None | Some("") => String::new(),
                Some(address) => format!("{address}/{}", known[prefix]),
            };
            let member = json!({
                "Name": container.record.name, "EndpointID": container.id(), "MacAddress": known["MacAddress"],
                "IPv4Address": with_prefix("IPAddress", "IPPrefixLen"), "IPv6Address": with_prefix("GlobalIPv6Address", "GlobalIPv6PrefixLen"),
            });
            (container.id().to_owned(), member)
        })
        .collect();
    shown["Containers"] = Value::Object(members);
    json_of(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_networks() {
        for (text, expected) in [
            ("{}", &["bridge", "host", "none"][..]),
            (r#"{"name":["bri"]}"#, &["bridge"]),
            (r#"{"name":["^b$"]}"#, &[]),
            (r#"{"driver":["null","host"]}"#, &["host", "none"]),
            (r#"{"id":["plim-1-no"]}"#, &["none"]),
            (r#"{"type":["custom"]}"#, &[]),
            (r#"{"label":["com.docker.compose.project=a"]}"#, &[]),
            (r#"{"scope":["swarm"]}"#, &[]),
        ] {
            let filters = Filters::of(&Query::parse(&format!("filters={text}")), &KNOWN);
            let filters = filters.expect("known");
            let found: Vec<&str> = ALL
                .iter()
                .filter(|network| wants(&filters, network, &format!("plim-1-{}", network.name)))
                .map(|network| network.name)
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
