//! Which fields a field selector may name, where they are more than one or two.

use super::Field;

/// A field named as it is found.
pub(super) const fn field(name: &'static str, path: &'static [&'static str]) -> Field {
    Field { name, path }
}

pub(super) const POD: &[Field] = &[
    field("spec.nodeName", &["spec", "nodeName"]),
    field("spec.restartPolicy", &["spec", "restartPolicy"]),
    field("spec.schedulerName", &["spec", "schedulerName"]),
    field("spec.serviceAccountName", &["spec", "serviceAccountName"]),
    field("spec.hostNetwork", &["spec", "hostNetwork"]),
    field("status.phase", &["status", "phase"]),
    field("status.podIP", &["status", "podIP"]),
    field("status.nominatedNodeName", &["status", "nominatedNodeName"]),
];

pub(super) const EVENT: &[Field] = &[
    field("involvedObject.kind", &["involvedObject", "kind"]),
    field("involvedObject.namespace", &["involvedObject", "namespace"]),
    field("involvedObject.name", &["involvedObject", "name"]),
    field("involvedObject.uid", &["involvedObject", "uid"]),
    field(
        "involvedObject.apiVersion",
        &["involvedObject", "apiVersion"],
    ),
    field(
        "involvedObject.resourceVersion",
        &["involvedObject", "resourceVersion"],
    ),
    field("involvedObject.fieldPath", &["involvedObject", "fieldPath"]),
    field("reason", &["reason"]),
    field("reportingComponent", &["reportingComponent"]),
    field("source", &["source", "component"]),
    field("type", &["type"]),
];

/// The stored form is core's, so the paths are core's too.
pub(super) const NEW_EVENT: &[Field] = &[
    field("regarding.kind", &["involvedObject", "kind"]),
    field("regarding.namespace", &["involvedObject", "namespace"]),
    field("regarding.name", &["involvedObject", "name"]),
    field("regarding.uid", &["involvedObject", "uid"]),
    field("regarding.apiVersion", &["involvedObject", "apiVersion"]),
    field(
        "regarding.resourceVersion",
        &["involvedObject", "resourceVersion"],
    ),
    field("regarding.fieldPath", &["involvedObject", "fieldPath"]),
    field("reason", &["reason"]),
    field("reportingController", &["reportingComponent"]),
    field("source", &["source", "component"]),
    field("type", &["type"]),
];
