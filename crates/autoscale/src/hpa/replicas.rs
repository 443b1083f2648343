//! From samples to a proposed number of replicas.
//!
//! Source followed: `pkg/controller/podautoscaler/replica_calculator.go`.

use std::collections::BTreeMap;

use super::decision::{Adjusted, Arithmetic, Conclusion, PodGroups, Proposal, Target, Tolerance};
use super::inputs::Pod;
use super::pods::{self, Sample, Samples};
use super::usage;
use super::{inputs::Settings, usage::ceil_replicas};

use jiff::Timestamp;

/// What every calculation needs besides its metric.
pub struct Context<'a> {
    /// The pods that the target's selector selects.
    pub pods: &'a [&'a Pod],
    /// The controller's settings.
    pub settings: &'a Settings,
    /// The time of the decision.
    pub now: Timestamp,
    /// Deviation of the ratio that changes nothing.
    pub tolerance: Tolerance,
    /// `spec.replicas` of the scale.
    pub current: i32,
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_SAMPLES: &str = "did not receive metrics for targeted pods (pods might be unready)";

/// Proposes from utilisation of requests (`GetResourceReplicas`).
pub fn by_utilization(
    context: &Context<'_>,
    mut samples: Samples,
    resource: &str,
    container: Option<&str>,
    target_percent: i32,
) -> Result<Proposal, String> {
    let groups = grouped(context, &mut samples, resource)?;
    let requests = pods::requests(context.pods, container, resource, context.settings)?;
    let first = usage::utilization(&samples, &requests, target_percent)?;
    let mut arithmetic = Arithmetic {
        target: Some(Target::UtilizationPercent(target_percent)),
        usage_milli: first.usage_milli,
        requests_milli: Some(first.requests_milli),
        utilization_percent: Some(first.percent),
        average_milli: Some(first.average_milli),
        ratio: first.ratio,
        tolerance: context.tolerance,
        ..Arithmetic::default()
    };
    // Scaling down, a pod without a sample counts as using all that it requested, or the target if that is more.
    let missing_percent = i64::from(target_percent.max(100));
    let missing_value = |pod: &str| {
        let request = i128::from(requests.get(pod).copied().unwrap_or_default());
        i64::try_from(request * i128::from(missing_percent) / 100).unwrap_or(i64::MAX)
    };
    if let Some(adjusted) = assume(
        &mut samples,
        &groups,
        first.ratio,
        missing_percent,
        missing_value,
    ) {
        let ratio = usage::utilization(&samples, &requests, target_percent)?.ratio;
        arithmetic.adjusted = Some(Adjusted { ratio, ..adjusted });
    }
    Ok(conclude(context, arithmetic, groups, samples.len()))
}

/// Proposes from the average per pod, of a resource or of a `Pods` metric (`calcPlainMetricReplicas`).
pub fn by_average(
    context: &Context<'_>,
    mut samples: Samples,
    resource: &str,
    target_milli: i64,
) -> Result<Proposal, String> {
    let groups = grouped(context, &mut samples, resource)?;
    let (ratio, average, total) = usage::average(&samples, target_milli);
    let mut arithmetic = Arithmetic {
        target: Some(Target::AverageMilli(target_milli)),
        usage_milli: total,
        average_milli: Some(average),
        ratio,
        tolerance: context.tolerance,
        ..Arithmetic::default()
    };
    if let Some(adjusted) = assume(&mut samples, &groups, ratio, 100, |_| target_milli) {
        let (ratio, _, _) = usage::average(&samples, target_milli);
        arithmetic.adjusted = Some(Adjusted { ratio, ..adjusted });
    }
    Ok(conclude(context, arithmetic, groups, samples.len()))
}

/// Proposes from one value compared with one target (`GetObjectMetricReplicas`, `GetExternalMetricReplicas`).
pub fn by_value(
    context: &Context<'_>,
    usage_milli: i64,
    target_milli: i64,
) -> Result<Proposal, String> {
    let ratio = usage_milli as f64 / target_milli as f64;
    let mut arithmetic = Arithmetic {
        target: Some(Target::ValueMilli(target_milli)),
        usage_milli,
        ratio,
        tolerance: context.tolerance,
        ..Arithmetic::default()
    };
    if context.current == 0 {
        // Nothing runs, so there is nothing to multiply: the ratio itself says how many are wanted.
        return Ok(Proposal {
            replicas: ceil_replicas(ratio),
            arithmetic,
        });
    }
    if context.tolerance.contains(ratio) {
        arithmetic.conclusion = Conclusion::WithinTolerance;
        return Ok(Proposal {
            replicas: context.current,
            arithmetic,
        });
    }
    if context.pods.is_empty() {
        return Err(format!("unable to calculate ready pods: {NO_PODS}"));
    }
    let ready = context.pods.iter().filter(|pod| is_ready(pod)).count();
    arithmetic.multiplied_with = Some(ready as i64);
    arithmetic.pods = Some(PodGroups {
        ready,
        ..PodGroups::default()
    });
    Ok(Proposal {
        replicas: ceil_replicas(ratio * ready as f64),
        arithmetic,
    })
}

