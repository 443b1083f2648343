//! Validation of finalizers of the kinds that are built in (upstream `validateKubeFinalizerName`).

use serde_json::Value;

use super::Problems;
use crate::object::items;

/// Those that have no domain.
const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Core kinds whose metadata upstream looks at again in an update.
const LOOKED_AT_AGAIN: [&str; 9] = [
    "configmaps",
    "endpoints",
    "limitranges",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "secrets",
    "serviceaccounts",
    "services",
];

/// What a new object waits for has a domain or is upstream's own. That the names are names at all is told elsewhere.
pub fn finalizers(object: &Value, problems: &mut Problems) {
    added(object, &Value::Null, problems);
}

/// What an object of a core kind waits for besides.
pub fn finalizers_update(plural: &str, new: &Value, old: &Value, problems: &mut Problems) {
    if LOOKED_AT_AGAIN.contains(&plural) {
        added(new, old, problems);
    }
}

fn added(new: &Value, old: &Value, problems: &mut Problems) {
    let known = items(old, &["metadata", "finalizers"]);
    let all = items(new, &["metadata", "finalizers"]);
    for (n, finalizer) in all.iter().enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        let known = known.contains(finalizer);
        if !known && !name.contains('/') && !STANDARD.contains(&name) {
            problems.invalid(
                &format!("metadata.finalizers[{n}]"),
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn they_have_a_domain() {
        let said = |all: Value| {
            let object = json!({"metadata": {"finalizers": all}});
            crate::registry::validate::said(|problems| finalizers(&object, problems))
        };
        assert!(said(json!(["orphan", "foregroundDeletion", "example.com/a"])).is_empty());
        assert_eq!(
            said(json!(["example.com/a", "mine"])),
            [
                "metadata.finalizers[1]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"
            ]
        );
        let with = |all: Value| json!({"metadata": {"finalizers": all}});
        let update = |plural: &str, new: Value, old: Value| {
            crate::registry::validate::said(|problems| {
                finalizers_update(plural, &with(new), &with(old), problems);
            })
        };
        assert_eq!(update("pods", json!(["a", "b"]), json!(["a"])).len(), 1);
        assert!(update("pods", json!(["a"]), json!(["a", "b"])).is_empty());
        assert!(update("deployments", json!(["a"]), json!([])).is_empty());
    }
}
