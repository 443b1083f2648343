//! Under which names series are offered.
//!
//! Source followed: the default rules of prometheus-adapter (`cmd/config-gen/utils/default.go`), which people know:
//!
//! | series | offered as | told is |
//! |---|---|---|
//! | `x` | `x` | the latest value |
//! | `x_total` | `x` | its rate |
//! | `x_seconds_total` | `x` | its rate |
//! | `container_x`, `container_x_total`, `container_x_seconds_total` | `x` | the latest value, rates |
//!
//! Where several rules offer one name, the later rule wins, as there: `x_seconds_total`, `x_total`, `x`, `container_…`.
//! Beyond them, unless a series has the name itself:
//!
//! | series | offered as | told is |
//! |---|---|---|
//! | `x_bucket` | `x_p50`, `x_p90`, `x_p95`, `x_p99`, `x_p999`, any `x_pN` | the quantile of what was observed within the window |
//! | `x_sum`, `x_count` | `x_avg` | the mean of what was observed within the window |
//! | `x` | `x_avg` | the mean of the window's values |

/// What is computed for a metric's name.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// The latest value of a series.
    Latest(String),
    /// The rate of a counter.
    Rate(String),
    /// A quantile, 0 to 1, from a histogram's buckets.
    Quantile(String, f64),
    /// The increase of the first divided by that of the second.
    Mean(String, String),
    /// The mean of a series' values.
    Average(String),
}

impl Plan {
    /// Series that must be there for this plan.
    pub fn series(&self) -> &str {
        match self {
            Self::Latest(name) | Self::Rate(name) | Self::Average(name) => name,
            Self::Quantile(name, _) | Self::Mean(name, _) => name,
        }
    }
}

/// The name under which a series is offered by the adapter's rules.
pub fn offered(series: &str) -> &str {
    let name = series.strip_prefix("container_").unwrap_or(series);
    let shorter = name
        .strip_suffix("_seconds_total")
        .or_else(|| name.strip_suffix("_total"));
    shorter.unwrap_or(name)
}

/// How a metric of this name can be told, best first.
pub fn plans(metric: &str) -> Vec<Plan> {
    let mut plans = Vec::new();
    let counter = |prefix: &str, suffix: &str| {
        let series = format!("{prefix}{metric}{suffix}");
        // such a series is offered under the shorter name
        (offered(&series) == metric).then_some(Plan::Rate(series))
    };
    let gauge = |prefix: &str| {
        let series = format!("{prefix}{metric}");
        (offered(&series) == metric).then_some(Plan::Latest(series))
    };
    plans.extend(counter("", "_seconds_total"));
    plans.extend(counter("", "_total"));
    plans.extend(gauge(""));
    plans.extend(gauge("container_"));
    plans.extend(counter("container_", "_total"));
    plans.extend(counter("container_", "_seconds_total"));
    if let Some(observed) = metric.strip_suffix("_avg") {
        plans.push(Plan::Mean(
            format!("{observed}_sum"),
            format!("{observed}_count"),
        ));
        plans.push(Plan::Average(observed.to_owned()));
    }
    if let Some((observed, digits)) = metric.rsplit_once("_p")
        && let Some(q) = part(digits)
    {
        plans.push(Plan::Quantile(format!("{observed}_bucket"), q));
    }
    plans
}

/// `99` is 0.99, `999` is 0.999, `5` is 0.05.
fn part(digits: &str) -> Option<f64> {
    if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let places = i32::try_from(digits.len().max(2)).ok()?;
    Some(digits.parse::<f64>().ok()? / 10f64.powi(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_offered_as_by_the_adapter() {
        for (series, name) in [
            ("queue_depth", "queue_depth"),
            ("http_requests_total", "http_requests"),
            ("process_cpu_seconds_total", "process_cpu"),
            ("container_memory_usage_bytes", "memory_usage_bytes"),
            ("container_network_errors_total", "network_errors"),
            ("container_cpu_usage_seconds_total", "cpu_usage"),
            ("request_seconds_bucket", "request_seconds_bucket"),
            ("total", "total"),
        ] {
            assert_eq!(offered(series), name);
            let found = plans(name).into_iter().any(|plan| plan.series() == series);
            assert!(found, "{name} is told from {series}");
        }
    }

    #[test]
    fn a_name_has_plans_in_order() {
        let names = |metric: &str| -> Vec<String> {
            let plans = plans(metric);
            plans.iter().map(|plan| format!("{plan:?}")).collect()
        };
        assert_eq!(
            names("x"),
            [
                "Rate(\"x_seconds_total\")",
                "Rate(\"x_total\")",
                "Latest(\"x\")",
                "Latest(\"container_x\")",
                "Rate(\"container_x_total\")",
                "Rate(\"container_x_seconds_total\")",
            ]
        );
        // counters are not offered under their own names, nor those of seconds under half of it
        assert!(!names("x_total").contains(&"Latest(\"x_total\")".to_owned()));
        assert!(!names("x_seconds").contains(&"Rate(\"x_seconds_total\")".to_owned()));
        assert!(names("x_p99").contains(&"Quantile(\"x_bucket\", 0.99)".to_owned()));
        assert!(names("x_avg").contains(&"Mean(\"x_sum\", \"x_count\")".to_owned()));
    }

    #[test]
    fn quantiles_by_their_digits() {
        for (digits, q) in [
            ("50", Some(0.5)),
            ("99", Some(0.99)),
            ("999", Some(0.999)),
            ("5", Some(0.05)),
            ("", None),
            ("9x", None),
            ("1234567", None),
        ] {
            assert_eq!(part(digits), q, "{digits}");
        }
    }
}
