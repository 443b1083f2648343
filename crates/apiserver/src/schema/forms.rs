//! Values that can be written in several ways, in the one in which they are stored: times, quantities, base64. What Go's decoding
//! and encoding make of them; only fields whose type leads to such a value are looked at.

use std::sync::OnceLock;

use serde_json::Value;

use super::Gvk;
use super::table::{Shape, Table, TypeId};
use super::times;
use crate::quantity::Quantity;

/// Rewrites every such value of an object of a built-in kind. What cannot be read stays as it is: validation tells of it.
pub(crate) fn normalise(gvk: &Gvk, object: &mut Value) {
    let table = Table::get();
    if let Some(id) = table.kind(gvk) {
        within(table, Shape::Struct(id), object);
    }
}

/// The same for the metadata of an object whose other fields no table knows.
pub(crate) fn normalise_metadata(object: &mut Value) {
    let table = Table::get();
    if let (Some(id), Some(metadata)) = (
        table.named("meta/v1.ObjectMeta"),
        object.get_mut("metadata"),
    ) {
        within(table, Shape::Struct(id), metadata);
    }
}

fn within(table: &'static Table, shape: Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(id), Value::Object(object)) => {
            let fields = &table.ty(id).fields;
            for at in &*leading(table)[id as usize] {
                let field = &fields[usize::from(*at)];
                if let Some(value) = object.get_mut(field.name) {
                    within(table, field.shape, value);
                }
            }
        }
        (Shape::List(element), Value::Array(items)) => {
            let shape = table.shape(element);
            items.iter_mut().for_each(|item| within(table, shape, item));
        }
        (Shape::Map(element), Value::Object(entries)) => {
            let shape = table.shape(element);
            for entry in entries.values_mut() {
                if shape == Shape::Quantity && entry.is_null() {
                    // Go's map holds no nothing
                    *entry = "0".into();
                }
                within(table, shape, entry);
            }
        }
        (Shape::Time, value) => times::rewrite(value, false),
        (Shape::MicroTime, value) => times::rewrite(value, true),
        (Shape::Quantity, value) => quantity(value),
        (Shape::Bytes, Value::String(text)) => text.retain(|c| c != '\r' && c != '\n'),
        _ => {}
    }
}

/// The canonical text: `1000m` and the number 1 are `1`, `1.5Gi` is `1536Mi`.
fn quantity(value: &mut Value) {
    let parsed = match &*value {
        Value::String(text) => text.parse::<Quantity>(),
        Value::Number(number) => number.to_string().parse(),
        _ => return,
    };
    let Ok(parsed) = parsed else { return };
    let canonical = parsed.to_string();
    if value.as_str() != Some(&canonical) {
        *value = canonical.into();
    }
}

/// Of each type, by number, the positions of the fields that lead to such values.
fn leading(table: &'static Table) -> &'static [Box<[u16]>] {
    static LEADING: OnceLock<Vec<Box<[u16]>>> = OnceLock::new();
    LEADING.get_or_init(|| {
        let count = table.types().len();
        let mut leads = vec![false; count];
        // Types refer to each other in circles: what is known grows until it grows no more.
        loop {
            let mut grown = false;
            for id in 0..count {
                let fields = &table.types()[id].fields;
                if !leads[id]
                    && fields
                        .iter()
                        .any(|field| leads_to(table, field.shape, &leads))
                {
                    leads[id] = true;
                    grown = true;
                }
            }
            if !grown {
                break;
            }
        }
        let of = |id: TypeId| {
            let fields = table.ty(id).fields.iter().enumerate();
            let these = fields.filter(|(_, field)| leads_to(table, field.shape, &leads));
            these.filter_map(|(at, _)| u16::try_from(at).ok()).collect()
        };
        (0..count as TypeId).map(of).collect()
    })
}

fn leads_to(table: &'static Table, shape: Shape, known: &[bool]) -> bool {
    match shape {
        Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::Bytes => true,
        Shape::Struct(id) => known[id as usize],
        Shape::List(element) | Shape::Map(element) => leads_to(table, table.shape(element), known),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_stored_in_their_canonical_form() {
        for (given, expected) in [
            (json!("1000m"), json!("1")),
            (json!(1), json!("1")),
            (json!(0.5), json!("500m")),
            (json!("0.5"), json!("500m")),
            (json!("1.5Gi"), json!("1536Mi")),
            (json!("1024Ki"), json!("1Mi")),
            (json!("128Mi"), json!("128Mi")),
            (json!("0Mi"), json!("0")),
            (json!("1e3"), json!("1e3")),
            (json!("1000"), json!("1k")),
            (json!("+5"), json!("5")),
            (json!("five"), json!("five")),
            (json!(true), json!(true)),
        ] {
            let mut value = given.clone();
            quantity(&mut value);
            assert_eq!(value, expected, "{given}");
        }
    }

    #[test]
    fn they_are_found_in_lists_maps_and_structs() {
        let pod = |cpu: Value, size: &str| {
            json!({"spec": {"overhead": {"cpu": cpu}, "containers": [
                {"name": "a", "resources": {"requests": {"cpu": cpu}}, "env": [{"name": "e", "valueFrom": {"resourceFieldRef":
                    {"resource": "limits.cpu", "divisor": cpu}}}]}],
                "volumes": [{"name": "v", "emptyDir": {"sizeLimit": size}}]}})
        };
        let mut given = pod(json!(2), "1024Ki");
        normalise(&Gvk::gvk("", "v1", "Pod"), &mut given);
        assert_eq!(given, pod(json!("2"), "1Mi"));
        let mut quota = json!({"spec": {"hard": {"limits.cpu": null, "pods": 10}}});
        normalise(&Gvk::gvk("", "v1", "ResourceQuota"), &mut quota);
        let expected = json!({"spec": {"hard": {"limits.cpu": "0", "pods": "10"}}});
        assert_eq!(quota, expected);
        let mut secret = json!({"data": {"a": "Zm9v\r\nYmFy\n"}, "stringData": {"b": "x\ny"}});
        normalise(&Gvk::gvk("", "v1", "Secret"), &mut secret);
        let expected = json!({"data": {"a": "Zm9vYmFy"}, "stringData": {"b": "x\ny"}});
        assert_eq!(secret, expected);
    }

    #[test]
    fn times_are_found_wherever_a_kind_has_them() {
        let (odd, even) = ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z");
        let micro = "2026-01-01T01:00:00.000000+01:00";
        let micro_even = "2026-01-01T00:00:00.000000Z";
        let object = |time: &str, micro: &str| {
            let metadata = json!({"creationTimestamp": time, "annotations": {"at": odd},
                "managedFields": [{"time": time}]});
            [
                (
                    "",
                    "Pod",
                    json!({"metadata": metadata, "status": {
                    "startTime": time, "conditions": [{"lastTransitionTime": time}],
                    "containerStatuses": [{"state": {"running": {"startedAt": time}}}]}}),
                ),
                (
                    "coordination.k8s.io",
                    "Lease",
                    json!({"metadata": metadata, "spec": {"renewTime": micro}}),
                ),
                (
                    "",
                    "Event",
                    json!({"metadata": metadata, "lastTimestamp": time, "eventTime": micro}),
                ),
                (
                    "",
                    "ConfigMap",
                    json!({"metadata": metadata, "data": {"creationTimestamp": odd}}),
                ),
            ]
        };
        for (given, expected) in object(odd, micro).into_iter().zip(object(even, micro_even)) {
            let (group, kind, mut given) = given;
            normalise(&Gvk::gvk(group, "v1", kind), &mut given);
            assert_eq!(given, expected.2, "{kind}");
        }
    }
}
