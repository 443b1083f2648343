//! Object metadata: what the server sets, what it refuses, what may not change.

use rand::Rng as _;
use serde_json::{Value, json};

use super::Context;
use crate::object::{self, ANNOTATIONS_BYTES_MAX, metadata, text};
use crate::registry::{Problems, names};
use crate::status::ApiError;

/// Letters of generated name suffixes: no vowels, no look-alikes.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A fresh uid (version 4).
pub(crate) fn new_uid() -> String {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// A name made from `generateName`.
pub(super) fn generated(prefix: &str) -> String {
    let mut rng = rand::rng();
    let cut = prefix
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= 58)
        .last()
        .unwrap_or(0);
    let suffix: String = (0..5)
        .map(|_| char::from(SUFFIX_LETTERS[rng.random_range(0..SUFFIX_LETTERS.len())]))
        .collect();
    format!("{}{suffix}", &prefix[..cut])
}

/// The body's namespace must be the address's; a missing one is filled in. Objects that have none lose it, as upstream's.
pub(super) fn place(context: &Context, value: &mut Value) -> Result<(), ApiError> {
    if !context.kind.namespaced {
        metadata(value).remove("namespace");
        return Ok(());
    }
    let expected = context.info.namespace.as_str();
    let given = text(value, &["metadata", "namespace"]);
    if !given.is_empty() && given != expected {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    metadata(value).insert("namespace".into(), expected.into());
    Ok(())
}

/// Takes the field managers out of an object.
pub(super) fn take_managed(value: &mut Value) -> Option<Value> {
    metadata(value).remove("managedFields")
}

/// Sets the field managers, if there are any.
pub(super) fn set_managed(value: &mut Value, managed: Option<Value>) {
    match managed {
        Some(Value::Array(list)) if !list.is_empty() => {
            metadata(value).insert("managedFields".into(), list.into());
        }
        _ => drop(take_managed(value)),
    }
}

/// Drops what is empty, as encoding upstream's types does.
pub(super) fn tidy(context: &Context, value: &mut Value) {
    let repeated = first_of_each(metadata(value).get_mut("ownerReferences"));
    if !repeated.is_empty() {
        context.warnings.add(format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            repeated.join(", ")
        ));
    }
    metadata(value).retain(|key, value| match value {
        Value::Object(map) => !(map.is_empty() && matches!(key.as_str(), "labels" | "annotations")),
        Value::Array(list) => {
            !(list.is_empty() && matches!(key.as_str(), "finalizers" | "ownerReferences"))
        }
        Value::String(text) => !(text.is_empty() && key == "generateName"),
        _ => true,
    });
}

/// Leaves the first of references that are the same, and tells the uids of the others.
fn first_of_each(references: Option<&mut Value>) -> Vec<String> {
    let Some(Value::Array(references)) = references else {
        return Vec::new();
    };
    let mut kept: Vec<Value> = Vec::with_capacity(references.len());
    let mut repeated = Vec::new();
    for reference in references.drain(..) {
        match kept.contains(&reference) {
            true => repeated.push(text(&reference, &["uid"]).to_owned()),
            false => kept.push(reference),
        }
    }
    *references = kept;
    repeated
}

/// Sets what the server decides about a new object.
pub(super) fn create(context: &Context, value: &mut Value) {
    let metadata = metadata(value);
    for key in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
        "resourceVersion",
    ] {
        metadata.remove(key);
    }
    metadata.insert("uid".into(), new_uid().into());
    metadata.insert("creationTimestamp".into(), crate::time::now().into());
    if context.kind.generation {
        metadata.insert("generation".into(), 1.into());
    } else {
        metadata.remove("generation");
    }
}

