//! Columns of the kinds that are mostly just kept: admission, APIServices, flow control, RuntimeClasses, CSI.

use serde_json::{Value, json};

use super::{AGE, Column, NAME, age, integer, name, or, string};
use crate::object::{at, items, text};

const fn boolean(name: &'static str) -> Column {
    Column {
        kind: "boolean",
        ..string(name)
    }
}

pub const WEBHOOKS: &[Column] = &[NAME, integer("Webhooks"), AGE];

pub fn webhooks(object: &Value) -> Vec<Value> {
    let number = items(object, &["webhooks"]).len();
    vec![name(object), number.into(), age(object)]
}

pub const VALIDATING_POLICY: &[Column] = &[NAME, integer("Validations"), string("ParamKind"), AGE];
pub const MUTATING_POLICY: &[Column] = &[NAME, integer("Mutations"), string("ParamKind"), AGE];

fn policy(object: &Value, rules: &str) -> Vec<Value> {
    let kind = match at(object, &["spec", "paramKind"]) {
        Some(kind) => format!("{}/{}", text(kind, &["apiVersion"]), text(kind, &["kind"])),
        None => "<unset>".into(),
    };
    let number = items(object, &["spec", rules]).len();
    vec![name(object), number.into(), kind.into(), age(object)]
}

pub fn validating_policy(object: &Value) -> Vec<Value> {
    policy(object, "validations")
}

pub fn mutating_policy(object: &Value) -> Vec<Value> {
    policy(object, "mutations")
}

pub const POLICY_BINDING: &[Column] = &[NAME, string("PolicyName"), string("ParamRef"), AGE];

pub fn policy_binding(object: &Value) -> Vec<Value> {
    let parameters = match at(object, &["spec", "paramRef"]) {
        None => "<unset>".into(),
        Some(reference) => match (text(reference, &["namespace"]), text(reference, &["name"])) {
            (_, "") => {
                let selector = crate::handlers::selector_text(&reference["selector"]);
                or(&selector, "<none>")
            }
            ("", name) => format!("*/{name}").into(),
            (namespace, name) => format!("{namespace}/{name}").into(),
        },
    };
    vec![
        name(object),
        text(object, &["spec", "policyName"]).into(),
        parameters,
        age(object),
    ]
}

pub const API_SERVICE: &[Column] = &[NAME, string("Service"), string("Available"), AGE];

pub fn api_service(object: &Value) -> Vec<Value> {
    let service = match at(object, &["spec", "service"]) {
        Some(service) => format!(
            "{}/{}",
            text(service, &["namespace"]),
            text(service, &["name"])
        ),
        None => "Local".into(),
    };
    let available = items(object, &["status", "conditions"])
        .iter()
        .find(|condition| condition["type"] == "Available");
    let available = match available {
        Some(condition) if condition["status"] == "True" => "True".to_owned(),
        Some(condition) => format!(
            "{} ({})",
            text(condition, &["status"]),
            text(condition, &["reason"])
        ),
        None => "Unknown".to_owned(),
    };
    vec![name(object), service.into(), available.into(), age(object)]
}

pub const COMPONENT_STATUS: &[Column] =
    &[NAME, string("Status"), string("Message"), string("Error")];

pub fn component_status(object: &Value) -> Vec<Value> {
    let healthy = items(object, &["conditions"])
        .iter()
        .find(|condition| condition["type"] == "Healthy");
    let (status, message, error) = match healthy {
        Some(healthy) => (
            if healthy["status"] == "True" {
                "Healthy"
            } else {
                "Unhealthy"
            },
            text(healthy, &["message"]),
            text(healthy, &["error"]),
        ),
        None => ("Unknown", "", ""),
    };
    vec![name(object), status.into(), message.into(), error.into()]
}

pub const FLOW_SCHEMA: &[Column] = &[
    NAME,
    string("PriorityLevel"),
    string("MatchingPrecedence"),
    string("DistinguisherMethod"),
    AGE,
    string("MissingPL"),
];

pub fn flow_schema(object: &Value) -> Vec<Value> {
    let spec = &object["spec"];
    let dangling = items(object, &["status", "conditions"])
        .iter()
        .find(|condition| condition["type"] == "Dangling");
    vec![
        name(object),
        text(spec, &["priorityLevelConfiguration", "name"]).into(),
        spec["matchingPrecedence"].as_i64().unwrap_or(0).into(),
        or(text(spec, &["distinguisherMethod", "type"]), "<none>"),
        age(object),
        dangling.map_or("?".into(), |c| text(c, &["status"]).into()),
    ]
}

pub const PRIORITY_LEVEL: &[Column] = &[
    NAME,
    string("Type"),
    string("NominalConcurrencyShares"),
    string("Queues"),
    string("HandSize"),
    string("QueueLengthLimit"),
    AGE,
];

pub fn priority_level(object: &Value) -> Vec<Value> {
    let limited = &object["spec"]["limited"];
    let or_none = |value: &Value| match value {
        Value::Null => json!("<none>"),
        number => number.clone(),
    };
    let queuing = &limited["limitResponse"]["queuing"];
    vec![
        name(object),
        text(object, &["spec", "type"]).into(),
        or_none(&limited["nominalConcurrencyShares"]),
        or_none(&queuing["queues"]),
        or_none(&queuing["handSize"]),
        or_none(&queuing["queueLengthLimit"]),
        age(object),
    ]
}

pub const RUNTIME_CLASS: &[Column] = &[NAME, string("Handler"), AGE];

