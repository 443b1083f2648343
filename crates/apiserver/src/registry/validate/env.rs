//! Validation of a container's variables: `env` and `envFrom`.

use serde_json::Value;

use super::references::{self, OF_VARIABLES};
use super::{Problems, names};
use crate::object::{at, items, text};

const NAME: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
const SOURCES: [&str; 5] = [
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];
const TWO: &str = "may not have more than one field specified at a time";

/// Both lists of a container.
pub(super) fn variables(container: &Value, field: &str, problems: &mut Problems) {
    for (n, variable) in items(container, &["env"]).iter().enumerate() {
        let field = format!("{field}.env[{n}]");
        let name = text(variable, &["name"]);
        if name.is_empty() {
            problems.required(&format!("{field}.name"), "");
        } else {
            printable(name, &format!("{field}.name"), problems);
        }
        if let Some(source) = at(variable, &["valueFrom"]) {
            let valued = !text(variable, &["value"]).is_empty();
            one_source(source, valued, &format!("{field}.valueFrom"), problems);
        }
    }
    let field = format!("{field}.envFrom");
    for (n, source) in items(container, &["envFrom"]).iter().enumerate() {
        whole(source, n, &field, problems);
    }
}

fn printable(name: &str, field: &str, problems: &mut Problems) {
    if name.contains('=') || name.chars().any(|c| !(' '..='~').contains(&c)) {
        problems.invalid(field, &name.into(), NAME);
    }
}

fn one_source(source: &Value, valued: bool, field: &str, problems: &mut Problems) {
    let given = SOURCES.iter().filter(|key| at(source, &[key]).is_some());
    let count = given.count();
    if let Some(reference) = at(source, &["fieldRef"]) {
        let field = format!("{field}.fieldRef");
        references::field_of_pod(reference, OF_VARIABLES, &field, problems);
    }
    if let Some(reference) = at(source, &["resourceFieldRef"]) {
        let field = format!("{field}.resourceFieldRef");
        references::resource_of_container(reference, false, &field, problems);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = at(source, &[key]) {
            key_of(reference, &format!("{field}.{key}"), problems);
        }
    }
    let why = match count {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if valued => "may not be specified when `value` is not empty",
        1 => return,
        _ => TWO,
    };
    problems.invalid(field, &"".into(), why);
}

fn key_of(reference: &Value, field: &str, problems: &mut Problems) {
    let name = text(reference, &["name"]);
    for why in names::dns1123_subdomain(name) {
        problems.invalid(&format!("{field}.name"), &name.into(), &why);
    }
    let key = text(reference, &["key"]);
    if key.is_empty() {
        problems.required(&format!("{field}.key"), "");
        return;
    }
    for why in names::config_key(key) {
        problems.invalid(&format!("{field}.key"), &key.into(), &why);
    }
}

/// All of a ConfigMap or Secret; upstream tells a wrong number of sources of the whole list.
fn whole(source: &Value, n: usize, field: &str, problems: &mut Problems) {
    let prefix = text(source, &["prefix"]);
    printable(prefix, &format!("{field}[{n}].prefix"), problems);
    let mut count = 0;
    for key in ["configMapRef", "secretRef"] {
        let Some(reference) = at(source, &[key]) else {
            continue;
        };
        count += 1;
        let field = format!("{field}[{n}].{key}.name");
        let name = text(reference, &["name"]);
        if name.is_empty() {
            problems.required(&field, "");
            continue;
        }
        // As the beginning of a name, it may end with a dash.
        for why in names::dns1123_subdomain(name.strip_suffix('-').unwrap_or(name)) {
            problems.invalid(&field, &name.into(), &why);
        }
    }
    match count {
        0 => problems.invalid(
            field,
            &"".into(),
            "must specify one of: `configMapRef` or `secretRef`",
        ),
        1 => {}
        _ => problems.invalid(field, &"".into(), TWO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(container: Value) -> Vec<String> {
        crate::registry::validate::said(|problems| variables(&container, "c", problems))
    }

    fn from(source: Value) -> Value {
        json!({"env": [{"name": "A", "valueFrom": source}]})
    }

    #[test]
    fn ordinary_variables_are_taken() {
        for container in [
            json!({"env": [{"name": "A"}, {"name": "a.b-c", "value": "x"}]}),
            from(json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}})),
            from(json!({"resourceFieldRef": {"resource": "limits.cpu"}})),
            from(json!({"configMapKeyRef": {"name": "a.b", "key": "K_1"}})),
            from(json!({"secretKeyRef": {"name": "a", "key": "k", "optional": true}})),
            from(json!({"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}})),
            json!({"envFrom": [{"configMapRef": {"name": "a"}}, {"prefix": "P_", "secretRef": {"name": "b"}}]}),
        ] {
            assert_eq!(said(container.clone()), Vec::<String>::new(), "{container}");
        }
    }

    #[test]
    fn variables_from_nowhere_or_from_two_places_are_refused() {
        let reference = json!({"name": "a", "key": "k"});
        let of = "c.env[0].valueFrom";
        for (container, expected) in [
            (
                from(json!({})),
                format!("{of}: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"),
            ),
            (
                from(json!({"configMapKeyRef": reference, "secretKeyRef": reference})),
                format!("{of}: Invalid value: \"\": {TWO}"),
            ),
            (
                json!({"env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": reference}}]}),
                format!("{of}: Invalid value: \"\": may not be specified when `value` is not empty"),
            ),
            (
                from(json!({"configMapKeyRef": {"name": "a"}})),
                format!("{of}.configMapKeyRef.key: Required value"),
            ),
            (
                from(json!({"secretKeyRef": {"name": "a", "key": ".."}})),
                format!("{of}.secretKeyRef.key: Invalid value: \"..\": must not be '..'"),
            ),
            (
                json!({"env": [{"name": "A=B"}]}),
                format!("c.env[0].name: Invalid value: \"A=B\": {NAME}"),
            ),
            (
                json!({"envFrom": [{"prefix": "P"}]}),
                "c.envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`".to_owned(),
            ),
            (
                json!({"envFrom": [{"configMapRef": {"name": "a"}, "secretRef": {"name": "a"}}]}),
                format!("c.envFrom: Invalid value: \"\": {TWO}"),
            ),
            (
                json!({"envFrom": [{"secretRef": {}}]}),
                "c.envFrom[0].secretRef.name: Required value".to_owned(),
            ),
            (
                json!({"envFrom": [{"prefix": "A=", "secretRef": {"name": "a"}}]}),
                format!("c.envFrom[0].prefix: Invalid value: \"A=\": {NAME}"),
            ),
        ] {
            assert_eq!(said(container), [expected]);
        }
        let nameless = said(from(json!({"configMapKeyRef": {"key": "k"}})));
        assert!(
            nameless[0].starts_with("c.env[0].valueFrom.configMapKeyRef.name: Invalid value: \"\""),
            "{nameless:?}"
        );
    }
}
