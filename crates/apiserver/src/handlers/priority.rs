//! Priorities: what a pod's class stands for (upstream's admission plugin Priority), and the classes every cluster has.

use serde_json::{Value, json};

use super::{Context, list};
use crate::object::{self, at, text};
use crate::registry;
use crate::registry::validate::SYSTEM_CLASSES;
use crate::status::ApiError;

/// The classes that every cluster has.
pub(crate) fn system_classes() -> [Value; 2] {
    const WHAT: [&str; 2] = [
        "Used for system critical pods that must not be moved from their current node.",
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ];
    let mut described = SYSTEM_CLASSES.iter().zip(WHAT);
    std::array::from_fn(|_| {
        let ((name, value), what) = described.next().unwrap_or((&SYSTEM_CLASSES[0], WHAT[0]));
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": what,
        })
    })
}

/// Gives a new pod the priority and the policy of its class, or of the default class; a pod that says something else itself
/// is refused.
pub(super) async fn of_pod(context: &Context, pod: &mut Value) -> Result<(), ApiError> {
    let name = text(pod, &["spec", "priorityClassName"]).to_owned();
    let class = match name.as_str() {
        "" => default_class(context).await?,
        _ => Some(named(context, pod, &name).await?),
    };
    let forbidden = |pod: &Value, why: String| {
        ApiError::forbidden("", "pods", text(pod, &["metadata", "name"]), &why)
    };
    let value = class
        .as_ref()
        .and_then(|class| class["value"].as_i64())
        .unwrap_or(0);
    let policy = class
        .as_ref()
        .map(|class| text(class, &["preemptionPolicy"]))
        .filter(|policy| !policy.is_empty())
        .unwrap_or("PreemptLowerPriority");
    let given = pod["spec"]["priority"].as_i64();
    if given.is_some_and(|given| given != value) {
        let why = format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
            given.unwrap_or(0)
        );
        return Err(forbidden(pod, why));
    }
    let given = text(pod, &["spec", "preemptionPolicy"]);
    if !given.is_empty() && given != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(forbidden(pod, why));
    }
    let spec = &mut pod["spec"];
    if let Some(class) = class.as_ref().filter(|_| name.is_empty()) {
        spec["priorityClassName"] = class["metadata"]["name"].clone();
    }
    spec["priority"] = value.into();
    spec["preemptionPolicy"] = policy.into();
    Ok(())
}

async fn named(context: &Context, pod: &Value, name: &str) -> Result<Value, ApiError> {
    let kind = registry::find("scheduling.k8s.io", "v1", "priorityclasses");
    if let Some(kind) = kind {
        let (found, _) = context
            .state
            .store
            .get(&kind.key("", name))
            .await
            .map_err(|error| list::store_error(context, error))?;
        if let Some(found) = found {
            return Ok(object::parse(&found.value, found.mod_revision));
        }
    }
    // they are made when the server starts, and again when somebody deletes them
    let system = system_classes()
        .into_iter()
        .find(|class| class["metadata"]["name"] == name);
    system.ok_or_else(|| {
        let why = format!("no PriorityClass with name {name} was found");
        ApiError::forbidden("", "pods", text(pod, &["metadata", "name"]), &why)
    })
}

/// The default class; of several the one of the least value.
async fn default_class(context: &Context) -> Result<Option<Value>, ApiError> {
    let Some(kind) = registry::find("scheduling.k8s.io", "v1", "priorityclasses") else {
        return Ok(None);
    };
    let page = context
        .state
        .store
        .range(&kind.prefix(""), None, 0, None)
        .await
        .map_err(|error| list::store_error(context, error))?;
    Ok(page
        .items
        .iter()
        .map(|kv| object::parse(&kv.value, kv.mod_revision))
        .filter(|class| class["globalDefault"] == true)
        .min_by_key(|class| class["value"].as_i64()))
}

/// There is one default class at most.
pub(super) async fn only_default(context: &Context, class: &Value) -> Result<(), ApiError> {
    if class["globalDefault"] != true {
        return Ok(());
    }
    let name = text(class, &["metadata", "name"]);
    match default_class(context).await? {
        Some(other) if at(&other, &["metadata", "name"]) != at(class, &["metadata", "name"]) => {
            let other = text(&other, &["metadata", "name"]);
            let why = format!(
                "PriorityClass {other} is already marked as default. Only one default can exist"
            );
            Err(ApiError::forbidden(
                "scheduling.k8s.io",
                "priorityclasses",
                name,
                &why,
            ))
        }
        _ => Ok(()),
    }
}
