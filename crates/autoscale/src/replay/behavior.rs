//! Tables of stabilisation, rate policies and defaults.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use serde::Deserialize;
use serde_json::Value;

use super::common::{CaseEvent, Differences, check, events, parse, time};
use crate::hpa::{self, Bounds, Limited, Recommendation, ScaleEvent, Settings, State};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RulesCase {
    min_replicas: i32,
    max_replicas: i32,
    current_replicas: i32,
    prenormalized_desired_replicas: i32,
    scale_up_rules: Option<HPAScalingRules>,
    scale_down_rules: Option<HPAScalingRules>,
    scale_up_rules_defaulted: HPAScalingRules,
    scale_down_rules_defaulted: HPAScalingRules,
    scale_up_events: Vec<CaseEvent>,
    scale_down_events: Vec<CaseEvent>,
    expected: LimitExpected,
}

#[derive(Deserialize)]
struct LimitExpected {
    replicas: i32,
    reason: String,
}

fn compare(expected: LimitExpected, got: &Limited) -> Vec<String> {
    let mut differences = Vec::new();
    check(
        &mut differences,
        "replicas",
        Some(expected.replicas),
        &got.replicas,
    );
    check(
        &mut differences,
        "reason",
        Some(expected.reason),
        &got.reason.to_owned(),
    );
    differences
}

