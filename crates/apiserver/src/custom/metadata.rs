//! Metadata of custom objects: it is typed as every object's is, whatever the schema says.

use serde_json::{Value, json};

use crate::schema::table::Table;
use crate::schema::{Gvk, Report, Schemas};

/// Unknown fields and wrong types of metadata; what is unknown is dropped.
pub(crate) fn check(object: &mut Value) -> Report {
    let Some(metadata) = object
        .get("metadata")
        .filter(|metadata| !metadata.is_null())
    else {
        return Report::default();
    };
    // the kind of objects that are nothing but metadata has it at the same place
    let gvk = Gvk::gvk("meta.k8s.io", "v1", "PartialObjectMetadata");
    let report = Schemas::load().check(&gvk, &json!({"metadata": metadata}));
    if !report.unknown.is_empty() {
        let table = Table::get();
        let known = table.named("meta/v1.ObjectMeta").map(|id| table.ty(id));
        if let (Some(known), Some(map)) = (known, object["metadata"].as_object_mut()) {
            map.retain(|key, _| known.field(key).is_some());
        }
    }
    report
}

/// Drops the nulls that decoding metadata drops.
pub(crate) fn strip_nulls(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata") {
        crate::object::strip_nulls(metadata);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_typed() {
        let mut object = json!({"metadata": {"name": "a", "labelz": {}, "labels": {"a": "b"}}});
        let report = check(&mut object);
        assert_eq!(report.unknown, ["unknown field \"metadata.labelz\""]);
        assert_eq!(report.type_error, None);
        assert_eq!(
            object,
            json!({"metadata": {"name": "a", "labels": {"a": "b"}}})
        );
        let report = check(&mut json!({"metadata": {"labels": 1}}));
        assert!(
            report
                .type_error
                .is_some_and(|why| why.contains("cannot unmarshal number"))
        );
    }
}
