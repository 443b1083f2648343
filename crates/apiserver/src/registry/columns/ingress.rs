//! Columns of Ingresses, IngressClasses, IPAddresses and ServiceCIDRs.

use serde_json::Value;

use super::{AGE, Column, NAME, age, name, or, string};
use crate::object::{at, items, text};

/// So many hosts are shown.
const HOSTS_MAX: usize = 3;
const OLD_CLASS: &str = "kubernetes.io/ingress.class";

pub const INGRESS: &[Column] = &[
    NAME,
    string("Class"),
    string("Hosts"),
    string("Address"),
    string("Ports"),
    AGE,
];

pub fn ingress(object: &Value) -> Vec<Value> {
    let class = match at(object, &["spec", "ingressClassName"]).and_then(Value::as_str) {
        Some(class) => class,
        None => object["metadata"]["annotations"][OLD_CLASS]
            .as_str()
            .unwrap_or("<none>"),
    };
    let ports = match items(object, &["spec", "tls"]).is_empty() {
        true => "80",
        false => "80, 443",
    };
    vec![
        name(object),
        class.into(),
        hosts(items(object, &["spec", "rules"])).into(),
        addresses(object).into(),
        ports.into(),
        age(object),
    ]
}

fn hosts(rules: &[Value]) -> String {
    let all: Vec<&str> = rules
        .iter()
        .map(|rule| text(rule, &["host"]))
        .filter(|host| !host.is_empty())
        .collect();
    if all.is_empty() {
        return "*".into();
    }
    let shown = all[..all.len().min(HOSTS_MAX)].join(",");
    match all.len().checked_sub(HOSTS_MAX) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

fn addresses(object: &Value) -> String {
    let mut all: Vec<&str> = items(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|ingress| match text(ingress, &["ip"]) {
            "" => text(ingress, &["hostname"]),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    all.dedup();
    all.join(",")
}

pub const INGRESS_CLASS: &[Column] = &[NAME, string("Controller"), string("Parameters"), AGE];

pub fn ingress_class(object: &Value) -> Vec<Value> {
    let parameters = match at(object, &["spec", "parameters"]) {
        None => "<none>".into(),
        Some(parameters) => {
            let mut shown = text(parameters, &["kind"]).to_owned();
            let group = text(parameters, &["apiGroup"]);
            if !group.is_empty() {
                shown = format!("{shown}.{group}");
            }
            format!("{shown}/{}", text(parameters, &["name"])).into()
        }
    };
    vec![
        name(object),
        text(object, &["spec", "controller"]).into(),
        parameters,
        age(object),
    ]
}

pub const IP_ADDRESS: &[Column] = &[NAME, string("ParentRef")];

pub fn ip_address(object: &Value) -> Vec<Value> {
    let parent = at(object, &["spec", "parentRef"]).map(|parent| {
        let resource = text(parent, &["resource"]);
        let group = text(parent, &["group"]);
        let of = [text(parent, &["namespace"]), text(parent, &["name"])];
        let mut shown = match group {
            "" => resource.to_owned(),
            group => format!("{resource}.{group}"),
        };
        for part in of.into_iter().filter(|part| !part.is_empty()) {
            shown.push('/');
            shown.push_str(part);
        }
        shown
    });
    vec![name(object), or(&parent.unwrap_or_default(), "<none>")]
}

pub const SERVICE_CIDR: &[Column] = &[NAME, string("CIDRs"), AGE];

pub fn service_cidr(object: &Value) -> Vec<Value> {
    let ranges = items(object, &["spec", "cidrs"]).iter();
    let ranges: Vec<&str> = ranges.filter_map(Value::as_str).collect();
    vec![name(object), ranges.join(",").into(), age(object)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells() {
        let rule = |host: &str| json!({"host": host});
        let object = json!({"metadata": {"name": "a", "annotations": {OLD_CLASS: "old"}},
            "spec": {"rules": [rule("a"), rule("b"), rule("c"), rule("d")], "tls": [{}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "h"}]}}});
        assert_eq!(
            Value::from(ingress(&object)),
            json!([
                "a",
                "old",
                "a,b,c + 1 more...",
                "192.0.2.1,h",
                "80, 443",
                "<unknown>"
            ])
        );
        let plain =
            json!({"metadata": {"name": "a"}, "spec": {"ingressClassName": "c", "rules": [{}]}});
        assert_eq!(
            Value::from(ingress(&plain)),
            json!(["a", "c", "*", "", "80", "<unknown>"])
        );
        let class = json!({"metadata": {"name": "a"}, "spec": {"controller": "x/y", "parameters": {"apiGroup": "g", "kind": "K", "name": "n"}}});
        assert_eq!(
            Value::from(ingress_class(&class)),
            json!(["a", "x/y", "K.g/n", "<unknown>"])
        );
        let address = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}});
        assert_eq!(
            Value::from(ip_address(&address)),
            json!(["10.0.0.1", "services/n/s"])
        );
    }
}
