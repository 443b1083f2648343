//! Ratios of usage to target.
//!
//! Source followed: `pkg/controller/podautoscaler/metrics/utilization.go`. Sums that would overflow upstream's
//! 64 bits saturate here.

use std::collections::BTreeMap;

use super::pods::Samples;

/// How much of their requests the measured pods use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Utilization {
    /// Utilisation divided by target.
    pub ratio: f64,
    /// Whole percent of the requests.
    pub percent: i32,
    /// Average usage per pod, in thousandths.
    pub average_milli: i64,
    /// Sum of usage, in thousandths.
    pub usage_milli: i64,
    /// Sum of requests, in thousandths.
    pub requests_milli: i64,
}

/// Utilisation over the pods that have both a sample and a request.
pub fn utilization(
    samples: &Samples,
    requests: &BTreeMap<String, i64>,
    target_percent: i32,
) -> Result<Utilization, String> {
    let mut usage: i128 = 0;
    let mut requested: i128 = 0;
    let mut count: i128 = 0;
    for (pod, sample) in samples {
        if let Some(request) = requests.get(pod) {
            usage += i128::from(sample.value_milli);
            requested += i128::from(*request);
            count += 1;
        }
    }
    if requested == 0 {
        return Err("no metrics returned matched known pods".to_owned());
    }
    let percent = clamp_i32(usage * 100 / requested);
    Ok(Utilization {
        ratio: f64::from(percent) / f64::from(target_percent),
        percent,
        average_milli: clamp_i64(usage / count),
        usage_milli: clamp_i64(usage),
        requests_milli: clamp_i64(requested),
    })
}

/// The average per sample, and its ratio to the target.
pub fn average(samples: &Samples, target_milli: i64) -> (f64, i64, i64) {
    let usage: i128 = samples
        .values()
        .map(|sample| i128::from(sample.value_milli))
        .sum();
    let average = clamp_i64(usage / (samples.len().max(1) as i128));
    (
        average as f64 / target_milli as f64,
        average,
        clamp_i64(usage),
    )
}

/// `value` rounded up to a replica count, saturating where upstream's conversion is undefined.
pub fn ceil_replicas(value: f64) -> i32 {
    value.ceil() as i32
}

fn clamp_i64(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

fn clamp_i32(value: i128) -> i32 {
    value.clamp(i128::from(i32::MIN), i128::from(i32::MAX)) as i32
}
