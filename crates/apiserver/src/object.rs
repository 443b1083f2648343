//! A stored object as watchers and lists need it: bytes, and the few parsed fields that selection reads.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use store::{KeyValue, Revision};

use crate::registry::Kind;

/// Annotations of an object may take this much together, keys and values.
pub(crate) const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// One version of one object. Its JSON with the resourceVersion is put together each time it is sent: the caches hold
/// thousands of versions, and a copy of each would cost more than copying it now and then.
#[derive(Debug)]
pub(crate) struct Object {
    pub key: String,
    pub namespace: String,
    pub name: String,
    pub labels: Vec<(String, String)>,
    /// Values of the kind's selectable fields, in the order of [`Kind::fields`].
    pub fields: Vec<String>,
    pub revision: Revision,
    stored: Bytes,
}

impl Object {
    /// Parses what selection needs. A value that is not an object (a damaged store) gives `None`.
    pub fn new(kind: &Kind, kv: &KeyValue) -> Option<Arc<Self>> {
        let value: Value = serde_json::from_slice(&kv.value).ok()?;
        let metadata = value.get("metadata")?;
        let text = |key: &str| {
            metadata
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let labels = metadata
            .get("labels")
            .and_then(Value::as_object)
            .map(|labels| {
                labels
                    .iter()
                    .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
                    .collect()
            });
        Some(Arc::new(Self {
            key: kv.key.clone(),
            namespace: text("namespace"),
            name: text("name"),
            labels: labels.unwrap_or_default(),
            fields: kind.field_values(&value),
            revision: kv.mod_revision,
            stored: kv.value.clone(),
        }))
    }

    /// The object as clients get it.
    pub fn json(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.json_bytes());
        self.write_json(self.revision, &mut out);
        Bytes::from(out)
    }

    /// Appends the object as clients get it, under `revision` (another than its own for its deletion).
    pub fn write_json(&self, revision: Revision, out: &mut Vec<u8>) {
        with_revision(&self.stored, revision, out);
    }

    /// Room for what [`write_json`](Self::write_json) appends.
    pub fn json_bytes(&self) -> usize {
        self.stored.len() + REVISION_BYTES
    }

    /// The object parsed, with its resource version.
    pub fn value(&self) -> Value {
        parse(&self.stored, self.revision)
    }
}

/// Whether a stored value is one that this server can read: what others keep in a shared etcd may be encrypted, say.
pub(crate) fn is_readable(stored: &[u8]) -> bool {
    stored.starts_with(b"{")
}

/// Parses a stored value and sets its resource version.
pub(crate) fn parse(stored: &[u8], revision: Revision) -> Value {
    let mut value: Value = serde_json::from_slice(stored).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), revision.to_string().into());
    }
    value
}

/// Serialises an object for the store: without resourceVersion, and with apiVersion, kind and metadata first,
/// so that [`with_revision`] need not parse it.
pub(crate) fn encode(value: &Value) -> Bytes {
    let Some(object) = value.as_object() else {
        return Bytes::from(value.to_string());
    };
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    for key in ["apiVersion", "kind", "metadata"] {
        let Some(value) = object.get(key) else {
            continue;
        };
        if key == "metadata" {
            let mut metadata = value.as_object().cloned().unwrap_or_default();
            metadata.remove("resourceVersion");
            member(&mut out, key, &Value::Object(metadata));
        } else {
            member(&mut out, key, value);
        }
    }
    for (key, value) in object {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            member(&mut out, key, value);
        }
    }
    out.push(b'}');
    Bytes::from(out)
}

fn member(out: &mut Vec<u8>, key: &str, value: &Value) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(Value::from(key).to_string().as_bytes());
    out.push(b':');
    // Writing into a Vec cannot fail.
    let _ = serde_json::to_writer(&mut *out, value);
}

const METADATA: &[u8] = b"\"metadata\":{";

/// `"resourceVersion":"18446744073709551615",`
const REVISION_BYTES: usize = 41;

/// Appends the stored bytes with `resourceVersion` put in.
fn with_revision(stored: &[u8], revision: Revision, out: &mut Vec<u8>) {
    // `encode` writes metadata right after apiVersion and kind, whose values hold no braces; bytes from
    // another writer take the slow way.
    let head = &stored[..stored.len().min(512)];
    let at = head.windows(METADATA.len()).position(|w| w == METADATA);
    let ours = at.filter(|at| {
        !head[1.min(head.len())..*at]
            .iter()
            .any(|b| matches!(b, b'{' | b'}' | b'\\'))
    });
    let Some(at) = ours else {
        out.extend_from_slice(parse(stored, revision).to_string().as_bytes());
        return;
    };
    let cut = at + METADATA.len();
    out.extend_from_slice(&stored[..cut]);
    out.extend_from_slice(format!("\"resourceVersion\":\"{revision}\"").as_bytes());
    if stored.get(cut) != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(&stored[cut..]);
}

/// The object's metadata, made when missing.
pub(crate) fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    if !value["metadata"].is_object() {
        value["metadata"] = Value::Object(Map::new());
    }
    match &mut value["metadata"] {
        Value::Object(map) => map,
        _ => unreachable!("set to an object above"),
    }
}

/// A string at a path, empty when absent.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The value at a path; null counts as absent.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter()
        .try_fold(value, |value, key| value.get(key))
        .filter(|value| !value.is_null())
}

/// The items of a list at a path.
pub(crate) fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Removes nulls from objects, as decoding into upstream's types does.
pub(crate) fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn spliced(stored: &[u8], revision: Revision) -> Value {
        let mut out = Vec::new();
        with_revision(stored, revision, &mut out);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn revision_goes_in_without_parsing() {
        let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"metadata": "{"},
            "metadata": {"name": "a", "resourceVersion": "3"}});
        let stored = encode(&object);
        assert_eq!(&stored[..], br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"metadata":"{"}}"#);
        let read: Value = spliced(&stored, 7);
        assert_eq!(
            read["metadata"],
            json!({"name": "a", "resourceVersion": "7"})
        );
    }

    #[test]
    fn bytes_of_another_writer_are_parsed() {
        let stored = br#"{"data":{"metadata":{"x":1}},"metadata":{}}"#;
        let read: Value = spliced(stored, 7);
        assert_eq!(
            read,
            json!({"data": {"metadata": {"x": 1}}, "metadata": {"resourceVersion": "7"}})
        );
    }

    proptest! {
        #[test]
        fn splicing_equals_parsing(kind in "[A-Za-z\\\\\"{}]{0,8}", name in ".{0,8}", other in ".{0,8}") {
            let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "x": {"metadata": {"y": other}}});
            let stored = encode(&object);
            prop_assert_eq!(spliced(&stored, 9), parse(&stored, 9));
        }
    }
}
