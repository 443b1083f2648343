//! From the metrics' proposal to the size that may be set now: stabilisation, then rate limits and bounds.
//!
//! Source followed: `stabilizeRecommendation*`, `convertDesiredReplicasWith*` of
//! `pkg/controller/podautoscaler/horizontal.go`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HPAScalingRules;

use super::behavior::{change_in_period, scale_down_limit, scale_up_limit};
use super::decision::Rule;
use super::inputs::{Recommendation, ScaleEvent, Settings};
use super::pods::later;

/// Upper bound on remembered recommendations: an hour's window, the longest allowed, at more than one a second. Beyond
/// it they are reduced to those that matter.
const RECOMMENDATIONS_MAX: usize = 4096;

/// A number after one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Limited {
    /// The number.
    pub replicas: i32,
    /// Reason of the condition.
    pub reason: &'static str,
    /// Message of the condition.
    pub message: &'static str,
    /// The rule, if it changed the number.
    pub rule: Option<Rule>,
}

/// The highest recommendation of the window, which records `desired` as a side effect.
pub fn stabilize(
    log: &mut Vec<Recommendation>,
    desired: i32,
    window_seconds: i32,
    now: Timestamp,
) -> i32 {
    let cutoff = later(now, -f64::from(window_seconds));
    let highest = log
        .iter()
        .filter(|past| past.at >= cutoff)
        .map(|past| past.replicas)
        .fold(desired, i32::max);
    record(log, desired, now, |past| past.at < cutoff);
    highest
}

/// The size nearest to the current one that every recommendation of the two windows agrees with. A window holds
/// what is younger than it; an entry older than both gives its place to the new one.
pub fn stabilize_with_behavior(
    log: &mut Vec<Recommendation>,
    current: i32,
    desired: i32,
    up_seconds: i32,
    down_seconds: i32,
    now: Timestamp,
) -> i32 {
    let up_cutoff = later(now, -f64::from(up_seconds));
    let down_cutoff = later(now, -f64::from(down_seconds));
    let within = |cutoff: Timestamp| {
        log.iter()
            .filter(move |past| past.at > cutoff)
            .map(|past| past.replicas)
    };
    let lowest = within(up_cutoff).fold(desired, i32::min);
    let highest = within(down_cutoff).fold(desired, i32::max);
    record(log, desired, now, |past| {
        past.at < up_cutoff && past.at < down_cutoff
    });
    current.max(lowest).min(highest)
}

fn record(
    log: &mut Vec<Recommendation>,
    replicas: i32,
    now: Timestamp,
    is_old: impl Fn(&Recommendation) -> bool,
) {
    let entry = Recommendation { replicas, at: now };
    match log.iter().rposition(is_old) {
        Some(place) => log[place] = entry,
        None => log.push(entry),
    }
    if log.len() > RECOMMENDATIONS_MAX {
        *log = newest_of_each(log);
        log.truncate(RECOMMENDATIONS_MAX);
    }
}

/// The newest recommendation of each size: a window that holds an older one holds it too, so that nothing else matters.
pub fn newest_of_each(log: &[Recommendation]) -> Vec<Recommendation> {
    let mut newest: BTreeMap<i32, Timestamp> = BTreeMap::new();
    for past in log {
        let at = newest.entry(past.replicas).or_insert(past.at);
        *at = past.at.max(*at);
    }
    let each = newest.into_iter();
    each.map(|(replicas, at)| Recommendation { replicas, at })
        .collect()
}

/// Bounds and rates to keep to.
pub struct Bounds<'a> {
    /// `spec.minReplicas`.
    pub minimum: i32,
    /// `spec.maxReplicas`.
    pub maximum: i32,
    /// `spec.replicas` of the scale.
    pub current: i32,
    /// Past increases.
    pub ups: &'a [ScaleEvent],
    /// Past decreases.
    pub downs: &'a [ScaleEvent],
    /// The time of the decision.
    pub now: Timestamp,
}

const RANGE: (&str, &str) = (
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);
const MAXIMUM: (&str, &str) = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const MINIMUM: (&str, &str) = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const UP: (&str, &str) = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const DOWN: (&str, &str) = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);

/// Limits without `behavior`: the bounds, and growth to the larger of twice the size and four. Where settings
/// tie that limit to a wall-clock period, `ups` are the increases of that period and the size at its start counts,
/// so that deciding more often than every 15 s does not grow faster than upstream.
pub fn limit(desired: i32, bounds: &Bounds<'_>, settings: &Settings) -> Limited {
    let start = match settings.scale_up_limit_period_seconds {
        Some(period) => bounds
            .current
            .saturating_sub(change_in_period(period, bounds.ups, bounds.now))
            .max(0),
        None => bounds.current,
    };
    let growth = (settings.scale_up_limit_factor * f64::from(start))
        .max(settings.scale_up_limit_minimum) as i32;
    let growth = if settings.scale_up_limit_period_seconds.is_some() {
        growth.max(bounds.current)
    } else {
        growth
    };
    let (highest, rule, why) = if bounds.maximum > growth {
        (
            growth,
            Rule::ScaleUpLimit {
                limit: growth,
                from: start,
            },
            UP,
        )
    } else {
        (
            bounds.maximum,
            Rule::Maximum {
                maximum: bounds.maximum,
            },
            MAXIMUM,
        )
    };
    if desired < bounds.minimum {
        limited(
            bounds.minimum,
            MINIMUM,
            Rule::Minimum {
                minimum: bounds.minimum,
            },
        )
    } else if desired > highest {
        limited(highest, why, rule)
    } else {
        unlimited(desired)
    }
}

/// Limits of `behavior`: the bounds and the policies of the direction.
pub fn limit_with_behavior(
    desired: i32,
    bounds: &Bounds<'_>,
    up: &HPAScalingRules,
    down: &HPAScalingRules,
) -> Limited {
    let current = bounds.current;
    if desired > current {
        // Past the limit already: no further, but not back either.
        let allowed =
            scale_up_limit(current, bounds.ups, bounds.downs, up, bounds.now).max(current);
        let (highest, rule, why) = if bounds.maximum > allowed {
            (
                allowed,
                Rule::ScaleUpLimit {
                    limit: allowed,
                    from: current,
                },
                UP,
            )
        } else {
            (
                bounds.maximum,
                Rule::Maximum {
                    maximum: bounds.maximum,
                },
                MAXIMUM,
            )
        };
        if desired > highest {
            return limited(highest, why, rule);
        }
    } else if desired < current {
        let allowed =
            scale_down_limit(current, bounds.ups, bounds.downs, down, bounds.now).min(current);
        let (lowest, rule, why) = if bounds.minimum < allowed {
            (allowed, Rule::ScaleDownLimit { limit: allowed }, DOWN)
        } else {
            (
                bounds.minimum,
                Rule::Minimum {
                    minimum: bounds.minimum,
                },
                MINIMUM,
            )
        };
        if desired < lowest {
            return limited(lowest, why, rule);
        }
    }
    unlimited(desired)
}

fn limited(replicas: i32, (reason, message): (&'static str, &'static str), rule: Rule) -> Limited {
    Limited {
        replicas,
        reason,
        message,
        rule: Some(rule),
    }
}

fn unlimited(replicas: i32) -> Limited {
    Limited {
        replicas,
        reason: RANGE.0,
        message: RANGE.1,
        rule: None,
    }
}
