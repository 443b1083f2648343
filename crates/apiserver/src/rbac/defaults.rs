//! The roles and bindings that every cluster has (`data/default-roles.txt`), made when the server starts, and mended: what
//! is missing in them is put back, what somebody added stays, and what carries the annotation
//! `rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone (upstream `auth/rbac/reconciliation`).

use serde_json::{Map, Value, json};

use super::rule::{Coverage, Rule, coverage};
use crate::object::{at, items};

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const API_GROUP: &str = "rbac.authorization.k8s.io";
const TEXT: &str = include_str!("../../data/default-roles.txt");

/// One of the objects: the resource it is of, its namespace (empty: of the cluster) and itself.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub plural: &'static str,
    pub namespace: String,
    pub object: Value,
}

impl Given {
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }
}

/// All of them: roles before the bindings that name them.
pub(crate) fn all() -> Vec<Given> {
    let (mut roles, mut bindings) = (Vec::<Given>::new(), Vec::new());
    let lines = TEXT.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["role", name, options @ ..] => roles.push(role(name, options)),
            [bind, subjects @ ..] if bind.split('=').next() == Some("bind") => {
                let role = roles.last().expect("a binding follows its role");
                let name = bind.strip_prefix("bind=").unwrap_or(role.name());
                bindings.push(binding(role, name, subjects));
            }
            words => {
                let role = roles.last_mut().expect("a rule follows its role");
                if let Some(rules) = role.object["rules"].as_array_mut() {
                    rules.push(rule(words));
                }
            }
        }
    }
    roles.append(&mut bindings);
    roles
}

fn named(kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": API_VERSION, "kind": kind,
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}, "annotations": {AUTO_UPDATE: "true"}},
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

fn role(name: &str, options: &[&str]) -> Given {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let (kind, plural) = match namespace {
        "" => ("ClusterRole", "clusterroles"),
        _ => ("Role", "roles"),
    };
    let mut object = named(kind, namespace, name);
    object["rules"] = json!([]);
    for option in options {
        match option.split_once('=') {
            Some(("from", selected)) => {
                let labels = json!({format!("{AGGREGATE}{selected}"): "true"});
                object["aggregationRule"] =
                    json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
            }
            Some(("to", selector)) => {
                object["metadata"]["labels"][format!("{AGGREGATE}{selector}")] = "true".into();
            }
            _ => {}
        }
    }
    Given {
        plural,
        namespace: namespace.to_owned(),
        object,
    }
}

fn rule(words: &[&str]) -> Value {
    let list = |at: usize| -> Vec<String> {
        let words = words.get(at).copied().unwrap_or_default().split(',');
        words.filter(|w| !w.is_empty()).map(str::to_owned).collect()
    };
    let verbs = |at: usize| match words.get(at) {
        Some(&"read") => ["get", "list", "watch"].map(str::to_owned).into(),
        Some(&"write") => ["create", "delete", "deletecollection", "patch", "update"]
            .map(str::to_owned)
            .into(),
        _ => list(at),
    };
    if words.first() == Some(&"urls") {
        return Rule {
            verbs: verbs(1),
            urls: list(2),
            ..Rule::default()
        }
        .write();
    }
    let groups = list(1).into_iter();
    Rule {
        verbs: verbs(0),
        groups: groups
            .map(|group| {
                if group == "core" {
                    String::new()
                } else {
                    group
                }
            })
            .collect(),
        resources: list(2),
        names: list(3),
        urls: Vec::new(),
    }
    .write()
}

fn binding(role: &Given, name: &str, subjects: &[&str]) -> Given {
    let (kind, plural) = match role.namespace.as_str() {
        "" => ("ClusterRoleBinding", "clusterrolebindings"),
        _ => ("RoleBinding", "rolebindings"),
    };
    let subjects: Vec<Value> = subjects
        .iter()
        .filter_map(|subject| subject.split_once(':'))
        .map(|(kind, name)| match name.split_once('/') {
            Some((namespace, name)) if kind == "ServiceAccount" => {
                json!({"kind": kind, "namespace": namespace, "name": name})
            }
            _ => json!({"apiGroup": API_GROUP, "kind": kind, "name": name}),
        })
        .collect();
    let mut object = named(kind, &role.namespace, name);
    object["roleRef"] =
        json!({"apiGroup": API_GROUP, "kind": role.object["kind"], "name": role.name()});
    object["subjects"] = subjects.into();
    Given {
        plural,
        namespace: role.namespace.clone(),
        object,
    }
}

/// What to do with an object that is there already.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mending {
    Nothing,
    Update(Value),
    /// A binding to another role cannot be changed: it goes and is made anew.
    Replace,
}

/// Compares an object that is there with the one that should be.
pub(crate) fn mend(existing: &Value, expected: &Value) -> Mending {
    if existing["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return Mending::Nothing;
    }
    let mut mended = existing.clone();
    for key in ["annotations", "labels"] {
        // what somebody set counts
        for (name, value) in members(&expected["metadata"][key]) {
            if existing["metadata"][key].get(&name).is_none() {
                mended["metadata"][key][name] = value;
            }
        }
    }
    if expected.get("roleRef").is_some() {
        if existing["roleRef"] != expected["roleRef"] {
            return Mending::Replace;
        }
        add_missing(&mut mended, expected, "subjects");
    } else {
        mend_rules(&mut mended, expected);
    }
    if mended == *existing {
        Mending::Nothing
    } else {
        Mending::Update(mended)
    }
}

fn mend_rules(role: &mut Value, expected: &Value) {
    let missing = coverage(&Rule::of_role(role), &Rule::of_role(expected));
    if let Coverage::Missing(missing) = missing {
        let mut rules = items(role, &["rules"]).to_vec();
        rules.extend(missing.iter().map(Rule::write));
        role["rules"] = rules.into();
    }
    match at(expected, &["aggregationRule"]) {
        Some(expected) => {
            if at(role, &["aggregationRule"]).is_none() {
                role["aggregationRule"] = json!({});
            }
            add_missing(
                &mut role["aggregationRule"],
                expected,
                "clusterRoleSelectors",
            );
        }
        None => drop(role.as_object_mut().map(|o| o.remove("aggregationRule"))),
    }
}

fn add_missing(object: &mut Value, expected: &Value, key: &str) {
    let mut list = items(object, &[key]).to_vec();
    let before = list.len();
    for item in items(expected, &[key]) {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
    if list.len() > before {
        object[key] = list.into();
    }
}

fn members(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests;
