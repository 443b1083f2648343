//! Tables of who may do what, as upstream resolves subjects, bindings and roles.

use serde_json::json;

use super::*;
use crate::path::ResourceInfo;

fn policy() -> Policy {
    let read = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let role = |namespace: &str, name: &str| {
        Arc::new(Role::read(
            &json!({"metadata": {"namespace": namespace, "name": name}, "rules": read}),
        ))
    };
    let binding = |namespace: &str, name: &str, kind: &str, of: &str, subjects: Value| {
        Arc::new(Binding::read(&json!({
            "metadata": {"namespace": namespace, "name": name}, "roleRef": {"kind": kind, "name": of}, "subjects": subjects,
        })))
    };
    let user = |name: &str| json!({"kind": "User", "name": name});
    let group = |name: &str| json!({"kind": "Group", "name": name});
    let account = |name: &str| json!({"kind": "ServiceAccount", "name": name});
    let account_of = |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "namespace": namespace, "name": name});
    Policy::new(
        [
            role("", "reader"),
            role("n", "local"),
            role("m", "elsewhere"),
        ],
        [
            binding(
                "",
                "all",
                "ClusterRole",
                "reader",
                json!([
                    user("root"),
                    group("readers"),
                    account("nowhere"),
                    account_of("n", "robot")
                ]),
            ),
            binding(
                "n",
                "some",
                "ClusterRole",
                "reader",
                json!([user("jane"), account("robot"), account_of("m", "guest")]),
            ),
            binding(
                "n",
                "own",
                "Role",
                "local",
                json!([user("jim"), {"kind": "Robot", "name": "x"}]),
            ),
            binding("n", "foreign", "Role", "elsewhere", json!([user("jo")])),
            binding("", "wrong", "Role", "local", json!([user("jo")])),
            binding("n", "empty", "ClusterRole", "reader", Value::Null),
        ],
    )
}

fn get(namespace: &str, resource: &str) -> RequestInfo {
    RequestInfo {
        verb: "get".into(),
        path: String::new(),
        resource: Some(ResourceInfo {
            resource: resource.into(),
            namespace: namespace.into(),
            ..ResourceInfo::default()
        }),
    }
}

#[test]
fn subjects_and_namespaces() {
    let policy = policy();
    let cases = [
        ("root", &[][..], "", true),
        ("root", &[], "n", true),
        ("anybody", &["a", "readers"], "x", true),
        ("readers", &[], "x", false),
        ("anybody", &["root"], "x", false),
        ("jane", &[], "n", true),
        ("jane", &[], "", false),
        ("jane", &[], "m", false),
        ("jim", &[], "n", true),
        ("jo", &[], "n", false),
        ("jo", &[], "m", false),
        ("system:serviceaccount:n:robot", &[], "", true),
        ("system:serviceaccount:m:robot", &[], "n", false),
        ("system:serviceaccount:m:guest", &[], "n", true),
        ("system:serviceaccount:m:guest", &[], "m", false),
        ("system:serviceaccount::nowhere", &[], "n", false),
        ("robot", &[], "n", false),
        ("x", &[], "n", false),
        ("", &[], "n", false),
    ];
    for (user, groups, namespace, expected) in cases {
        let identity = Identity::new(user, groups);
        assert_eq!(
            policy.allows(&identity, &get(namespace, "pods")),
            expected,
            "{user} {groups:?} {namespace:?}"
        );
        assert!(!policy.allows(&identity, &get(namespace, "secrets")));
    }
}

#[test]
fn reasons_are_upstreams() {
    let policy = policy();
    let reason = |user: &str, groups: &[&str]| {
        policy.reason(&Identity::new(user, groups), &get("n", "pods"))
    };
    assert_eq!(
        reason("root", &[]),
        r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to User "root""#
    );
    assert_eq!(
        reason("x", &["readers"]),
        r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to Group "readers""#
    );
    assert_eq!(
        reason("system:serviceaccount:m:guest", &[]),
        r#"RBAC: allowed by RoleBinding "some/n" of ClusterRole "reader" to ServiceAccount "guest/m""#
    );
    assert_eq!(
        reason("jo", &[]),
        r#"RBAC: [role.rbac.authorization.k8s.io "local" not found, role.rbac.authorization.k8s.io "elsewhere" not found]"#
    );
    assert_eq!(reason("stranger", &[]), "");
}

#[test]
fn what_is_held_is_told_once_for_each_binding() {
    let policy = policy();
    let both = Identity::new("root", &["readers"]);
    assert_eq!(policy.held(&both, "n").rules.len(), 1);
    let robot = Identity::new("system:serviceaccount:n:robot", &[]);
    assert_eq!(policy.held(&robot, "n").rules.len(), 2);
    assert_eq!(policy.held(&robot, "").rules.len(), 1);
    assert_eq!(
        policy.held(&Identity::new("jo", &[]), "n").problems.len(),
        2
    );
}
