//! Printer columns: what `kubectl get` shows of each kind (upstream `pkg/printers/internalversion`).

mod apps;
mod autoscaler;
mod batch;
mod cluster;
mod decisions;
mod extensions;
mod ingress;
mod kept;
mod limits;
mod network;
mod placement;
mod pods;
mod rbac;
mod storage;
mod workloads;

use serde_json::Value;

use crate::object::text;

pub use apps::{
    CONTROLLER_REVISION, DAEMON_SET, POD_TEMPLATE, REPLICATION_CONTROLLER, STATEFUL_SET,
    controller_revision, daemon_set, pod_template, replication_controller, stateful_set,
};
pub use autoscaler::{HPA, hpa, hpa_v1};
pub use batch::{CRON_JOB, JOB, cron_job, job};
pub use cluster::{
    CONFIG_MAP, EVENT, LEASE, NAMESPACE, NODE, SECRET, SERVICE_ACCOUNT, config_map, event, lease,
    namespace, new_event, node, secret, service_account,
};
pub use decisions::{SCALING_DECISION, scaling_decision};
pub use extensions::DEFINITION;
pub use ingress::{
    INGRESS, INGRESS_CLASS, IP_ADDRESS, SERVICE_CIDR, ingress, ingress_class, ip_address,
    service_cidr,
};
pub use kept::{
    API_SERVICE, ATTRIBUTES_CLASS, COMPONENT_STATUS, CSI_CAPACITY, CSI_DRIVER, CSI_NODE,
    FLOW_SCHEMA, MUTATING_POLICY, POLICY_BINDING, PRIORITY_LEVEL, RUNTIME_CLASS, VALIDATING_POLICY,
    VOLUME_ATTACHMENT, WEBHOOKS, api_service, attributes_class_row, component_status, csi_capacity,
    csi_driver, csi_node, flow_schema, mutating_policy, policy_binding, priority_level,
    runtime_class, validating_policy, volume_attachment, webhooks,
};
pub use limits::{RESOURCE_QUOTA, SIGNING_REQUEST, resource_quota, signing_request};
pub use network::{
    ENDPOINT_SLICE, ENDPOINTS, NETWORK_POLICY, SERVICE, endpoint_slice, endpoints, network_policy,
    service,
};
pub use placement::{DISRUPTION_BUDGET, PRIORITY_CLASS, disruption_budget, priority_class};
pub use pods::{POD, pod};
pub use rbac::{BINDING, ROLE, binding, role};
pub use storage::{CLAIM, CLASS, VOLUME, claim, class_of, is_default_class, storage_class, volume};
pub use workloads::{DEPLOYMENT, REPLICA_SET, deployment, replica_set};

/// One column of a table.
pub struct Column {
    pub name: &'static str,
    /// OpenAPI type: string, integer.
    pub kind: &'static str,
    pub format: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    priority: 0,
};
const AGE: Column = string("Age");

const fn string(name: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        priority: 0,
    }
}

const fn wide(name: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        priority: 1,
    }
}

const fn integer(name: &'static str) -> Column {
    Column {
        name,
        kind: "integer",
        format: "",
        priority: 0,
    }
}

/// The scale subresource.
pub const SCALE: &[Column] = &[NAME, integer("Desired"), integer("Available"), AGE];

/// The cells of a Scale.
pub fn scale(object: &Value) -> Vec<Value> {
    let replicas = |of: &str| object[of]["replicas"].as_i64().unwrap_or(0).into();
    vec![
        name(object),
        replicas("spec"),
        replicas("status"),
        age(object),
    ]
}

/// Name and age.
pub const PLAIN: &[Column] = &[NAME, AGE];

pub fn plain(object: &Value) -> Vec<Value> {
    vec![name(object), age(object)]
}

fn name(object: &Value) -> Value {
    text(object, &["metadata", "name"]).into()
}

fn age(object: &Value) -> Value {
    crate::time::age(object["metadata"]["creationTimestamp"].as_str()).into()
}

/// `text`, or `otherwise` when it is empty.
fn or(text: &str, otherwise: &str) -> Value {
    if text.is_empty() {
        otherwise.into()
    } else {
        text.into()
    }
}