pub fn scaling_with_rules(case: &Value, now: Timestamp) -> Differences {
    let case: RulesCase = parse(case)?;
    let (ups, downs) = (
        events(case.scale_up_events)?,
        events(case.scale_down_events)?,
    );
    let bounds = Bounds {
        minimum: case.min_replicas,
        maximum: case.max_replicas,
        current: case.current_replicas,
        ups: &ups,
        downs: &downs,
        now,
    };
    let up = hpa::scale_up_rules(case.scale_up_rules);
    let down = hpa::scale_down_rules(case.scale_down_rules);
    let got = hpa::limit_with_behavior(case.prenormalized_desired_replicas, &bounds, &up, &down);
    let mut differences = compare(case.expected, &got);
    check(
        &mut differences,
        "scaleUpRulesDefaulted",
        Some(case.scale_up_rules_defaulted),
        &up,
    );
    check(
        &mut differences,
        "scaleDownRulesDefaulted",
        Some(case.scale_down_rules_defaulted),
        &down,
    );
    Ok(differences)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StabilizeCase {
    #[serde(default)]
    downscale_stabilization_seconds: i32,
    #[serde(default)]
    scale_up_stabilization_window_seconds: i32,
    #[serde(default)]
    scale_down_stabilization_window_seconds: i32,
    recommendations: Vec<CaseRecommendation>,
    #[serde(default)]
    current_replicas: i32,
    prenormalized_desired_replicas: i32,
    expected: StabilizeExpected,
}

#[derive(Deserialize)]
struct CaseRecommendation {
    replicas: i32,
    timestamp: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StabilizeExpected {
    replicas: i32,
    #[serde(default)]
    log_length: Option<usize>,
    #[serde(default)]
    recommendation_replicas: Option<Vec<i32>>,
}

fn log(recommendations: &[CaseRecommendation]) -> Result<Vec<Recommendation>, String> {
    recommendations
        .iter()
        .map(|past| {
            Ok(Recommendation {
                replicas: past.replicas,
                at: time(past.timestamp)?,
            })
        })
        .collect()
}

fn compare_log(expected: StabilizeExpected, replicas: i32, log: &[Recommendation]) -> Vec<String> {
    let mut differences = Vec::new();
    check(
        &mut differences,
        "replicas",
        Some(expected.replicas),
        &replicas,
    );
    check(
        &mut differences,
        "logLength",
        expected.log_length,
        &log.len(),
    );
    let recorded = log.iter().map(|past| past.replicas).collect();
    check(
        &mut differences,
        "recommendationReplicas",
        expected.recommendation_replicas,
        &recorded,
    );
    differences
}

pub fn stabilize(case: &Value, now: Timestamp) -> Differences {
    let case: StabilizeCase = parse(case)?;
    let mut log = log(&case.recommendations)?;
    let window = case.downscale_stabilization_seconds;
    let replicas = hpa::stabilize(&mut log, case.prenormalized_desired_replicas, window, now);
    Ok(compare_log(case.expected, replicas, &log))
}

pub fn stabilize_with_behavior(case: &Value, now: Timestamp) -> Differences {
    let case: StabilizeCase = parse(case)?;
    let mut log = log(&case.recommendations)?;
    let replicas = hpa::stabilize_with_behavior(
        &mut log,
        case.current_replicas,
        case.prenormalized_desired_replicas,
        case.scale_up_stabilization_window_seconds,
        case.scale_down_stabilization_window_seconds,
        now,
    );
    Ok(compare_log(case.expected, replicas, &log))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConvertCase {
    legacy_scale_up_limit_factor: f64,
    legacy_scale_up_limit_minimum: f64,
    current_replicas: i32,
    desired_replicas: i32,
    min_replicas: i32,
    max_replicas: i32,
    expected: LimitExpected,
}

pub fn convert(case: &Value, now: Timestamp) -> Differences {
    let case: ConvertCase = parse(case)?;
    let settings = Settings {
        scale_up_limit_factor: case.legacy_scale_up_limit_factor,
        scale_up_limit_minimum: case.legacy_scale_up_limit_minimum,
        ..Settings::default()
    };
    let bounds = Bounds {
        minimum: case.min_replicas,
        maximum: case.max_replicas,
        current: case.current_replicas,
        ups: &[],
        downs: &[],
        now,
    };
    Ok(compare(
        case.expected,
        &hpa::limit(case.desired_replicas, &bounds, &settings),
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LimitCase {
    current_replicas: i32,
    scale_up_events: Vec<CaseEvent>,
    scale_down_events: Vec<CaseEvent>,
    rules: HPAScalingRules,
    expected: RateExpected,
}

#[derive(Deserialize)]
struct RateExpected {
    limit: i32,
}

type LimitOf = fn(i32, &[ScaleEvent], &[ScaleEvent], &HPAScalingRules, Timestamp) -> i32;

fn rate_limit(case: &Value, now: Timestamp, limit: LimitOf) -> Differences {
    let case: LimitCase = parse(case)?;
    let (ups, downs) = (
        events(case.scale_up_events)?,
        events(case.scale_down_events)?,
    );
    let got = limit(case.current_replicas, &ups, &downs, &case.rules, now);
    let mut differences = Vec::new();
    check(&mut differences, "limit", Some(case.expected.limit), &got);
    Ok(differences)
}

pub fn scale_up_limit(case: &Value, now: Timestamp) -> Differences {
    rate_limit(case, now, hpa::scale_up_limit)
}

pub fn scale_down_limit(case: &Value, now: Timestamp) -> Differences {
    rate_limit(case, now, hpa::scale_down_limit)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoreCase {
    directions: Vec<String>,
    prev_replicas: i32,
    replica_change: i32,
    change_period_seconds: i32,
    prev_scale_events: Vec<CaseEvent>,
    scaling_rules: Option<HPAScalingRules>,
    expected: StoreExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoreExpected {
    replicas_change_in_period: i32,
    events: Vec<StoredEvent>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredEvent {
    replica_change: i32,
    outdated: bool,
}

pub fn store_events(case: &Value, now: Timestamp) -> Differences {
    let case: StoreCase = parse(case)?;
    let before = events(case.prev_scale_events)?;
    let mut differences = Vec::new();
    for direction in &case.directions {
        let up = direction == "up";
        let changed = hpa::change_in_period(case.change_period_seconds, &before, now);
        let expected = Some(case.expected.replicas_change_in_period);
        check(
            &mut differences,
            &format!("{direction}: replicasChangeInPeriod"),
            expected,
            &changed,
        );
        let mut state = State::default();
        if up {
            &mut state.scale_ups
        } else {
            &mut state.scale_downs
        }
        .clone_from(&before);
        let change = if up {
            case.replica_change
        } else {
            -case.replica_change
        };
        let rules = case.scaling_rules.as_ref().map(|rules| (rules, rules));
        let from = case.prev_replicas;
        hpa::remember(
            &mut state,
            rules,
            from,
            from + change,
            &Settings::default(),
            now,
        );
        let after: Vec<StoredEvent> = if up {
            state.scale_ups
        } else {
            state.scale_downs
        }
        .iter()
        .map(|event| StoredEvent {
            replica_change: event.change,
            outdated: event.outdated,
        })
        .collect();
        if after != case.expected.events {
            differences.push(format!(
                "{direction}: expected {:?}, got {after:?}",
                case.expected.events
            ));
        }
    }
    Ok(differences)
}

#[derive(Deserialize)]
struct DefaultsCase {
    input: Option<HPAScalingRules>,
    expected: HPAScalingRules,
}

pub fn default_rules(case: &Value, up: bool) -> Differences {
    let case: DefaultsCase = parse(case)?;
    let got = if up {
        hpa::scale_up_rules(case.input)
    } else {
        hpa::scale_down_rules(case.input)
    };
    let mut differences = Vec::new();
    check(&mut differences, "rules", Some(case.expected), &got);
    Ok(differences)
}

#[derive(Deserialize)]
struct BehaviorCase {
    input: CaseBehavior,
    expected: CaseBehavior,
}

#[derive(Deserialize)]
struct CaseBehavior {
    behavior: Option<HorizontalPodAutoscalerBehavior>,
}

pub fn default_behavior(case: &Value) -> Differences {
    let mut case: BehaviorCase = parse(case)?;
    if let Some(behavior) = &mut case.input.behavior {
        hpa::default_behavior(behavior);
    }
    let mut differences = Vec::new();
    check(
        &mut differences,
        "behavior",
        Some(case.expected.behavior),
        &case.input.behavior,
    );
    Ok(differences)
}
