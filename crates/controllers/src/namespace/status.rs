//! What a namespace's status says while its contents go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::contents::Remaining;

/// The status with upstream's five conditions about deletion.
pub fn with_remaining(
    namespace: &Namespace,
    remaining: &Remaining,
    now: Timestamp,
) -> NamespaceStatus {
    let mut status = namespace.status.clone().unwrap_or_default();
    let objects = counted(&remaining.objects, |kind, count| {
        format!("{kind} has {count} resource instances")
    });
    let finalizers = counted(&remaining.finalizers, |finalizer, count| {
        format!("{finalizer} in {count} resource instances")
    });
    let wanted: [(&str, bool, &str, String); 5] = [
        match &remaining.undiscovered {
            Some(why) => (
                "NamespaceDeletionDiscoveryFailure",
                true,
                "DiscoveryFailed",
                format!("Discovery failed for some groups: {why}"),
            ),
            None => (
                "NamespaceDeletionDiscoveryFailure",
                false,
                "ResourcesDiscovered",
                "All resources successfully discovered".to_owned(),
            ),
        },
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        match remaining.failures.len() {
            0 => (
                "NamespaceDeletionContentFailure",
                false,
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization".to_owned(),
            ),
            count => (
                "NamespaceDeletionContentFailure",
                true,
                "ContentDeletionFailed",
                format!(
                    "Failed to delete all resource types, {count} remaining: {}",
                    told(&remaining.failures)
                ),
            ),
        },
        match objects {
            Some(objects) => (
                "NamespaceContentRemaining",
                true,
                "SomeResourcesRemain",
                format!("Some resources are remaining: {objects}"),
            ),
            None => (
                "NamespaceContentRemaining",
                false,
                "ContentRemoved",
                "All content successfully removed".to_owned(),
            ),
        },
        match finalizers {
            Some(finalizers) => (
                "NamespaceFinalizersRemaining",
                true,
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {finalizers}"),
            ),
            None => (
                "NamespaceFinalizersRemaining",
                false,
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".to_owned(),
            ),
        },
    ];
    let known = status.conditions.take().unwrap_or_default();
    let conditions = wanted.map(|(type_, holds, reason, message)| {
        let value = if holds { "True" } else { "False" };
        let since = known
            .iter()
            .find(|one| one.type_ == type_ && one.status == value)
            .and_then(|one| one.last_transition_time.clone());
        NamespaceCondition {
            type_: type_.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or(Time(whole_second(now)))),
        }
    });
    status.conditions = Some(conditions.into());
    status
}

/// The first of many failures, in words.
fn told(failures: &[String]) -> String {
    const TOLD: usize = 10;
    let mut words = failures[..failures.len().min(TOLD)].join(", ");
    if failures.len() > TOLD {
        words.push_str(", …");
    }
    words
}

fn counted(
    counts: &BTreeMap<String, usize>,
    line: impl Fn(&str, usize) -> String,
) -> Option<String> {
    let lines: Vec<String> = counts
        .iter()
        .map(|(name, count)| line(name, *count))
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_remains_and_keeps_times() {
        let remaining = Remaining {
            objects: [("pods".to_owned(), 2)].into(),
            finalizers: [("example.com/hold".to_owned(), 1)].into(),
            ..Remaining::default()
        };
        let first = with_remaining(
            &Namespace::default(),
            &remaining,
            Timestamp::from_second(100).unwrap(),
        );
        let messages: Vec<&str> = first.conditions.as_ref().unwrap()[3..]
            .iter()
            .map(|condition| condition.message.as_deref().unwrap())
            .collect();
        assert_eq!(
            messages,
            [
                "Some resources are remaining: pods has 2 resource instances",
                "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
            ]
        );
        let namespace = Namespace {
            status: Some(first.clone()),
            ..Default::default()
        };
        let again = with_remaining(&namespace, &remaining, Timestamp::from_second(200).unwrap());
        assert_eq!(again, first, "nothing changed, nothing is written");
        let done = with_remaining(
            &namespace,
            &Remaining::default(),
            Timestamp::from_second(200).unwrap(),
        );
        assert_eq!(done.conditions.unwrap()[3].status, "False");
    }
}
