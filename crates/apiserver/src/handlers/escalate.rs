//! Nobody hands out what they do not hold: the check of writes to roles and bindings (upstream
//! `pkg/registry/rbac/*/policybased`).

use serde_json::Value;

use super::Context;
use crate::auth::Decision;
use crate::object::{self, at, text};
use crate::path::{RequestInfo, ResourceInfo};
use crate::rbac::{Coverage, Rule, aggregate, coverage, quoted_list};
use crate::status::ApiError;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses a new role or binding that gives more than its writer has. `old` is what is replaced.
pub(super) fn check(context: &Context, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let kind = &context.kind;
    if kind.group != GROUP || context.identity.is_master() {
        return Ok(());
    }
    if old.is_some_and(|old| only_lets_go(new, old)) {
        return Ok(());
    }
    match kind.plural {
        "roles" | "clusterroles" => role(context, new, old),
        "rolebindings" | "clusterrolebindings" => binding(context, new),
        _ => Ok(()),
    }
}

/// Whether nothing changes but what keeps the object from being collected.
fn only_lets_go(new: &Value, old: &Value) -> bool {
    let bare = |value: &Value| {
        let mut value = value.clone();
        let metadata = object::metadata(&mut value);
        for key in [
            "ownerReferences",
            "finalizers",
            "managedFields",
            "resourceVersion",
        ] {
            metadata.remove(key);
        }
        value
    };
    bare(new) == bare(old)
}

fn role(context: &Context, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    if may(context, "escalate", context.kind.plural, &context.info.name) {
        return Ok(());
    }
    let name = text(new, &["metadata", "name"]);
    confirm(context, name, &Rule::of_role(new))?;
    let aggregates = |role: &Value| at(role, &["aggregationRule"]).is_some();
    if (aggregates(new) || old.is_some_and(aggregates))
        && confirm(context, name, &Rule::full_authority()).is_err()
    {
        let why = "must have cluster-admin privileges to use the aggregationRule";
        return Err(refused(context, name, why));
    }
    Ok(())
}

fn binding(context: &Context, new: &Value) -> Result<(), ApiError> {
    let (kind, name) = (
        text(new, &["roleRef", "kind"]),
        text(new, &["roleRef", "name"]),
    );
    let plural = match kind {
        "Role" => "roles",
        "ClusterRole" => "clusterroles",
        // validation has something to say about it
        _ => return Ok(()),
    };
    if may(context, "bind", plural, name) {
        return Ok(());
    }
    let policy = context.state.rbac.policy();
    let rules = policy
        .role(kind, &context.info.namespace, name)
        .ok_or_else(|| ApiError::not_found(GROUP, plural, name))?;
    confirm(context, text(new, &["metadata", "name"]), &rules)
}

fn may(context: &Context, verb: &str, plural: &str, name: &str) -> bool {
    let info = RequestInfo {
        verb: verb.into(),
        path: String::new(),
        resource: Some(ResourceInfo {
            group: GROUP.into(),
            version: "v1".into(),
            resource: plural.into(),
            namespace: context.info.namespace.clone(),
            name: name.into(),
            ..ResourceInfo::default()
        }),
    };
    let authorizer = context.state.authorizer.read().clone();
    authorizer.authorize(&context.identity, &info) == Decision::Allow
}

fn confirm(context: &Context, name: &str, rules: &[Rule]) -> Result<(), ApiError> {
    let identity = &context.identity;
    let authorizer = context.state.authorizer.read().clone();
    let held = authorizer.held(identity, &context.info.namespace);
    let missing = match coverage(&held.rules, rules) {
        Coverage::Whole => return Ok(()),
        Coverage::TooMany => {
            let why = "the rules have too many combinations of verbs, groups, resources and names to be compared with those of the user";
            return Err(refused(context, name, why));
        }
        Coverage::Missing(missing) => missing,
    };
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        identity.user,
        quoted_list(&identity.groups),
        missing.join("\n")
    );
    if !held.problems.is_empty() {
        why.push_str(&format!(
            "; resolution errors: [{}]",
            aggregate(&held.problems)
        ));
    }
    Err(refused(context, name, &why))
}

fn refused(context: &Context, name: &str, why: &str) -> ApiError {
    ApiError::forbidden(GROUP, context.kind.plural, name, why)
}
