//! The arithmetic of a budget. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::objects;

/// An eviction that has not led to a deletion by then is not believed in any more.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
const CONDITION: &str = "DisruptionAllowed";

/// A budget's status, and when to count again without anything having changed.
#[derive(Debug, PartialEq)]
pub struct Counted {
    pub status: PodDisruptionBudgetStatus,
    pub again: Option<Duration>,
}

/// Whether the number of pods that controllers want matters.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
    })
}

/// Counts. `scale` is how many pods their controllers want.
pub fn count(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: i32,
    now: Timestamp,
) -> Result<Counted, String> {
    let spec = budget.spec.clone().unwrap_or_default();
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => (scale, (scale - scaled(unavailable, scale)?).max(0)),
        (None, Some(IntOrString::Int(least))) => {
            (i32::try_from(pods.len()).unwrap_or(i32::MAX), *least)
        }
        (None, Some(percent)) => (scale, scaled(percent, scale)?),
        (None, None) => (0, 0),
    };
    let (disrupted, again) = disrupted(budget, pods, now);
    let healthy = pods
        .iter()
        .filter(|pod| !objects::is_terminating(&***pod))
        .filter(|pod| !disrupted.contains_key(objects::name(&***pod)))
        .filter(|pod| objects::is_ready(pod));
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let allowed = match expected > 0 {
        true => healthy.saturating_sub(desired).max(0),
        false => 0,
    };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: before(budget).conditions,
    };
    let (value, reason) = match allowed > 0 {
        true => ("True", "SufficientPods"),
        false => ("False", "InsufficientPods"),
    };
    set_condition(&mut status, value, reason, "", now);
    Ok(Counted { status, again })
}

/// The status of a budget that could not be counted: it allows nothing.
pub fn failed(
    budget: &PodDisruptionBudget,
    why: &str,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let mut status = before(budget);
    status.disruptions_allowed = Some(0);
    set_condition(&mut status, "False", "SyncFailed", why, now);
    status
}

fn before(budget: &PodDisruptionBudget) -> PodDisruptionBudgetStatus {
    budget.status.clone().unwrap_or_default()
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let at = conditions.iter().position(|known| known.type_ == CONDITION);
    let since = at
        .map(|at| &conditions[at])
        .filter(|known| known.status == value)
        .map(|known| known.last_transition_time.clone());
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let condition = Condition {
        type_: CONDITION.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: status.observed_generation,
        last_transition_time: since.unwrap_or(Time(whole)),
    };
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// The pods that evictions have named and that have not begun to go, and when the first of them is given up.
fn disrupted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let named = before(budget).disrupted_pods.unwrap_or_default();
    let mut kept = BTreeMap::new();
    let mut first: Option<SignedDuration> = None;
    for pod in pods {
        let name = objects::name(&**pod);
        let Some(time) = named.get(name).filter(|_| !objects::is_terminating(&**pod)) else {
            continue;
        };
        let left = DELETION_TIMEOUT - now.duration_since(time.0);
        if left.is_negative() {
            continue;
        }
        first = Some(first.map_or(left, |known| known.min(left)));
        kept.insert(name.to_owned(), time.clone());
    }
    // a little later, so that it is over then
    let again = first.and_then(|left| Duration::try_from(left).ok());
    (kept, again.map(|left| left + Duration::from_secs(1)))
}