/// Proposes from one value shared out among the pods (`GetObjectPerPodMetricReplicas`,
/// `GetExternalPerPodMetricReplicas`).
pub fn by_value_per_pod(
    context: &Context<'_>,
    status_replicas: i32,
    usage_milli: i64,
    target_milli: i64,
) -> Proposal {
    let ratio = usage_milli as f64 / (target_milli as f64 * f64::from(status_replicas));
    let mut arithmetic = Arithmetic {
        target: Some(Target::AverageMilli(target_milli)),
        usage_milli,
        average_milli: Some(per_pod(usage_milli, status_replicas)),
        ratio,
        tolerance: context.tolerance,
        multiplied_with: Some(i64::from(status_replicas)),
        conclusion: Conclusion::Divided,
        ..Arithmetic::default()
    };
    if context.tolerance.contains(ratio) {
        arithmetic.conclusion = Conclusion::WithinTolerance;
        return Proposal {
            replicas: status_replicas,
            arithmetic,
        };
    }
    Proposal {
        replicas: ceil_replicas(usage_milli as f64 / target_milli as f64),
        arithmetic,
    }
}

/// The sum of all series of an external metric (upstream guards only against positive overflow).
pub fn sum(values_milli: &[i64]) -> i64 {
    values_milli
        .iter()
        .fold(0, |sum, value| i64::saturating_add(sum, *value))
}

fn per_pod(usage_milli: i64, replicas: i32) -> i64 {
    if usage_milli == i64::MAX {
        return i64::MAX;
    }
    if replicas == 0 {
        return 0;
    }
    (usage_milli as f64 / f64::from(replicas)).ceil() as i64
}

fn is_ready(pod: &Pod) -> bool {
    pod.phase == "Running"
        && pod
            .ready
            .as_ref()
            .is_some_and(|ready| ready.status == "True")
}

/// Groups the pods and drops the samples that must not count.
fn grouped(
    context: &Context<'_>,
    samples: &mut Samples,
    resource: &str,
) -> Result<PodGroups, String> {
    if context.pods.is_empty() {
        return Err(NO_PODS.to_owned());
    }
    let groups = pods::group_pods(
        context.pods,
        samples,
        resource,
        context.settings,
        context.now,
    );
    for pod in groups.ignored.iter().chain(&groups.unready) {
        samples.remove(pod);
    }
    if samples.is_empty() {
        return Err(NO_SAMPLES.to_owned());
    }
    Ok(groups)
}

/// Puts assumed values in for missing and unready pods, so that what is unknown damps the change. `None` when
/// nothing has to be assumed.
fn assume(
    samples: &mut Samples,
    groups: &PodGroups,
    ratio: f64,
    missing_percent: i64,
    missing_value: impl Fn(&str) -> i64,
) -> Option<Adjusted> {
    let unready_as_zero = !groups.unready.is_empty() && ratio > 1.0;
    if !unready_as_zero && groups.missing.is_empty() {
        return None;
    }
    let mut adjusted = Adjusted {
        missing_percent: None,
        unready_as_zero,
        ratio,
    };
    if !groups.missing.is_empty() {
        if ratio < 1.0 {
            adjusted.missing_percent = Some(missing_percent);
            insert(samples, &groups.missing, &missing_value);
        } else if ratio > 1.0 {
            adjusted.missing_percent = Some(0);
            insert(samples, &groups.missing, &|_| 0);
        }
    }
    if unready_as_zero {
        insert(samples, &groups.unready, &|_| 0);
    }
    Some(adjusted)
}

fn insert(samples: &mut BTreeMap<String, Sample>, pods: &[String], value: &dyn Fn(&str) -> i64) {
    for pod in pods {
        let sample = Sample {
            timestamp: Timestamp::UNIX_EPOCH,
            window_seconds: 0.0,
            value_milli: value(pod),
        };
        samples.insert(pod.clone(), sample);
    }
}

/// Turns the ratio, or the adjusted one, into a number of replicas.
fn conclude(
    context: &Context<'_>,
    mut arithmetic: Arithmetic,
    groups: PodGroups,
    counted: usize,
) -> Proposal {
    let ratio = arithmetic.ratio;
    let ready = groups.ready;
    arithmetic.pods = Some(groups);
    let stay = |mut arithmetic: Arithmetic, conclusion| {
        arithmetic.conclusion = conclusion;
        Proposal {
            replicas: context.current,
            arithmetic,
        }
    };
    let Some(adjusted) = arithmetic.adjusted.as_ref().map(|adjusted| adjusted.ratio) else {
        if context.tolerance.contains(ratio) {
            return stay(arithmetic, Conclusion::WithinTolerance);
        }
        arithmetic.multiplied_with = Some(ready as i64);
        return Proposal {
            replicas: ceil_replicas(ratio * ready as f64),
            arithmetic,
        };
    };
    if context.tolerance.contains(adjusted) {
        return stay(arithmetic, Conclusion::WithinTolerance);
    }
    if (ratio < 1.0 && adjusted > 1.0) || (ratio > 1.0 && adjusted < 1.0) {
        return stay(arithmetic, Conclusion::WouldReverse);
    }
    arithmetic.multiplied_with = Some(counted as i64);
    let replicas = ceil_replicas(adjusted * counted as f64);
    if (adjusted < 1.0 && replicas > context.current)
        || (adjusted > 1.0 && replicas < context.current)
    {
        return stay(arithmetic, Conclusion::WouldReverse);
    }
    Proposal {
        replicas,
        arithmetic,
    }
}
