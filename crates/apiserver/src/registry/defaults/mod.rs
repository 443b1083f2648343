//! Defaults of every kind (upstream `pkg/apis/*/v1/defaults.go`).

use serde_json::{Map, Value, json};

use crate::object::text;

mod apps;
mod batch;
mod kept;
mod placement;
mod pod;
mod rbac;
mod storage;

pub use apps::{daemon_set, pod_template, replication_controller, stateful_set};
pub use batch::{cron_job, job};
pub use kept::{
    admission_policy, api_service, csi_driver, flow_schema, ingress_class, limit_range,
    mutating_webhooks, policy_binding, priority_level, validating_webhooks,
};
pub use placement::priority_class;
use pod::host_ports;
pub use pod::{pod, pod_spec};
pub use rbac::role_binding;
pub use storage::{claim, class, volume};

/// No defaults.
pub fn nothing(_: &mut Value) {}

/// Sets a field that is not there.
fn set(object: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        map.entry(key).or_insert_with(|| default.into());
    }
}

/// The object at a key, made when missing.
fn child<'a>(object: &'a mut Value, key: &str) -> &'a mut Value {
    if !object[key].is_object() {
        object[key] = Value::Object(Map::new());
    }
    &mut object[key]
}

/// Runs over the items of a list.
fn each(object: &mut Value, key: &str, run: impl FnMut(&mut Value)) {
    if let Some(list) = object.get_mut(key).and_then(Value::as_array_mut) {
        list.iter_mut().for_each(run);
    }
}

pub fn namespace(object: &mut Value) {
    let name = text(object, &["metadata", "name"]).to_owned();
    if !name.is_empty() {
        let labels = child(child(object, "metadata"), "labels");
        labels["kubernetes.io/metadata.name"] = name.into();
    }
    set(child(object, "status"), "phase", "Active");
}

pub fn node(object: &mut Value) {
    child(object, "spec");
    if let Some(capacity) = object["status"].get("capacity").cloned() {
        set(&mut object["status"], "allocatable", capacity);
    }
}

pub fn secret(object: &mut Value) {
    set(object, "type", "Opaque");
}

pub fn endpoints(object: &mut Value) {
    each(object, "subsets", |subset| {
        each(subset, "ports", |port| set(port, "protocol", "TCP"))
    });
}

pub fn endpoint_slice(object: &mut Value) {
    each(object, "ports", |port| {
        set(port, "name", "");
        set(port, "protocol", "TCP");
    });
}

pub fn network_policy(object: &mut Value) {
    let spec = child(object, "spec");
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| {
            each(rule, "ports", |port| set(port, "protocol", "TCP"));
        });
    }
    let has_egress = spec["egress"]
        .as_array()
        .is_some_and(|rules| !rules.is_empty());
    let types = if has_egress {
        json!(["Ingress", "Egress"])
    } else {
        json!(["Ingress"])
    };
    if spec["policyTypes"].as_array().is_none_or(Vec::is_empty) {
        spec["policyTypes"] = types;
    }
}

fn template(spec: &mut Value) {
    let template = child(spec, "template");
    child(template, "metadata");
    pod_spec(child(template, "spec"));
    if template["spec"]["hostNetwork"] == true {
        host_ports(&mut template["spec"]);
    }
}

pub fn deployment(object: &mut Value) {
    let spec = child(object, "spec");
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    let strategy = child(spec, "strategy");
    if text(strategy, &["type"]).is_empty() {
        strategy["type"] = "RollingUpdate".into();
    }
    if strategy["type"] == "RollingUpdate" {
        let rolling = child(strategy, "rollingUpdate");
        set(rolling, "maxUnavailable", "25%");
        set(rolling, "maxSurge", "25%");
    }
    template(spec);
}

pub fn replica_set(object: &mut Value) {
    let spec = child(object, "spec");
    set(spec, "replicas", 1);
    template(spec);
}

