//! Validation of roles and their bindings (upstream `pkg/apis/rbac/validation`).

use serde_json::{Value, json};

use super::workload::label_selector;
use super::{Problems, names};
use crate::object::{at, items, text};

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn role(object: &Value, problems: &mut Problems) {
    rules(object, true, problems);
}

pub fn cluster_role(object: &Value, problems: &mut Problems) {
    rules(object, false, problems);
    let Some(aggregation) = at(object, &["aggregationRule"]) else {
        return;
    };
    let field = "aggregationRule.clusterRoleSelectors";
    let selectors = items(aggregation, &["clusterRoleSelectors"]);
    if selectors.is_empty() {
        problems.required(
            field,
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        );
    }
    for (n, selector) in selectors.iter().enumerate() {
        label_selector(selector, &format!("{field}[{n}]"), problems);
    }
}

fn rules(object: &Value, namespaced: bool, problems: &mut Problems) {
    for (n, rule) in items(object, &["rules"]).iter().enumerate() {
        let field = |name: &str| format!("rules[{n}].{name}");
        let list = |name: &str| items(rule, &[name]);
        if list("verbs").is_empty() {
            problems.required(&field("verbs"), "verbs must contain at least one value");
        }
        let urls = list("nonResourceURLs");
        if !urls.is_empty() {
            let urls = json!(urls);
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                problems.invalid(&field("nonResourceURLs"), &urls, why);
            }
            let mixed = ["apiGroups", "resources", "resourceNames"];
            if mixed.iter().any(|name| !list(name).is_empty()) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                problems.invalid(&field("nonResourceURLs"), &urls, why);
            }
            continue;
        }
        if list("apiGroups").is_empty() {
            let why = "resource rules must supply at least one api group";
            problems.required(&field("apiGroups"), why);
        }
        if list("resources").is_empty() {
            let why = "resource rules must supply at least one resource";
            problems.required(&field("resources"), why);
        }
    }
}

pub fn role_binding(object: &Value, problems: &mut Problems) {
    binding(object, true, problems);
}

pub fn cluster_role_binding(object: &Value, problems: &mut Problems) {
    binding(object, false, problems);
}

fn binding(object: &Value, namespaced: bool, problems: &mut Problems) {
    let role = &object["roleRef"];
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    let (group, kind, name) = (
        text(role, &["apiGroup"]),
        text(role, &["kind"]),
        text(role, &["name"]),
    );
    if group != GROUP {
        problems.not_supported("roleRef.apiGroup", &group.into(), &[GROUP]);
    }
    if !kinds.contains(&kind) {
        problems.not_supported("roleRef.kind", &kind.into(), kinds);
    }
    if name.is_empty() {
        problems.required("roleRef.name", "");
    }
    for why in names::path_segment(name) {
        problems.invalid("roleRef.name", &name.into(), &why);
    }
    for (n, one) in items(object, &["subjects"]).iter().enumerate() {
        subject(one, namespaced, &format!("subjects[{n}]"), problems);
    }
}

fn subject(subject: &Value, namespaced: bool, field: &str, problems: &mut Problems) {
    let (kind, name) = (text(subject, &["kind"]), text(subject, &["name"]));
    let group = text(subject, &["apiGroup"]);
    let field = |name: &str| format!("{field}.{name}");
    if name.is_empty() {
        problems.required(&field("name"), "");
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                for why in names::dns1123_subdomain(name) {
                    problems.invalid(&field("name"), &name.into(), &why);
                }
            }
            if !group.is_empty() {
                problems.not_supported(&field("apiGroup"), &group.into(), &[""]);
            }
            if !namespaced && text(subject, &["namespace"]).is_empty() {
                problems.required(&field("namespace"), "");
            }
        }
        "User" | "Group" => {
            if name.is_empty() {
                let why = format!("{} name cannot be empty", kind.to_ascii_lowercase());
                problems.invalid(&field("name"), &name.into(), &why);
            }
            if group != GROUP {
                problems.not_supported(&field("apiGroup"), &group.into(), &[GROUP]);
            }
        }
        _ => problems.not_supported(
            &field("kind"),
            &kind.into(),
            &["ServiceAccount", "User", "Group"],
        ),
    }
}

/// What is bound stays; only to whom may change.
pub fn role_binding_update(new: &Value, old: &Value, problems: &mut Problems) {
    if new["roleRef"] != old["roleRef"] {
        problems.invalid("roleRef", &new["roleRef"], "cannot change roleRef");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(check: fn(&Value, &mut Problems), object: Value) -> Vec<String> {
        let mut problems = Problems::default();
        check(&object, &mut problems);
        let told = problems.0.into_iter();
        told.map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect()
    }

    #[test]
    fn rules_of_roles() {
        let good = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]});
        assert!(told(role, good.clone()).is_empty() && told(cluster_role, good).is_empty());
        let url = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]});
        assert!(told(cluster_role, url.clone()).is_empty());
        assert_eq!(
            told(role, url),
            [
                r#"rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs"#
            ]
        );
        assert_eq!(
            told(cluster_role, json!({"rules": [{}]})),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ]
        );
        let mixed = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}]});
        assert_eq!(
            told(cluster_role, mixed),
            [
                r#"rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs"#
            ]
        );
        assert_eq!(
            told(cluster_role, json!({"aggregationRule": {}})),
            [
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
            ]
        );
    }

    #[test]
    fn bindings() {
        let of = json!({"apiGroup": GROUP, "kind": "Role", "name": "a"});
        let with = |subject: Value| json!({"roleRef": of, "subjects": [subject]});
        let good = with(json!({"kind": "ServiceAccount", "name": "a"}));
        assert!(told(role_binding, good.clone()).is_empty());
        assert_eq!(
            told(cluster_role_binding, good),
            [
                r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
                "subjects[0].namespace: Required value",
            ]
        );
        assert_eq!(
            told(
                role_binding,
                json!({"roleRef": {"apiGroup": "x", "kind": "Y", "name": "a/b"}})
            ),
            [
                r#"roleRef.apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io""#,
                r#"roleRef.kind: Unsupported value: "Y": supported values: "ClusterRole", "Role""#,
                r#"roleRef.name: Invalid value: "a/b": may not contain '/'"#,
            ]
        );
        let cases = [
            (
                json!({"kind": "User", "name": "a", "apiGroup": "x"}),
                vec![
                    r#"subjects[0].apiGroup: Unsupported value: "x": supported values: "rbac.authorization.k8s.io""#,
                ],
            ),
            (
                json!({"kind": "Group", "apiGroup": GROUP}),
                vec![
                    "subjects[0].name: Required value",
                    r#"subjects[0].name: Invalid value: "": group name cannot be empty"#,
                ],
            ),
            (
                json!({"kind": "Robot", "name": "a"}),
                vec![
                    r#"subjects[0].kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", "User""#,
                ],
            ),
            (
                json!({"kind": "ServiceAccount", "name": "a", "apiGroup": "v1"}),
                vec![r#"subjects[0].apiGroup: Unsupported value: "v1": supported values: """#],
            ),
        ];
        for (subject, expected) in cases {
            assert_eq!(
                told(role_binding, with(subject.clone())),
                expected,
                "{subject}"
            );
        }
        let mut problems = Problems::default();
        let (old, mut new) = (json!({"roleRef": of}), json!({"roleRef": of}));
        role_binding_update(&new, &old, &mut problems);
        assert!(problems.is_empty());
        new["roleRef"]["name"] = "b".into();
        role_binding_update(&new, &old, &mut problems);
        assert!(problems.0[0].message.ends_with(": cannot change roleRef"));
    }
}
