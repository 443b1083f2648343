//! A pod's runtime class: its overhead, and where its pods may run (upstream's admission plugin RuntimeClass).

use quota::amounts;
use serde_json::{Value, json};

use super::{Context, list};
use crate::object::{self, at, items, text};
use crate::registry;
use crate::status::ApiError;

/// Gives a new pod what its class says; refuses it when there is no such class, or when it says something else itself.
pub(super) async fn of_pod(context: &Context, pod: &mut Value) -> Result<(), ApiError> {
    let name = text(pod, &["spec", "runtimeClassName"]).to_owned();
    let refuse = |pod: &Value, why: &str| {
        ApiError::forbidden("", "pods", text(pod, &["metadata", "name"]), why)
    };
    let mut class = None;
    if !name.is_empty() {
        class = named(context, &name).await?;
        if class.is_none() {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            return Err(refuse(pod, &why));
        }
    }
    merge(class.as_ref(), pod).map_err(|why| refuse(pod, &why))
}

async fn named(context: &Context, name: &str) -> Result<Option<Value>, ApiError> {
    let Some(kind) = registry::find("node.k8s.io", "v1", "runtimeclasses") else {
        return Ok(None);
    };
    let (found, _) = context
        .state
        .store
        .get(&kind.key("", name))
        .await
        .map_err(|error| list::store_error(context, error))?;
    Ok(found.map(|kv| object::parse(&kv.value, kv.mod_revision)))
}

/// Overhead, node selector and tolerations of the class.
fn merge(class: Option<&Value>, pod: &mut Value) -> Result<(), String> {
    let fixed = class.and_then(|class| at(class, &["overhead", "podFixed"]));
    let given = at(pod, &["spec", "overhead"]);
    match (fixed, given) {
        (None, Some(given)) if !amounts(given).is_empty() => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(why.into());
        }
        (Some(fixed), Some(given)) if amounts(fixed) != amounts(given) => {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(why.into());
        }
        (Some(fixed), _) => pod["spec"]["overhead"] = fixed.clone(),
        (None, _) => {}
    }
    let Some(scheduling) = class.and_then(|class| at(class, &["scheduling"])) else {
        return Ok(());
    };
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let selector = &mut pod["spec"]["nodeSelector"];
        if !selector.is_object() {
            *selector = json!({});
        }
        match selector.get(key) {
            Some(own) if own != value => {
                let show = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    show(value),
                    show(own)
                ));
            }
            _ => selector[key.as_str()] = value.clone(),
        }
    }
    let mut tolerations = items(pod, &["spec", "tolerations"]).to_vec();
    for toleration in items(scheduling, &["tolerations"]) {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if !tolerations.is_empty() {
        pod["spec"]["tolerations"] = tolerations.into();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_class_gives() {
        let class = json!({"handler": "h", "overhead": {"podFixed": {"cpu": "10m"}},
            "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k"}]}});
        let merged = |spec: Value, class: Option<&Value>| {
            let mut pod = json!({"spec": spec});
            merge(class, &mut pod).map(|()| pod["spec"].clone())
        };
        assert_eq!(
            merged(
                json!({"nodeSelector": {"c": "d"}, "tolerations": [{"key": "own"}]}),
                Some(&class)
            ),
            Ok(
                json!({"nodeSelector": {"a": "b", "c": "d"}, "tolerations": [{"key": "own"}, {"key": "k"}], "overhead": {"cpu": "10m"}})
            )
        );
        assert!(merged(json!({"overhead": {"cpu": "0.01"}}), Some(&class)).is_ok());
        assert_eq!(merged(json!({}), None), Ok(json!({})));
        for (spec, class, why) in [
            (
                json!({"overhead": {"cpu": "1"}}),
                Some(&class),
                "doesn't match",
            ),
            (
                json!({"overhead": {"cpu": "1"}}),
                None,
                "without corresponding",
            ),
            (
                json!({"nodeSelector": {"a": "x"}}),
                Some(&class),
                "pod.spec.nodeSelector[a] = x",
            ),
        ] {
            let refused = merged(spec, class).expect_err("refused");
            assert!(refused.contains(why), "{refused}");
        }
    }
}