pub fn service(object: &mut Value) {
    let spec = child(object, "spec");
    set(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "None" {
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("sessionAffinityConfig");
        }
    } else if spec["sessionAffinity"] == "ClientIP" {
        let client = child(child(spec, "sessionAffinityConfig"), "clientIP");
        set(client, "timeoutSeconds", 10800);
    }
    set(spec, "type", "ClusterIP");
    each(spec, "ports", |port| {
        set(port, "protocol", "TCP");
        let number = port["port"].clone();
        if matches!(&port["targetPort"], Value::Null)
            || port["targetPort"] == 0
            || port["targetPort"] == ""
        {
            port["targetPort"] = number;
        }
    });
    let kind = text(spec, &["type"]).to_owned();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind != "ExternalName" {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    object["status"] = match object.get("status") {
        Some(status) => status.clone(),
        None => json!({"loadBalancer": {}}),
    };
}

/// Utilisation of CPU that an HPA without metrics aims at.
const CPU_UTILIZATION: i64 = 80;

pub fn hpa(object: &mut Value) {
    let spec = child(object, "spec");
    set(spec, "minReplicas", 1);
    if crate::object::items(spec, &["metrics"]).is_empty() {
        spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": CPU_UTILIZATION}}}]);
    }
    if let Some(behavior) = spec.get_mut("behavior").filter(|b| b.is_object()) {
        let up = child(behavior, "scaleUp");
        set(up, "stabilizationWindowSeconds", 0);
        scaling_rules(
            up,
            json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
        let down = child(behavior, "scaleDown");
        scaling_rules(
            down,
            json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
    }
}

fn scaling_rules(rules: &mut Value, policies: Value) {
    set(rules, "selectPolicy", "Max");
    set(rules, "policies", policies);
}

pub fn hpa_v1(object: &mut Value) {
    let spec = child(object, "spec");
    set(spec, "minReplicas", 1);
    // What the annotations hold comes back in the conversion; without them CPU is the default.
    let annotated =
        !object["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].is_null();
    if !annotated {
        set(
            &mut object["spec"],
            "targetCPUUtilizationPercentage",
            CPU_UTILIZATION,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployments_get_upstreams_defaults() {
        let mut object =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a"}]}}}});
        deployment(&mut object);
        assert_eq!(
            object,
            json!({"spec": {
                "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
                "template": {"metadata": {}, "spec": {
                    "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
                    "schedulerName": "default-scheduler", "securityContext": {},
                    "containers": [{"name": "a", "image": "a", "imagePullPolicy": "Always", "resources": {},
                        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}]}}}})
        );
        let before = object.clone();
        deployment(&mut object);
        assert_eq!(object, before, "defaulting twice changes nothing");
    }

    #[test]
    fn limits_are_requested_in_pods_alone() {
        let limited = json!({"containers": [{"name": "a", "image": "a:1", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}]});
        let mut object = json!({"spec": limited});
        pod(&mut object);
        assert_eq!(
            object["spec"]["containers"][0]["resources"]["requests"],
            json!({"cpu": "100m", "memory": "1Gi"})
        );
        let mut object = json!({"spec": {"template": {"spec": limited}}});
        replica_set(&mut object);
        assert_eq!(
            object["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"],
            json!({"cpu": "100m"})
        );
    }

    #[test]
    fn services_and_autoscalers() {
        let mut object = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        service(&mut object);
        assert_eq!(
            object["spec"]["ports"],
            json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
        );
        assert_eq!(object["spec"]["externalTrafficPolicy"], "Cluster");
        let mut object =
            json!({"spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"policies": []}}}});
        hpa(&mut object);
        assert_eq!(
            object["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
            80
        );
        assert_eq!(
            object["spec"]["behavior"]["scaleUp"]["policies"][0]["value"],
            4
        );
        assert_eq!(
            object["spec"]["behavior"]["scaleDown"]["selectPolicy"],
            "Max"
        );
    }
}