/// Carries over what an update may not touch, and refuses what it tries to.
pub(super) fn update(value: &mut Value, old: &Value, problems: &mut Problems) {
    let before = &old["metadata"];
    if before.get("namespace").is_none() {
        metadata(value).remove("namespace");
    }
    // Times that differ are put right without a word, as upstream does: people apply what they were once given.
    let leaving = before.get("deletionTimestamp").is_some();
    for key in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "name",
        "namespace",
    ] {
        let given = value["metadata"].get(key).cloned().unwrap_or_default();
        let kept = before.get(key).cloned().unwrap_or_default();
        let put_right = leaving && key == "deletionTimestamp";
        if !given.is_null() && given != kept && !put_right {
            problems.invalid(&format!("metadata.{key}"), &given, "field is immutable");
        }
    }
    let metadata = metadata(value);
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ] {
        match before.get(key) {
            Some(kept) => metadata.insert(key.into(), kept.clone()),
            None => metadata.remove(key),
        };
    }
    metadata.remove("selfLink");
    if before.get("deletionTimestamp").is_some() {
        let had = object::items(before, &["finalizers"]);
        let new: Vec<_> = object::items(value, &["metadata", "finalizers"])
            .iter()
            .filter(|f| !had.contains(f))
            .map(Value::to_string)
            .collect();
        if !new.is_empty() {
            problems.forbidden(
                "metadata.finalizers",
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    new.join(", ")
                ),
            );
        }
    }
}

/// Checks names, labels, annotations, owner references and finalizers.
pub(super) fn validate(context: &Context, value: &Value, problems: &mut Problems) {
    let metadata = &value["metadata"];
    let name = text(metadata, &["name"]);
    let generate = text(metadata, &["generateName"]);
    if name.is_empty() {
        problems.required("metadata.name", "name or generateName is required");
    } else {
        for why in (context.kind.names)(name) {
            problems.invalid("metadata.name", &name.into(), &why);
        }
    }
    if !generate.is_empty() {
        let example = format!("{}a", generate.trim_end_matches('-'));
        for why in (context.kind.names)(&example) {
            problems.invalid("metadata.generateName", &generate.into(), &why);
        }
    }
    if context.kind.namespaced {
        for why in names::dns1123_label(text(metadata, &["namespace"])) {
            problems.invalid("metadata.namespace", &metadata["namespace"], &why);
        }
    }
    crate::registry::validate::labels(metadata.get("labels"), "metadata.labels", problems);
    annotations(metadata.get("annotations"), problems);
    for (n, reference) in object::items(metadata, &["ownerReferences"])
        .iter()
        .enumerate()
    {
        let field = format!("metadata.ownerReferences[{n}]");
        if text(reference, &["apiVersion"]).is_empty() {
            problems.invalid(
                &format!("{field}.apiVersion"),
                &json!(""),
                "version must not be empty",
            );
        }
        for (key, why) in [
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if text(reference, &[key]).is_empty() {
                problems.invalid(&format!("{field}.{key}"), &json!(""), why);
            }
        }
    }
    let controllers = object::items(metadata, &["ownerReferences"])
        .iter()
        .filter(|r| r["controller"] == true)
        .count();
    if controllers > 1 {
        problems.invalid(
            "metadata.ownerReferences",
            &metadata["ownerReferences"],
            "Only one reference can have Controller set to true.",
        );
    }
    for (n, finalizer) in object::items(metadata, &["finalizers"]).iter().enumerate() {
        for why in names::label_key(finalizer.as_str().unwrap_or_default()) {
            problems.invalid(&format!("metadata.finalizers[{n}]"), finalizer, &why);
        }
    }
}

fn annotations(annotations: Option<&Value>, problems: &mut Problems) {
    let Some(annotations) = annotations.and_then(Value::as_object) else {
        return;
    };
    let mut size = 0;
    for (key, value) in annotations {
        for why in names::label_key(&key.to_lowercase()) {
            problems.invalid("metadata.annotations", &key.as_str().into(), &why);
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_BYTES_MAX {
        problems.too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn generated_names_are_cut_and_suffixed() {
        let name = super::generated("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(super::generated(&"a".repeat(100)).len(), 63);
        assert!(super::generated(&"é".repeat(100)).len() <= 63);
        assert_ne!(super::new_uid(), super::new_uid());
    }
}
