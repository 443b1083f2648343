//! Strategies of kinds that are mostly just kept: Ingresses, webhook configurations, APIServices, signing requests,
//! VolumeAttachments.

use serde_json::{Value, json};

use crate::object::text;

/// Where traffic comes in is not the user's to say.
pub fn ingress_create(object: &mut Value) {
    object["status"] = json!({"loadBalancer": {}});
}

/// The spec stays as it was.
pub fn keep_spec(new: &mut Value, old: &Value) {
    new["spec"] = old["spec"].clone();
}

/// Webhooks are not in a spec, and changes of them are counted all the same.
pub fn webhooks_update(new: &mut Value, old: &Value) {
    if new.get("webhooks") != old.get("webhooks") {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        new["metadata"]["generation"] = generation.into();
    }
}

/// A slice has no spec either: changes of all but its metadata are counted, and of its labels.
pub fn slice_update(new: &mut Value, old: &Value) {
    let content = |slice: &Value| {
        let mut slice = slice.clone();
        slice["metadata"] = json!({"labels": slice["metadata"]["labels"]});
        slice
    };
    if content(new) != content(old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        new["metadata"]["generation"] = generation.into();
    }
}

pub fn attachment_create(object: &mut Value) {
    object["status"] = json!({"attached": false});
}

/// Whether a group version is answered: one without a Service is this server's own.
pub fn api_service_create(object: &mut Value) {
    let service = &object["spec"]["service"];
    let condition = if service.is_object() {
        let path = format!(
            "/apis/{}/{}",
            text(object, &["spec", "group"]),
            text(object, &["spec", "version"])
        );
        json!({
            "type": "Available", "status": "False", "reason": "FailedDiscoveryCheck",
            "message": format!(
                "failing or missing response from {path}: this server does not pass requests on to Services, so that {}/{} is not asked",
                text(service, &["namespace"]), text(service, &["name"]),
            ),
            "lastTransitionTime": crate::time::now(),
        })
    } else {
        json!({
            "type": "Available", "status": "True", "reason": "Local",
            "message": "Local APIServices are always available",
            "lastTransitionTime": crate::time::now(),
        })
    };
    object["status"] = json!({"conditions": [condition]});
}

/// Another Service, or none any more, is another answer.
pub fn api_service_update(new: &mut Value, old: &Value) {
    if new["spec"].get("service") != old["spec"].get("service") {
        api_service_create(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_services_say_whether_they_are_answered() {
        let mut local = json!({"spec": {"group": "apps", "version": "v1"}});
        api_service_create(&mut local);
        assert_eq!(local["status"]["conditions"][0]["reason"], "Local");
        let mut remote = local.clone();
        remote["spec"]["service"] = json!({"namespace": "n", "name": "s"});
        api_service_update(&mut remote, &local);
        let condition = &remote["status"]["conditions"][0];
        assert_eq!(condition["status"], "False");
        assert!(text(condition, &["message"]).contains("n/s is not asked"));
    }

    #[test]
    fn changed_slices_are_counted() {
        let old = json!({"metadata": {"generation": 3, "labels": {"a": "b"}, "resourceVersion": "1"}, "endpoints": [1]});
        let changed = |change: fn(&mut Value)| {
            let mut new = old.clone();
            change(&mut new);
            slice_update(&mut new, &old);
            new["metadata"]["generation"].as_i64()
        };
        assert_eq!(
            changed(|slice| slice["metadata"]["resourceVersion"] = "2".into()),
            Some(3)
        );
        assert_eq!(
            changed(|slice| slice["metadata"]["annotations"] = json!({"c": "d"})),
            Some(3)
        );
        assert_eq!(
            changed(|slice| slice["metadata"]["labels"]["a"] = "c".into()),
            Some(4)
        );
        assert_eq!(changed(|slice| slice["endpoints"] = json!([2])), Some(4));
    }

    #[test]
    fn changed_webhooks_are_counted() {
        let old = json!({"metadata": {"generation": 1}, "webhooks": [1]});
        let (mut same, mut other) = (old.clone(), old.clone());
        webhooks_update(&mut same, &old);
        assert_eq!(same, old);
        other["webhooks"] = json!([2]);
        webhooks_update(&mut other, &old);
        assert_eq!(other["metadata"]["generation"], 2);
    }
}
