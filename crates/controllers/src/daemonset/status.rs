//! A DaemonSet's status as computed from its nodes and pods.
//!
//! Pure. Follows `updateDaemonSetStatus` of `pkg/controller/daemon/daemon_controller.go`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};

use super::plan::{Spots, by_age, is_available, is_updated};
use crate::objects::{self, Availability};

/// A status, and when it may change by the passing of time alone.
pub struct Observed {
    /// To be written if it differs.
    pub status: DaemonSetStatus,
    /// A pod becomes available then (minReadySeconds).
    pub look_again: Option<Duration>,
}

/// Computes the status.
pub fn calculate(
    set: &DaemonSet,
    spots: &Spots,
    hash: &str,
    collisions: i32,
    now: Timestamp,
) -> Observed {
    let (mut desired, mut current, mut misplaced) = (0, 0, 0);
    let (mut ready, mut updated, mut available) = (0, 0, 0);
    let mut look_again: Option<Duration> = None;
    for spot in spots.values() {
        let Some(place) = spot.place else { continue };
        let oldest = spot.pods.iter().min_by(|a, b| by_age(a, b));
        if !place.should_run {
            misplaced += i32::from(oldest.is_some());
            continue;
        }
        desired += 1;
        let Some(pod) = oldest else { continue };
        current += 1;
        ready += i32::from(objects::is_ready(pod));
        available += i32::from(is_available(set, pod, now));
        updated += i32::from(is_updated(pod, hash));
        for pod in &spot.pods {
            let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
            if let Availability::In(wait) = objects::availability(pod, min_ready, now) {
                let wait = wait.unsigned_abs() + Duration::from_millis(1);
                look_again = Some(look_again.map_or(wait, |known| known.min(wait)));
            }
        }
    }
    let some = |count: i32| (count != 0).then_some(count);
    Observed {
        status: DaemonSetStatus {
            collision_count: some(collisions),
            conditions: None,
            current_number_scheduled: current,
            desired_number_scheduled: desired,
            number_available: some(available),
            number_misscheduled: misplaced,
            number_ready: ready,
            number_unavailable: some(desired - available),
            observed_generation: set.metadata.generation,
            updated_number_scheduled: some(updated),
        },
        look_again,
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Spot;
    use super::super::pod::{HASH, Place};
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn spot(should_run: bool, pods: &[(&str, Option<&str>)]) -> Spot {
        let pod = |(revision, ready): &(&str, Option<&str>)| {
            let ready = ready.map(
                |since| json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]),
            );
            let pod = json!({"metadata": {"labels": {HASH: revision}}, "status": {"phase": "Running", "conditions": ready}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        Spot {
            place: Some(Place {
                should_run,
                may_stay: true,
            }),
            pods: pods.iter().map(pod).collect(),
        }
    }

    #[test]
    fn counts_what_upstream_counts() {
        let set: DaemonSet = serde_json::from_value(json!({"metadata": {"name": "agent", "generation": 2}, "spec": {"minReadySeconds": 10, "selector": {}, "template": {}}})).unwrap();
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let (long_ago, just_now) = (Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:00:57Z"));
        let mut spots: Spots = [
            ("a", spot(true, &[("new", long_ago)])),
            ("b", spot(true, &[("new", just_now)])),
            ("c", spot(true, &[("old", None)])),
            ("d", spot(true, &[])),
            ("e", spot(false, &[("old", long_ago)])),
            ("f", spot(false, &[])),
        ]
        .into_iter()
        .map(|(name, spot)| (name.to_owned(), spot))
        .collect();
        spots.insert("gone".into(), Spot::default());
        let observed = calculate(&set, &spots, "new", 0, now);
        assert_eq!(
            json!(observed.status),
            json!({
                "observedGeneration": 2, "desiredNumberScheduled": 4, "currentNumberScheduled": 3, "numberMisscheduled": 1,
                "numberReady": 2, "numberAvailable": 1, "numberUnavailable": 3, "updatedNumberScheduled": 2,
            })
        );
        assert_eq!(observed.look_again, Some(Duration::from_millis(7001)));
        let none: Value = json!(calculate(&set, &Spots::new(), "new", 0, now).status);
        assert_eq!(
            none,
            json!({"observedGeneration": 2, "desiredNumberScheduled": 0, "currentNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0})
        );
    }
}
