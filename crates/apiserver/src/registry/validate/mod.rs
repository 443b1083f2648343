//! Validation: what is wrong with which field, in upstream's words.

mod addresses;
mod admission_policy;
mod apps;
mod autoscaler;
mod batch;
mod config;
mod confinement;
mod container;
mod container_security;
#[cfg(test)]
mod corpus;
mod csi;
mod decision;
mod endpoints;
mod env;
mod ephemeral;
mod finalizers;
mod ingress;
mod limits;
mod network;
mod placement;
mod pod;
mod pod_dns;
mod pod_host;
mod pod_security;
mod policy;
mod probe;
mod quotas;
mod rbac;
mod references;
mod resize;
mod resources;
mod restart;
mod serving;
mod signing;
mod storage;
mod tolerations;
mod volume;
mod volume_sources;
mod webhooks;
mod workload;

use serde_json::Value;

use super::names;
use crate::status::Cause;

pub use addresses::{ip_address, ip_address_update, service_cidr, service_cidr_update};
pub use admission_policy::{
    mutating_policy, mutating_policy_binding, validating_policy, validating_policy_binding,
};
pub use apps::{
    controller_revision, controller_revision_update, daemon_set, pod_template,
    replication_controller, stateful_set, stateful_set_update,
};
pub use autoscaler::{hpa, hpa_from, hpa_update, scale};
pub use batch::{cron_job, job, job_update};
pub use config::{config_map, config_map_update, event, lease, new_event, secret, secret_update};
pub use csi::{
    attributes_class, attributes_class_update, csi_capacity, csi_capacity_update, csi_driver,
    csi_driver_update, csi_node, csi_node_update, runtime_class, runtime_class_update,
    volume_attachment, volume_attachment_update,
};
pub use decision::{scaling_decision, scaling_decision_update};
pub use endpoints::endpoints;
pub use ephemeral::{ephemeral_update, pod_create};
pub use finalizers::{finalizers, finalizers_update};
pub use ingress::{ingress, ingress_class, ingress_class_update, ingress_status};
pub use limits::limit_range;
pub use network::{
    endpoint_slice, endpoint_slice_update, is_asked_for_its_health, is_reached_from_outside,
    service, service_families, service_update,
};
pub use placement::{SYSTEM_CLASSES, disruption_budget, priority_class, priority_class_update};
pub use pod::{pod, pod_update};
pub use policy::network_policy;
pub use quotas::{resource_quota, resource_quota_status, resource_quota_update};
pub use rbac::{cluster_role, cluster_role_binding, role, role_binding, role_binding_update};
pub use resize::pod_resize;
pub use serving::{api_service, flow_schema, priority_level};
pub use signing::{signing_request, signing_request_status};
pub use storage::{claim, claim_update, class, class_update, volume, volume_update};
pub use tolerations::node;
pub use webhooks::webhooks;
pub use workload::{deployment, replica_set, selector_update, selects};

/// The field errors found so far.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Cause>);

/// What a check finds, each as `FIELD: MESSAGE`.
#[cfg(test)]
fn said(check: impl FnOnce(&mut Problems)) -> Vec<String> {
    let mut problems = Problems::default();
    check(&mut problems);
    let all = problems.0.into_iter();
    all.map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

impl Problems {
    fn add(&mut self, reason: &'static str, field: &str, message: String) {
        self.0.push(Cause {
            reason,
            message,
            field: field.to_owned(),
        });
    }

    /// A value that is there and wrong.
    pub fn invalid(&mut self, field: &str, value: &Value, why: &str) {
        let shown = show(value);
        self.add(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {shown}: {why}"),
        );
    }

    /// A value that must be there.
    pub fn required(&mut self, field: &str, why: &str) {
        let message = if why.is_empty() {
            "Required value".into()
        } else {
            format!("Required value: {why}")
        };
        self.add("FieldValueRequired", field, message);
    }

    /// A value that is not one of the supported ones.
    pub fn not_supported(&mut self, field: &str, value: &Value, supported: &[&str]) {
        let mut supported: Vec<_> = supported.iter().map(|s| format!("{s:?}")).collect();
        supported.sort();
        let shown = show(value);
        self.add(
            "FieldValueNotSupported",
            field,
            format!(
                "Unsupported value: {shown}: supported values: {}",
                supported.join(", ")
            ),
        );
    }

    /// The name of something that is not there.
    pub fn not_found(&mut self, field: &str, value: &Value) {
        self.add(
            "FieldValueNotFound",
            field,
            format!("Not found: {}", show(value)),
        );
    }

    /// A value that occurs twice.
    pub fn duplicate(&mut self, field: &str, value: &Value) {
        self.add(
            "FieldValueDuplicate",
            field,
            format!("Duplicate value: {}", show(value)),
        );
    }

    /// A value that may not be there.
    pub fn forbidden(&mut self, field: &str, why: &str) {
        self.add("FieldValueForbidden", field, format!("Forbidden: {why}"));
    }

    /// A value longer than allowed, in bytes.
    pub fn too_long(&mut self, field: &str, limit: usize) {
        self.add(
            "FieldValueTooLong",
            field,
            format!("Too long: may not be more than {limit} bytes"),
        );
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value as upstream prints it in a field error: strings quoted, structures as JSON.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        other => other.to_string(),
    }
}

/// Nothing to check.
pub fn nothing(_: &Value, _: &mut Problems) {}

/// Nothing to check in an update.
pub fn nothing_update(_: &Value, _: &Value, _: &mut Problems) {}

/// Nothing to settle or check in a write of a subresource.
pub fn nothing_of_status(_: &mut Value, _: &Value, _: &str, _: &mut Problems) {}

/// Checks label keys and values.
pub fn labels(labels: Option<&Value>, field: &str, problems: &mut Problems) {
    let Some(labels) = labels.and_then(Value::as_object) else {
        return;
    };
    for (key, value) in labels {
        for why in names::label_key(key) {
            problems.invalid(field, &key.as_str().into(), &why);
        }
        for why in names::label_value(value.as_str().unwrap_or_default()) {
            problems.invalid(field, value, &why);
        }
    }
}
/// Checks that a number is at least `least`.
fn at_least(object: &Value, key: &str, least: i64, field: &str, problems: &mut Problems) {
    if let Some(number) = object[key].as_i64()
        && number < least
    {
        let why = if least == 1 {
            "must be greater than 0".into()
        } else {
            format!("must be greater than or equal to {least}")
        };
        problems.invalid(&format!("{field}.{key}"), &number.into(), &why);
    }
}

/// Checks a port number.
fn port_number(number: i64, field: &str, problems: &mut Problems) {
    if !(1..=65535).contains(&number) {
        problems.invalid(
            field,
            &number.into(),
            "must be between 1 and 65535, inclusive",
        );
    }
}

/// Checks that a text is one of a few, when it is there.
fn one_of(object: &Value, key: &str, supported: &[&str], field: &str, problems: &mut Problems) {
    if let Some(text) = object[key].as_str()
        && !supported.contains(&text)
    {
        problems.not_supported(&format!("{field}.{key}"), &object[key], supported);
    }
}
