//! Sorting pods by how their samples count, and what they request.
//!
//! Source followed: `groupPods` and `calculateRequests` of
//! `pkg/controller/podautoscaler/replica_calculator.go`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::decision::PodGroups;
use super::inputs::{Pod, PodUsage, Settings};

/// One pod's sample of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it was measured.
    pub timestamp: Timestamp,
    /// The window it was measured over.
    pub window_seconds: f64,
    /// The value in thousandths.
    pub value_milli: i64,
}

/// Samples by pod name; may hold pods that nobody selected.
pub type Samples = BTreeMap<String, Sample>;

/// Groups `pods` for a metric of `resource` (empty for metrics that are not resources).
pub fn group_pods(
    pods: &[&Pod],
    samples: &Samples,
    resource: &str,
    settings: &Settings,
    now: Timestamp,
) -> PodGroups {
    let mut groups = PodGroups::default();
    for pod in pods {
        let name = pod.name.clone();
        if pod.deleted || pod.phase == "Failed" {
            groups.ignored.push(name);
        } else if pod.phase == "Pending" {
            groups.unready.push(name);
        } else {
            match samples.get(&pod.name) {
                None => groups.missing.push(name),
                Some(sample) if resource == "cpu" && is_unready(pod, sample, settings, now) => {
                    groups.unready.push(name);
                }
                Some(_) => groups.ready += 1,
            }
        }
    }
    groups.unready.sort();
    groups.missing.sort();
    groups.ignored.sort();
    groups
}

/// Whether a CPU sample says nothing about load because the pod is (or was) still starting.
fn is_unready(pod: &Pod, sample: &Sample, settings: &Settings, now: Timestamp) -> bool {
    let (Some(ready), Some(start)) = (&pod.ready, pod.start_time) else {
        return true;
    };
    let turned_unready = ready.status == "False";
    if later(start, settings.cpu_initialization_seconds as f64) > now {
        turned_unready || sample.timestamp < later(ready.last_transition, sample.window_seconds)
    } else {
        turned_unready
            && later(start, settings.initial_readiness_delay_seconds as f64) > ready.last_transition
    }
}

/// `at` plus `seconds`, saturating at the end of time.
pub fn later(at: Timestamp, seconds: f64) -> Timestamp {
    let seconds = if seconds.is_finite() {
        seconds.clamp(-1e10, 1e10)
    } else {
        0.0
    };
    let nanos = (seconds * 1e9).round() as i128;
    let whole = i64::try_from(nanos / 1_000_000_000).unwrap_or_default();
    let rest = i32::try_from(nanos % 1_000_000_000).unwrap_or_default();
    at.saturating_add(SignedDuration::new(whole, rest))
        .unwrap_or(Timestamp::MAX)
}

/// What each pod requests of `resource`, in thousandths, over all containers or of the one named.
pub fn requests(
    pods: &[&Pod],
    container: Option<&str>,
    resource: &str,
    settings: &Settings,
) -> Result<BTreeMap<String, i64>, String> {
    pods.iter()
        .map(|pod| {
            let pod_level = pod.pod_requests_milli.as_ref().filter(|requests| {
                settings.pod_level_resources && !requests.is_empty() && container.is_none()
            });
            let request = match pod_level {
                Some(requests) => pod_level_request(pod, requests, resource)?,
                None => container_requests(pod, container, resource)?,
            };
            Ok((pod.name.clone(), request))
        })
        .collect()
}

/// A pod that sets requests at its own level counts its containers only for resources that it leaves out.
fn pod_level_request(
    pod: &Pod,
    requests: &BTreeMap<String, i64>,
    resource: &str,
) -> Result<i64, String> {
    if let Some(request) = requests.get(resource) {
        return Ok(*request);
    }
    let of_containers: Vec<i64> = pod
        .containers
        .iter()
        .chain(&pod.sidecars)
        .filter_map(|container| container.requests_milli.get(resource).copied())
        .collect();
    if of_containers.is_empty() {
        return Err(format!(
            "missing pod-level request for {resource} in Pod {}",
            pod.name
        ));
    }
    Ok(of_containers.into_iter().fold(0, i64::saturating_add))
}

fn container_requests(pod: &Pod, wanted: Option<&str>, resource: &str) -> Result<i64, String> {
    let mut total = 0i64;
    for container in pod.containers.iter().chain(&pod.sidecars) {
        if wanted.is_some_and(|wanted| wanted != container.name) {
            continue;
        }
        let request = container.requests_milli.get(resource).ok_or_else(|| {
            format!(
                "missing request for {resource} in container {} of Pod {}",
                container.name, pod.name
            )
        })?;
        total = total.saturating_add(*request);
        if wanted.is_some() {
            return Ok(total);
        }
    }
    match wanted {
        Some(container) => Err(format!(
            "container {container} not found in Pod {}",
            pod.name
        )),
        None => Ok(total),
    }
}

/// Samples of `resource` from metrics.k8s.io, of whole pods or of one container (`metrics/client.go`). A pod
/// with any container unmeasured has no sample.
pub fn resource_samples(usage: &[PodUsage], resource: &str, container: Option<&str>) -> Samples {
    usage
        .iter()
        .filter_map(|pod| {
            let value_milli = match container {
                Some(name) => {
                    let container = pod
                        .containers
                        .iter()
                        .find(|container| container.name == name)?;
                    *container.usage_milli.get(resource)?
                }
                None if pod.containers.is_empty() => return None,
                None => pod.containers.iter().try_fold(0i64, |sum, container| {
                    container
                        .usage_milli
                        .get(resource)
                        .map(|value| sum.saturating_add(*value))
                })?,
            };
            let sample = Sample {
                timestamp: pod.timestamp,
                window_seconds: pod.window_seconds,
                value_milli,
            };
            Some((pod.pod.clone(), sample))
        })
        .collect()
}
