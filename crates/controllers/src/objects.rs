//! Small questions about API objects that several controllers ask.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::Resource;
use kube::core::{Selector, SelectorExt};
use std::collections::BTreeMap;

/// Name, or nothing.
pub fn name<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

/// Namespace, or nothing.
pub fn namespace<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

/// Uid, or nothing.
pub fn uid<K: Resource>(object: &K) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

/// `NAMESPACE/NAME`.
pub fn key<K: Resource>(object: &K) -> String {
    format!("{}/{}", namespace(object), name(object))
}

/// When the object was made; now, for one that has no time yet.
pub fn created<K: Resource>(object: &K) -> Timestamp {
    object
        .meta()
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::MAX, |time| time.0)
}

/// Someone asked for its deletion.
pub fn is_terminating<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// The annotation's value.
pub fn annotation<'a, K: Resource>(object: &'a K, key: &str) -> Option<&'a str> {
    object
        .meta()
        .annotations
        .as_ref()?
        .get(key)
        .map(String::as_str)
}

/// The owner that manages this object.
pub fn controller_of<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// A reference that makes `owner` the managing owner and lets foreground deletion wait for its dependent.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name(owner).to_owned(),
        uid: uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether `labels` satisfy `selector`; an invalid selector matches nothing.
pub fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    Matcher::new(selector).matches(labels)
}

/// A selector parsed once for many objects; an invalid one matches nothing.
#[derive(Clone, Debug)]
pub struct Matcher(Option<Selector>);

impl Matcher {
    /// Parses.
    pub fn new(selector: &LabelSelector) -> Self {
        Self(Selector::try_from(selector.clone()).ok())
    }

    /// Whether `labels` satisfy it.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let none = BTreeMap::new();
        self.0
            .as_ref()
            .is_some_and(|selector| selector.matches(labels.unwrap_or(&none)))
    }
}

/// The Service has no address of its own.
pub fn is_headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let address = spec.and_then(|spec| spec.cluster_ip.as_deref());
    matches!(address, None | Some("" | "None"))
}

/// Succeeded or Failed: it will not run again.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_terminating(pod)
}

/// `status.phase`, or nothing.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// The pod's condition of this type.
pub fn pod_condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == type_)
}

/// The Ready condition is True.
pub fn is_ready(pod: &Pod) -> bool {
    pod_condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// When the pod last became ready, if it is.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = pod_condition(pod, "Ready")?;
    if condition.status != "True" {
        return None;
    }
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// A node's clock may be so far ahead of ours.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Whether the pod has been ready for `min_ready_seconds`; if it will be, when. One that is ready since a later moment than
/// now was so before the clock went back, and is not made to wait for that moment to come again.
pub fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    if !is_ready(pod) {
        return Availability::No;
    }
    if min_ready_seconds <= 0 {
        return Availability::Yes;
    }
    let Some(since) = ready_since(pod) else {
        return Availability::No;
    };
    let wait = SignedDuration::from_secs(min_ready_seconds.into()) - now.duration_since(since);
    if wait <= SignedDuration::ZERO || since.duration_since(now) > SKEW {
        Availability::Yes
    } else {
        Availability::In(wait)
    }
}

/// See [`availability`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Ready for long enough.
    Yes,
    /// Not ready.
    No,
    /// Ready, and available after this time if it stays so.
    In(SignedDuration),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_available_when_it_was_ready_for_long_enough_by_a_clock_that_may_jump() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).expect("a time");
        let pod = |status: &str| -> Pod {
            let since = at(0).to_string();
            serde_json::from_value(json!({"status": {"conditions": [
                {"type": "Ready", "status": status, "lastTransitionTime": since}]}}))
            .expect("a pod")
        };
        let wait = |seconds| Availability::In(SignedDuration::from_secs(seconds));
        for (status, min_ready, now, expected) in [
            ("False", 10, 100, Availability::No),
            ("True", 0, 0, Availability::Yes),
            ("True", 10, 0, wait(10)),
            ("True", 10, 4, wait(6)),
            ("True", 10, 10, Availability::Yes),
            // the node's clock is a little ahead of ours
            ("True", 10, -5, wait(15)),
            // ours went back by a day
            ("True", 10, -86_400, Availability::Yes),
            ("True", 10, 86_400, Availability::Yes),
        ] {
            let found = availability(&pod(status), min_ready, at(now));
            assert_eq!(found, expected, "{status} {min_ready} {now}");
        }
    }
}
