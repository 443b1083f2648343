//! What a Job's policies say: of a failed pod (podFailurePolicy), of the indexes that have succeeded (successPolicy).

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::indexes::Indexes;
use crate::objects;

/// What becomes of a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It counts as failures do.
    Count,
    /// It is replaced and not counted.
    Ignore,
    /// Its index is not tried again.
    FailIndex,
    /// The Job has failed, for this reason.
    FailJob(String),
}

/// The first rule that the pod matches.
pub fn of_failed(pod: &Pod, job: &Job) -> Ruling {
    let policy = job
        .spec
        .as_ref()
        .and_then(|spec| spec.pod_failure_policy.as_ref());
    let rules = policy.iter().flat_map(|policy| &policy.rules);
    for (n, rule) in rules.enumerate() {
        let (key, action) = (objects::key(pod), rule.action.as_str());
        let why = if let Some(codes) = &rule.on_exit_codes {
            exited(pod, codes).map(|(name, code)| {
                format!(
                    "Container {name} for pod {key} failed with exit code {code} matching {action} rule at index {n}"
                )
            })
        } else {
            let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
            condition(pod, patterns).map(|type_| {
                format!("Pod {key} has condition {type_} matching {action} rule at index {n}")
            })
        };
        match (why, action) {
            (Some(_), "Ignore") => return Ruling::Ignore,
            (Some(_), "FailIndex") => return Ruling::FailIndex,
            (Some(_), "Count") => return Ruling::Count,
            (Some(why), "FailJob") => return Ruling::FailJob(why),
            // Rules of later versions are skipped.
            _ => {}
        }
    }
    Ruling::Count
}

/// The first container that ended with a code that the rule names.
fn exited<'a>(
    pod: &'a Pod,
    rule: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let code = |status: &'a ContainerStatus| {
        let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
        let concerned = rule
            .container_name
            .as_ref()
            .is_none_or(|name| *name == status.name);
        let listed = rule.values.contains(&code);
        let matches = match rule.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        (concerned && code != 0 && matches).then_some((status.name.as_str(), code))
    };
    lists.into_iter().flatten().flatten().find_map(code)
}

fn condition<'a>(
    pod: &'a Pod,
    patterns: &[PodFailurePolicyOnPodConditionsPattern],
) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let matches = |condition: &&k8s_openapi::api::core::v1::PodCondition| {
        patterns.iter().any(|pattern| {
            let status = pattern.status.as_deref().unwrap_or("True");
            pattern.type_ == condition.type_ && status == condition.status
        })
    };
    conditions
        .iter()
        .find(matches)
        .map(|condition| condition.type_.as_str())
}

/// Why the Job counts as succeeded with these indexes, if it does.
pub fn succeeded(spec: &JobSpec, indexes: &Indexes) -> Option<String> {
    let policy = spec.success_policy.as_ref()?;
    if indexes.count() == 0 {
        return None;
    }
    let completions = spec.completions.unwrap_or(0);
    let met = policy.rules.iter().position(|rule| {
        let named = rule
            .succeeded_indexes
            .as_deref()
            .map(|text| Indexes::parse(text, completions));
        match (&named, rule.succeeded_count) {
            (Some(named), Some(count)) => indexes.shared(named) >= count,
            (Some(named), None) => indexes.shared(named) == named.count(),
            (None, Some(count)) => indexes.count() >= count,
            (None, None) => false,
        }
    })?;
    Some(format!("Matched rules at index {met}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn job(rules: Value) -> Job {
        serde_json::from_value(
            json!({"spec": {"podFailurePolicy": {"rules": rules}, "template": {}}}),
        )
        .unwrap()
    }

    fn pod(code: Option<i32>, condition: Option<&str>) -> Pod {
        let state = code.map(|code| json!({"terminated": {"exitCode": code}}));
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"},
            "status": {
                "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}],
                "conditions": condition.map(|type_| json!([{"type": type_, "status": "True"}])),
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let rules = json!([
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [40, 42]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [7], "containerName": "c"}},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [8], "containerName": "other"}},
            {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [9]}},
            {"action": "FailJob", "onPodConditions": [{"type": "Bad"}]},
        ]);
        for (code, condition, expected) in [
            (
                Some(42),
                Some("DisruptionTarget"),
                Ruling::FailJob(
                    "Container c for pod n/p failed with exit code 42 matching FailJob rule at index 0"
                        .into(),
                ),
            ),
            (Some(1), Some("DisruptionTarget"), Ruling::Ignore),
            (Some(7), None, Ruling::FailIndex),
            (Some(8), None, Ruling::Count),
            (Some(1), Some("Bad"), Ruling::Count),
            (
                Some(9),
                Some("Bad"),
                Ruling::FailJob("Pod n/p has condition Bad matching FailJob rule at index 5".into()),
            ),
            (Some(0), None, Ruling::Count),
            (None, None, Ruling::Count),
        ] {
            let found = of_failed(&pod(code, condition), &job(rules.clone()));
            assert_eq!(found, expected, "{code:?} {condition:?}");
        }
    }

    #[test]
    fn success_by_indexes_and_numbers() {
        for (rules, done, expected) in [
            (json!([{"succeededCount": 2}]), "0", None),
            (json!([{"succeededCount": 2}]), "0,4", Some(0)),
            (json!([{"succeededIndexes": "0-1"}]), "0,4", None),
            (json!([{"succeededIndexes": "0-1"}]), "0-4", Some(0)),
            (
                json!([{"succeededIndexes": "0-2", "succeededCount": 2}]),
                "1,3",
                None,
            ),
            (
                json!([{"succeededIndexes": "0-2", "succeededCount": 2}]),
                "1,2",
                Some(0),
            ),
            (
                json!([{"succeededIndexes": "4"}, {"succeededCount": 1}]),
                "1",
                Some(1),
            ),
        ] {
            let spec: JobSpec = serde_json::from_value(
                json!({"completions": 5, "successPolicy": {"rules": rules}, "template": {}}),
            )
            .unwrap();
            let found = succeeded(&spec, &Indexes::parse(done, 5));
            let expected = expected.map(|n: i32| format!("Matched rules at index {n}"));
            assert_eq!(found, expected, "{rules} {done}");
        }
    }
}
