//! What an apply did to an object, although others write it, too.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use serde_json::Value;

/// Whether an apply of `wanted` left the object as it was. What controllers do meanwhile, the status and annotations of their own
/// (a Deployment's revision), is not the apply's doing.
pub fn is_unchanged(wanted: &Value, before: &DynamicObject, after: &DynamicObject) -> bool {
    let data = |object: &DynamicObject| {
        let mut data = object.data.clone();
        if let Some(data) = data.as_object_mut() {
            data.remove("status");
        }
        data
    };
    let (old, new) = (&before.metadata, &after.metadata);
    data(before) == data(after)
        && old.finalizers == new.finalizers
        && old.owner_references == new.owner_references
        && same(&wanted["metadata"]["labels"], &old.labels, &new.labels)
        && same(
            &wanted["metadata"]["annotations"],
            &old.annotations,
            &new.annotations,
        )
}

type Words = Option<BTreeMap<String, String>>;

/// What is wanted has the value that it had, and nothing is gone.
fn same(wanted: &Value, old: &Words, new: &Words) -> bool {
    let value = |words: &Words, key: &str| words.as_ref().and_then(|words| words.get(key).cloned());
    let mut named = wanted.as_object().into_iter().flatten();
    let mut kept = old.iter().flatten();
    named.all(|(key, _)| value(old, key) == value(new, key))
        && kept.all(|(key, _)| value(new, key).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_controllers_do_meanwhile_is_no_change() {
        let wanted = json!({"metadata": {"labels": {"app": "a"}, "annotations": {"last": "1"}}});
        let object = |change: fn(&mut Value)| -> DynamicObject {
            let mut object = json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "a", "resourceVersion": "1", "labels": {"app": "a"}, "annotations": {"last": "1", "own": "x"}},
                "spec": {"replicas": 3}, "status": {"replicas": 0},
            });
            change(&mut object);
            serde_json::from_value(object).expect("an object")
        };
        let before = object(|_| ());
        let rows: [(fn(&mut Value), bool); 8] = [
            (|_| (), true),
            (|o| o["metadata"]["resourceVersion"] = "2".into(), true),
            (|o| o["status"]["replicas"] = 3.into(), true),
            (
                |o| o["metadata"]["annotations"]["revision"] = "1".into(),
                true,
            ),
            (|o| o["metadata"]["annotations"]["own"] = "y".into(), true),
            (|o| o["metadata"]["annotations"]["last"] = "2".into(), false),
            (
                |o| o["metadata"]["annotations"] = json!({"last": "1"}),
                false,
            ),
            (|o| o["spec"]["replicas"] = 4.into(), false),
        ];
        for (row, (change, expected)) in rows.into_iter().enumerate() {
            let after = object(change);
            assert_eq!(is_unchanged(&wanted, &before, &after), expected, "{row}");
        }
        let mut unlabelled = object(|_| ());
        unlabelled.metadata.labels = None;
        assert!(!is_unchanged(&wanted, &unlabelled, &before));
    }
}
