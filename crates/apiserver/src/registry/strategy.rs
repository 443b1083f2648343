//! What creates and updates may set (upstream's registry strategies), on stored objects.

mod apps;
mod batch;
mod kept;

use serde_json::{Value, json};

mod placement;
mod traffic;

pub use kept::{
    api_service_create, api_service_update, attachment_create, ingress_create, keep_spec,
    slice_update, webhooks_update,
};
pub use placement::disruption_budget_create;

use crate::object::{at, items, text};
use crate::quantity::Quantity;
pub use apps::{
    daemon_set_create, daemon_set_update, pod_template_update, replication_controller_create,
    stateful_set_create,
};
pub(crate) use batch::{NAME_LABELS, UID_LABELS};
pub use batch::{cron_job_create, job_create, job_named, job_update};

/// Leaves a new object as it is.
pub fn keep(_: &mut Value) {}

/// Leaves an update as it is.
pub fn keep_update(_: &mut Value, _: &Value) {}

/// A new object's status is the controllers' to write.
pub fn drop_status(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert("status".into(), json!({}));
    }
}

pub fn namespace_create(object: &mut Value) {
    object["status"] = json!({"phase": "Active"});
    let mut finalizers = items(object, &["spec", "finalizers"]).to_vec();
    if !finalizers.iter().any(|f| f == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    object["spec"] = json!({"finalizers": finalizers});
}

/// Selectors of namespaces find one by its name, also by one that was made for it.
pub fn namespace_named(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
}

/// Finalizers change by the `finalize` subresource only.
pub fn namespace_update(new: &mut Value, old: &Value) {
    new["spec"] = old["spec"].clone();
}

/// `stringData` is write-only: it goes into `data`.
pub fn secret(object: &mut Value) {
    use base64::Engine as _;
    let Some(Value::Object(plain)) = object.as_object_mut().and_then(|o| o.remove("stringData"))
    else {
        return;
    };
    if !object["data"].is_object() {
        object["data"] = json!({});
    }
    for (key, value) in plain {
        let text = value.as_str().unwrap_or_default();
        object["data"][key] = base64::engine::general_purpose::STANDARD
            .encode(text)
            .into();
    }
}

/// The type stays when it is not named.
pub fn secret_update(new: &mut Value, old: &Value) {
    secret(new);
    if text(new, &["type"]).is_empty() {
        new["type"] = old["type"].clone();
    }
}

pub fn service_create(object: &mut Value) {
    object["status"] = json!({"loadBalancer": {}});
    one_address_is_the_first(object);
}

/// Clients that know of one address mean a list of it.
fn one_address_is_the_first(service: &mut Value) {
    let address = text(service, &["spec", "clusterIP"]).to_owned();
    if !address.is_empty() && items(service, &["spec", "clusterIPs"]).is_empty() {
        service["spec"]["clusterIPs"] = json!([address]);
    }
}

/// A Service that does not name its address or families keeps them, except when it changes to ExternalName.
pub fn service_update(new: &mut Value, old: &Value) {
    drop_node_ports(new, old);
    traffic::drop_with_type(new, old);
    if text(new, &["spec", "type"]) == "ExternalName" {
        if let Some(spec) = new["spec"].as_object_mut()
            && old["spec"]["type"] != "ExternalName"
        {
            // What was changed with the type is a mistake to be told.
            for key in [
                "clusterIP",
                "clusterIPs",
                "ipFamilies",
                "ipFamilyPolicy",
                "internalTrafficPolicy",
            ] {
                if spec.get(key) == old["spec"].get(key) {
                    spec.remove(key);
                }
            }
        }
        return;
    }
    let said = |service: &Value| text(service, &["spec", "clusterIP"]).to_owned();
    let listed = |service: &Value| items(service, &["spec", "clusterIPs"]).to_vec();
    // Clients that know of one address change it, and leave the list as it was.
    if !said(new).is_empty() && said(new) != said(old) && listed(new) == listed(old) {
        new["spec"]["clusterIPs"] = json!([said(new)]);
    }
    if said(new).is_empty()
        && (listed(new).is_empty() || listed(new) == listed(old))
        && let Some(kept) = at(old, &["spec", "clusterIP"])
    {
        new["spec"]["clusterIP"] = kept.clone();
    }
    if listed(new).is_empty()
        && said(new) == said(old)
        && let Some(kept) = at(old, &["spec", "clusterIPs"])
    {
        new["spec"]["clusterIPs"] = kept.clone();
    }
    one_address_is_the_first(new);
}

/// Node ports go with the type that had them, unless they were changed, which is a mistake to be told (upstream
/// `dropTypeDependentFields`).
fn drop_node_ports(new: &mut Value, old: &Value) {
    let uses = |service: &Value| {
        matches!(
            text(service, &["spec", "type"]),
            "NodePort" | "LoadBalancer"
        )
    };
    let numbers = |service: &Value| -> Vec<Value> {
        let ports = items(service, &["spec", "ports"]).iter();
        ports.map(|port| port["nodePort"].clone()).collect()
    };
    if uses(new) || !uses(old) || numbers(new) != numbers(old) {
        return;
    }
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
    }
}

