//! Validation of Ingresses and IngressClasses (upstream `pkg/apis/networking/validation`).

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Problems, names, port_number};
use crate::object::{at, items, text};

const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDINGS: [&str; 2] = ["/..", "/."];
const OLD_CLASS: &str = "kubernetes.io/ingress.class";
const CONTROLLER_BYTES_MAX: usize = 250;

pub fn ingress(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let rules = items(spec, &["rules"]);
    let backend_of_all = at(spec, &["defaultBackend"]);
    if rules.is_empty() && backend_of_all.is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        problems.invalid("spec", &json!(rules), why);
    }
    if let Some(given) = backend_of_all {
        backend(given, "spec.defaultBackend", problems);
    }
    for (n, rule) in rules.iter().enumerate() {
        let field = format!("spec.rules[{n}]");
        host(text(rule, &["host"]), &format!("{field}.host"), problems);
        if let Some(http) = at(rule, &["http"]) {
            paths(http, &format!("{field}.http.paths"), problems);
        }
    }
    for (n, tls) in items(spec, &["tls"]).iter().enumerate() {
        secured(tls, &format!("spec.tls[{n}]"), problems);
    }
    let Some(class) = at(spec, &["ingressClassName"]) else {
        return;
    };
    for why in names::dns1123_subdomain(class.as_str().unwrap_or_default()) {
        problems.invalid("spec.ingressClassName", class, &why);
    }
    let annotated = &object["metadata"]["annotations"][OLD_CLASS];
    // upstream looks at this when an Ingress is made, and such a one cannot be made
    if annotated.is_string() && annotated != class {
        let why = "must match `ingressClassName` when both are specified";
        problems.invalid(&format!("annotations.{OLD_CLASS}"), annotated, why);
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

fn name_of_host(host: &str, field: &str, problems: &mut Problems) {
    let whys = match host.contains('*') {
        true => names::wildcard_subdomain(host),
        false => names::dns1123_subdomain(host),
    };
    for why in whys {
        problems.invalid(field, &host.into(), &why);
    }
}

fn host(host: &str, field: &str, problems: &mut Problems) {
    if host.is_empty() {
        return;
    }
    if is_address(host) {
        problems.invalid(field, &host.into(), "must be a DNS name, not an IP address");
    }
    name_of_host(host, field, problems);
}

fn secured(tls: &Value, field: &str, problems: &mut Problems) {
    for (n, given) in items(tls, &["hosts"]).iter().enumerate() {
        let host = given.as_str().unwrap_or_default();
        name_of_host(host, &format!("{field}.hosts[{n}]"), problems);
    }
    let secret = text(tls, &["secretName"]);
    if !secret.is_empty() {
        for why in names::dns1123_subdomain(secret) {
            problems.invalid(&format!("{field}.secretName"), &secret.into(), &why);
        }
    }
}

fn paths(http: &Value, field: &str, problems: &mut Problems) {
    let paths = items(http, &["paths"]);
    if paths.is_empty() {
        problems.required(field, "");
    }
    for (n, path) in paths.iter().enumerate() {
        one_path(path, &format!("{field}[{n}]"), problems);
    }
}

fn one_path(path: &Value, field: &str, problems: &mut Problems) {
    let Some(kind) = at(path, &["pathType"]) else {
        problems.required(&format!("{field}.pathType"), "pathType must be specified");
        return;
    };
    let given = text(path, &["path"]);
    let of_path = format!("{field}.path");
    let mut invalid = |why: &str| problems.invalid(&of_path, &given.into(), why);
    match kind.as_str().unwrap_or_default() {
        "Exact" | "Prefix" => {
            if !given.starts_with('/') {
                invalid("must be an absolute path");
            }
            for bad in BAD_SEQUENCES.iter().filter(|bad| given.contains(**bad)) {
                invalid(&format!("must not contain '{bad}'"));
            }
            for bad in BAD_ENDINGS.iter().filter(|bad| given.ends_with(**bad)) {
                invalid(&format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !given.is_empty() && !given.starts_with('/') {
                invalid("must be an absolute path");
            }
        }
        _ => problems.not_supported(&format!("{field}.pathType"), kind, &PATH_TYPES),
    }
    backend(&path["backend"], &format!("{field}.backend"), problems);
}

fn backend(backend: &Value, field: &str, problems: &mut Problems) {
    let none = json!("");
    let service = match (at(backend, &["resource"]), at(backend, &["service"])) {
        (Some(_), Some(_)) => {
            let why = "cannot set both resource and service backends";
            return problems.invalid(field, &none, why);
        }
        (Some(resource), None) => {
            return reference(resource, &format!("{field}.resource"), problems);
        }
        (None, None) => {
            let why = "resource or service backend is required";
            return problems.invalid(field, &none, why);
        }
        (None, Some(service)) => service,
    };
    let name = text(service, &["name"]);
    let of_name = format!("{field}.service.name");
    if name.is_empty() {
        problems.required(&of_name, "");
    } else {
        for why in names::dns1035_label(name) {
            problems.invalid(&of_name, &name.into(), &why);
        }
    }
    let port_name = text(service, &["port", "name"]);
    let number = at(service, &["port", "number"]).and_then(Value::as_i64);
    match (port_name, number.unwrap_or(0)) {
        ("", 0) => problems.required(field, "port name or number is required"),
        ("", number) => port_number(number, &format!("{field}.service.port.number"), problems),
        (name, 0) => {
            for why in names::port_name(name) {
                problems.invalid(&format!("{field}.service.port.name"), &name.into(), &why);
            }
        }
        _ => problems.invalid(field, &none, "cannot set both port name & port number"),
    }
}

/// A reference to an object of the same namespace.
fn reference(resource: &Value, field: &str, problems: &mut Problems) {
    for key in ["kind", "name"] {
        if text(resource, &[key]).is_empty() {
            problems.required(&format!("{field}.{key}"), "");
        }
    }
    let group = text(resource, &["apiGroup"]);
    if !group.is_empty() {
        for why in names::dns1123_subdomain(group) {
            problems.invalid(&format!("{field}.apiGroup"), &group.into(), &why);
        }
    }
}

pub fn ingress_status(new: &mut Value, _: &Value, _: &str, problems: &mut Problems) {
    let addresses = items(new, &["status", "loadBalancer", "ingress"]);
    for (n, given) in addresses.iter().enumerate() {
        let field = format!("status.loadBalancer.ingress[{n}]");
        let (ip, host) = (text(given, &["ip"]), text(given, &["hostname"]));
        if !ip.is_empty() && !is_address(ip) {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            problems.invalid(&format!("{field}.ip"), &ip.into(), why);
        }
        if !host.is_empty() {
            for why in names::dns1123_subdomain(host) {
                problems.invalid(&format!("{field}.hostname"), &host.into(), &why);
            }
            if is_address(host) {
                let why = "must be a DNS name, not an IP address";
                problems.invalid(&format!("{field}.hostname"), &host.into(), why);
            }
        }
    }
}

pub fn ingress_class(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let controller = text(spec, &["controller"]);
    if controller.len() > CONTROLLER_BYTES_MAX {
        problems.too_long("spec.controller", CONTROLLER_BYTES_MAX);
    }
    domain_path(controller, "spec.controller", problems);
    let Some(parameters) = at(spec, &["parameters"]) else {
        return;
    };
    reference(parameters, "spec.parameters", problems);
    let namespace = at(parameters, &["namespace"]);
    match text(parameters, &["scope"]) {
        "" => problems.required("spec.parameters.scope", ""),
        "Namespace" => match namespace.and_then(Value::as_str) {
            None | Some("") => {
                let why = "`parameters.scope` is set to 'Namespace'";
                problems.required("spec.parameters.namespace", why);
            }
            Some(namespace) => {
                for why in names::dns1123_label(namespace) {
                    problems.invalid("spec.parameters.namespace", &namespace.into(), &why);
                }
            }
        },
        "Cluster" if namespace.is_some() => {
            let why = "`parameters.scope` is set to 'Cluster'";
            problems.forbidden("spec.parameters.namespace", why);
        }
        "Cluster" => {}
        _ => problems.not_supported(
            "spec.parameters.scope",
            &parameters["scope"],
            &["Cluster", "Namespace"],
        ),
    }
}

pub fn ingress_class_update(new: &Value, old: &Value, problems: &mut Problems) {
    if new["spec"]["controller"] != old["spec"]["controller"] {
        let given = &new["spec"]["controller"];
        problems.invalid("spec.controller", given, "field is immutable");
    }
}

/// `example.com/name`.
fn domain_path(given: &str, field: &str, problems: &mut Problems) {
    if given.is_empty() {
        return problems.required(field, "");
    }
    let (domain, path) = given.split_once('/').unwrap_or((given, ""));
    if domain.is_empty() || path.is_empty() {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return problems.invalid(field, &given.into(), why);
    }
    for why in names::dns1123_subdomain(domain) {
        problems.invalid(field, &domain.into(), &why);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !path.chars().all(allowed) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        problems.invalid(field, &path.into(), why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::validate::said;

    fn with_path(path: Value) -> Value {
        json!({"spec": {"rules": [{"host": "a.example.com", "http": {"paths": [path]}}]}})
    }

    #[test]
    fn paths_and_backends() {
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let path = |kind: &str, path: &str| {
            with_path(json!({"path": path, "pathType": kind, "backend": backend}))
        };
        for good in [
            path("Prefix", "/"),
            path("Exact", "/a/b"),
            path("ImplementationSpecific", ""),
        ] {
            assert_eq!(said(|p| ingress(&good, p)), [""; 0]);
        }
        let field = "spec.rules[0].http.paths[0]";
        for (bad, why) in [
            (
                path("Prefix", "a"),
                format!("{field}.path: Invalid value: \"a\": must be an absolute path"),
            ),
            (
                path("Exact", "/a//b"),
                format!("{field}.path: Invalid value: \"/a//b\": must not contain '//'"),
            ),
            (
                path("Other", "/"),
                format!("{field}.pathType: Unsupported value: \"Other\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\""),
            ),
            (
                with_path(json!({"path": "/", "backend": backend})),
                format!("{field}.pathType: Required value: pathType must be specified"),
            ),
            (
                with_path(json!({"path": "/", "pathType": "Exact", "backend": {}})),
                format!("{field}.backend: Invalid value: \"\": resource or service backend is required"),
            ),
            (
                with_path(json!({"path": "/", "pathType": "Exact", "backend": {"service": {"name": "web"}}})),
                format!("{field}.backend: Required value: port name or number is required"),
            ),
            (
                json!({"spec": {}}),
                "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified".to_owned(),
            ),
            (
                json!({"spec": {"rules": [{"host": "10.0.0.1"}]}}),
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address".to_owned(),
            ),
        ] {
            assert_eq!(said(|p| ingress(&bad, p)), [why]);
        }
        let wild = json!({"spec": {"rules": [{"host": "*.x"}, {"host": "a.*.x"}]}});
        let said = said(|p| ingress(&wild, p));
        assert!(
            said.len() == 1 && said[0].starts_with("spec.rules[1].host"),
            "{said:?}"
        );
    }

    #[test]
    fn classes() {
        let class = |spec: Value| json!({"spec": spec});
        let good = class(
            json!({"controller": "example.com/c", "parameters": {"kind": "K", "name": "n", "scope": "Cluster"}}),
        );
        assert_eq!(said(|p| ingress_class(&good, p)), [""; 0]);
        let bad = class(
            json!({"controller": "c", "parameters": {"kind": "K", "name": "n", "scope": "Namespace"}}),
        );
        assert_eq!(
            said(|p| ingress_class(&bad, p)),
            [
                "spec.controller: Invalid value: \"c\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"
            ]
        );
        assert_eq!(
            said(|p| ingress_class_update(&bad, &good, p)),
            ["spec.controller: Invalid value: \"c\": field is immutable"]
        );
    }
}