/// A number, or a percentage of `of`, rounded up.
fn scaled(amount: &IntOrString, of: i32) -> Result<i32, String> {
    let text = match amount {
        IntOrString::Int(number) => return Ok(*number),
        IntOrString::String(text) => text,
    };
    let percent = text
        .strip_suffix('%')
        .and_then(|text| text.parse::<i64>().ok());
    let Some(percent) = percent else {
        return Err(format!(
            "invalid value for IntOrString: invalid type: string is not a percentage {text:?}"
        ));
    };
    let product = percent.saturating_mul(i64::from(of));
    let rounded = product.div_euclid(100) + i64::from(product.rem_euclid(100) > 0);
    Ok(i32::try_from(rounded).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("a time")
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let mut whole = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
        for (key, value) in status.as_object().expect("a status") {
            whole[key] = value.clone();
        }
        serde_json::from_value(
            json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": whole}),
        )
        .expect("a budget")
    }

    fn pods(ready: usize, unready: usize, going: usize) -> Vec<Arc<Pod>> {
        let one = |n: usize, ready: bool, going: bool| {
            let deleted = going.then_some("2026-01-01T00:00:00Z");
            let ready = if ready { "True" } else { "False" };
            let pod = json!({"metadata": {"name": format!("p{n}"), "deletionTimestamp": deleted},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        };
        (0..ready)
            .map(|n| one(n, true, false))
            .chain((0..unready).map(|n| one(ready + n, false, false)))
            .chain((0..going).map(|n| one(ready + unready + n, true, true)))
            .collect()
    }

    #[test]
    fn what_is_allowed_is_what_is_healthy_beyond_what_is_wanted() {
        // spec, ready, unready, going, scale → expected, healthy, desired, allowed
        let table = [
            (json!({"minAvailable": 2}), (3, 0, 0), 9, (3, 3, 2, 1)),
            (json!({"minAvailable": 2}), (2, 1, 0), 9, (3, 2, 2, 0)),
            (json!({"minAvailable": 5}), (2, 0, 0), 9, (2, 2, 5, 0)),
            (json!({"minAvailable": 0}), (0, 0, 0), 9, (0, 0, 0, 0)),
            (json!({"minAvailable": "50%"}), (4, 0, 0), 5, (5, 4, 3, 1)),
            (json!({"minAvailable": "100%"}), (4, 0, 0), 4, (4, 4, 4, 0)),
            (json!({"maxUnavailable": 1}), (3, 0, 1), 4, (4, 3, 3, 0)),
            (json!({"maxUnavailable": 1}), (4, 0, 0), 4, (4, 4, 3, 1)),
            (json!({"maxUnavailable": "30%"}), (4, 0, 0), 4, (4, 4, 2, 2)),
            (json!({"maxUnavailable": 9}), (4, 0, 0), 4, (4, 4, 0, 4)),
            (json!({"maxUnavailable": 0}), (4, 0, 0), 4, (4, 4, 4, 0)),
            (json!({"maxUnavailable": 1}), (4, 0, 0), 0, (0, 4, 0, 0)),
            (json!({}), (4, 0, 0), 4, (0, 4, 0, 0)),
        ];
        for (spec, (ready, unready, going), scale, expected) in table {
            let budget = budget(spec.clone(), json!({}));
            let status = count(&budget, &pods(ready, unready, going), scale, at(0))
                .expect("counted")
                .status;
            let seen = (
                status.expected_pods,
                status.current_healthy,
                status.desired_healthy,
                status.disruptions_allowed,
            );
            let seen = [seen.0, seen.1, seen.2, seen.3].map(|count| count.expect("counted"));
            let expected: [i32; 4] = expected.into();
            assert_eq!(seen, expected, "{spec} of {scale}");
            let condition = &status.conditions.expect("conditions")[0];
            let wanted = match expected[3] {
                0 => ("False", "InsufficientPods"),
                _ => ("True", "SufficientPods"),
            };
            assert_eq!(
                (condition.status.as_str(), condition.reason.as_str()),
                wanted,
                "{spec}"
            );
            assert_eq!(condition.observed_generation, Some(3));
        }
    }

    #[test]
    fn evicted_pods_are_gone_until_they_stay_too_long() {
        let told = |second: i64| at(second).to_string();
        let named = json!({"disruptedPods": {"p0": told(0), "p3": told(0), "elsewhere": told(0)}});
        let budget = budget(json!({"minAvailable": 1}), named);
        let pods = pods(3, 0, 1);
        let soon = count(&budget, &pods, 0, at(20)).expect("counted");
        assert_eq!(soon.status.current_healthy, Some(2));
        let kept = soon.status.disrupted_pods.expect("pods");
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["p0"]);
        assert_eq!(soon.again, Some(Duration::from_secs(101)));
        let late = count(&budget, &pods, 0, at(121)).expect("counted");
        assert_eq!((late.status.current_healthy, late.again), (Some(3), None));
        assert_eq!(late.status.disrupted_pods, None);
    }

    #[test]
    fn a_condition_keeps_its_time_and_failure_allows_nothing() {
        let first = count(
            &budget(json!({"minAvailable": 1}), json!({})),
            &pods(2, 0, 0),
            0,
            at(0),
        )
        .expect("counted")
        .status;
        let mut known = budget(json!({"minAvailable": 1}), json!({}));
        known.status = Some(first.clone());
        let same = count(&known, &pods(2, 0, 0), 0, at(50))
            .expect("counted")
            .status;
        assert_eq!(same, first);
        let fewer = failed(&known, "no controllers", at(60));
        assert_eq!(fewer.disruptions_allowed, Some(0));
        let condition = &fewer.conditions.expect("conditions")[0];
        assert_eq!(
            (
                condition.reason.as_str(),
                condition.message.as_str(),
                condition.last_transition_time.0
            ),
            ("SyncFailed", "no controllers", at(60))
        );
        let wrong = budget(json!({"maxUnavailable": "many"}), json!({}));
        assert!(count(&wrong, &[], 3, at(0)).is_err());
    }
}