pub fn runtime_class(object: &Value) -> Vec<Value> {
    vec![name(object), text(object, &["handler"]).into(), age(object)]
}

pub const CSI_DRIVER: &[Column] = &[
    NAME,
    boolean("AttachRequired"),
    boolean("PodInfoOnMount"),
    boolean("StorageCapacity"),
    string("TokenRequests"),
    boolean("RequiresRepublish"),
    string("Modes"),
    AGE,
];

pub fn csi_driver(object: &Value) -> Vec<Value> {
    let spec = &object["spec"];
    let on =
        |key: &str, otherwise: bool| -> Value { spec[key].as_bool().unwrap_or(otherwise).into() };
    let joined = |list: Vec<&str>| list.join(",");
    let modes = items(spec, &["volumeLifecycleModes"]).iter();
    let modes = joined(modes.filter_map(Value::as_str).collect());
    let tokens = at(spec, &["tokenRequests"]).map(|_| {
        let requests = items(spec, &["tokenRequests"]).iter();
        joined(
            requests
                .map(|request| text(request, &["audience"]))
                .collect(),
        )
    });
    vec![
        name(object),
        on("attachRequired", true),
        on("podInfoOnMount", false),
        on("storageCapacity", false),
        tokens.map_or("<unset>".into(), Value::from),
        on("requiresRepublish", false),
        or(&modes, "<none>"),
        age(object),
    ]
}

pub const CSI_NODE: &[Column] = &[NAME, integer("Drivers"), AGE];

pub fn csi_node(object: &Value) -> Vec<Value> {
    let number = items(object, &["spec", "drivers"]).len();
    vec![name(object), number.into(), age(object)]
}

pub const VOLUME_ATTACHMENT: &[Column] = &[
    NAME,
    Column {
        format: "name",
        ..string("Attacher")
    },
    string("PV"),
    string("Node"),
    boolean("Attached"),
    AGE,
];

pub fn volume_attachment(object: &Value) -> Vec<Value> {
    let spec = &object["spec"];
    vec![
        name(object),
        text(spec, &["attacher"]).into(),
        text(spec, &["source", "persistentVolumeName"]).into(),
        text(spec, &["nodeName"]).into(),
        object["status"]["attached"]
            .as_bool()
            .unwrap_or(false)
            .into(),
        age(object),
    ]
}

pub const CSI_CAPACITY: &[Column] = &[NAME, string("StorageClassName"), string("Capacity")];

pub fn csi_capacity(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        text(object, &["storageClassName"]).into(),
        or(text(object, &["capacity"]), "<unset>"),
    ]
}

pub const ATTRIBUTES_CLASS: &[Column] = &[NAME, string("DriverName"), AGE];

pub fn attributes_class_row(object: &Value) -> Vec<Value> {
    const DEFAULT: &str = "volumeattributesclass.kubernetes.io/is-default-class";
    let default = object["metadata"]["annotations"][DEFAULT] == "true";
    let shown = match default {
        true => format!("{} (default)", text(object, &["metadata", "name"])).into(),
        false => name(object),
    };
    vec![shown, text(object, &["driverName"]).into(), age(object)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells() {
        let named = |mut object: Value| {
            object["metadata"] = json!({"name": "a"});
            object
        };
        for (cells, object, expected) in [
            (
                webhooks as fn(&Value) -> Vec<Value>,
                json!({"webhooks": [{}, {}]}),
                json!(["a", 2, "<unknown>"]),
            ),
            (
                validating_policy,
                json!({"spec": {"validations": [{}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}}),
                json!(["a", 1, "v1/ConfigMap", "<unknown>"]),
            ),
            (
                policy_binding,
                json!({"spec": {"policyName": "p", "paramRef": {"name": "n"}}}),
                json!(["a", "p", "*/n", "<unknown>"]),
            ),
            (
                api_service,
                json!({"status": {"conditions": [{"type": "Available", "status": "True"}]}}),
                json!(["a", "Local", "True", "<unknown>"]),
            ),
            (
                api_service,
                json!({"spec": {"service": {"namespace": "n", "name": "s"}}, "status": {"conditions": [
                    {"type": "Available", "status": "False", "reason": "FailedDiscoveryCheck"}]}}),
                json!(["a", "n/s", "False (FailedDiscoveryCheck)", "<unknown>"]),
            ),
            (
                component_status,
                json!({"conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]}),
                json!(["a", "Healthy", "ok", ""]),
            ),
            (
                flow_schema,
                json!({"spec": {"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 5}}),
                json!(["a", "p", 5, "<none>", "<unknown>", "?"]),
            ),
            (
                priority_level,
                json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 3}}}),
                json!(["a", "Limited", 3, "<none>", "<none>", "<none>", "<unknown>"]),
            ),
            (
                csi_driver,
                json!({"spec": {"tokenRequests": [{"audience": "x"}], "volumeLifecycleModes": ["Persistent", "Ephemeral"]}}),
                json!([
                    "a",
                    true,
                    false,
                    false,
                    "x",
                    false,
                    "Persistent,Ephemeral",
                    "<unknown>"
                ]),
            ),
            (
                volume_attachment,
                json!({"spec": {"attacher": "x", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
                json!(["a", "x", "v", "n", false, "<unknown>"]),
            ),
            (
                csi_capacity,
                json!({"storageClassName": "c"}),
                json!(["a", "c", "<unset>"]),
            ),
        ] {
            assert_eq!(Value::from(cells(&named(object))), expected);
        }
    }
}