/// A new pod is pending and belongs to a service account; its priority comes from admission.
pub fn pod_create(object: &mut Value) {
    let qos = qos_class(&object["spec"]);
    object["status"] = json!({"phase": "Pending", "qosClass": qos});
    let spec = &mut object["spec"];
    if text(spec, &["serviceAccountName"]).is_empty() {
        spec["serviceAccountName"] = "default".into();
        spec["serviceAccount"] = "default".into();
    }
    placement::pod_create(object);
}

/// A new volume waits to be looked at, and does not go while a claim has it (upstream's admission plugin
/// StorageObjectInUseProtection).
pub fn volume_create(object: &mut Value) {
    object["status"] = json!({"phase": "Pending"});
    add_finalizer(object, "kubernetes.io/pv-protection");
}

/// A new claim waits for a volume, and does not go while a pod uses it.
pub fn claim_create(object: &mut Value) {
    object["status"] = json!({"phase": "Pending"});
    add_finalizer(object, "kubernetes.io/pvc-protection");
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let mut finalizers = items(object, &["metadata", "finalizers"]).to_vec();
    if !finalizers.iter().any(|known| known == finalizer) {
        finalizers.push(finalizer.into());
    }
    object["metadata"]["finalizers"] = finalizers.into();
}

/// The class of service is decided once.
pub fn pod_update(new: &mut Value, old: &Value) {
    for key in [
        "serviceAccountName",
        "serviceAccount",
        "priority",
        "preemptionPolicy",
        "nodeName",
    ] {
        if at(new, &["spec", key]).is_none()
            && let Some(kept) = at(old, &["spec", key])
        {
            new["spec"][key] = kept.clone();
        }
    }
}

/// Of a pod that is resized only the resources of its containers are taken (upstream `dropNonResizeUpdates`).
pub fn pod_resize(new: &mut Value, old: &Value) {
    let asked = new["spec"].take();
    let managed = new["metadata"].get("managedFields").cloned();
    *new = old.clone();
    if let Some(managed) = managed {
        new["metadata"]["managedFields"] = managed;
    }
    for list in ["containers", "initContainers"] {
        let Some(containers) = new["spec"].get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            let same = |one: &&Value| one["name"] == container["name"];
            if let Some(asked) = items(&asked, &[list]).iter().find(same) {
                container["resources"] = asked["resources"].clone();
            }
        }
    }
}

/// Guaranteed, Burstable or BestEffort (upstream `qos.ComputePodQOS`).
pub fn qos_class(spec: &Value) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    // what the pod asks for as a whole decides alone
    let whole = &spec["resources"];
    let asks = |kind: &str| {
        let resources = ["cpu", "memory"].into_iter();
        resources
            .filter_map(|name| amount(&whole[kind][name]))
            .count()
            > 0
    };
    let lists = match asks("requests") || asks("limits") {
        true => [std::slice::from_ref(spec), &[]],
        false => [
            items(spec, &["containers"]),
            items(spec, &["initContainers"]),
        ],
    };
    for container in lists.into_iter().flatten() {
        for resource in ["cpu", "memory"] {
            let amount = |kind: &str| amount(&container["resources"][kind][resource]);
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// A positive amount in thousandths.
fn amount(value: &Value) -> Option<i128> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let quantity: Quantity = text.parse().ok()?;
    let milli = i128::from(quantity.milli_value());
    (milli > 0).then_some(milli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qos_classes() {
        let cases = [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1"}}), "Burstable"),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
                "Guaranteed",
            ),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}),
                "Guaranteed",
            ),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Mi"}}),
                "Burstable",
            ),
            (json!({"requests": {"cpu": "0"}}), "BestEffort"),
        ];
        for (resources, expected) in cases {
            assert_eq!(
                qos_class(&json!({"containers": [{"resources": resources}]})),
                expected,
                "{resources}"
            );
        }
    }

    #[test]
    fn what_a_pod_asks_for_as_a_whole_decides() {
        let container = json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}});
        for (resources, expected) in [
            (json!({}), "Guaranteed"),
            (json!({"requests": {"hugepages-2Mi": "2Mi"}}), "Guaranteed"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
                "Guaranteed",
            ),
            (
                json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}),
                "Burstable",
            ),
        ] {
            let spec = json!({"containers": [container], "resources": resources});
            assert_eq!(qos_class(&spec), expected, "{resources}");
        }
    }

    #[test]
    fn string_data_becomes_data() {
        let mut object = json!({"stringData": {"a": "hi"}, "data": {"b": "eA=="}});
        secret(&mut object);
        assert_eq!(object, json!({"data": {"a": "aGk=", "b": "eA=="}}));
    }
}
