//! What a proposal keeps of its calculation, and where assumed values stand in.

mod support;

use autoscale::hpa::{
    Conclusion, Context, Pod, ReadyCondition, Sample, Samples, Settings, Target, Tolerance,
    by_average, by_utilization, by_value, by_value_per_pod,
};

use support::now;

const TOLERANCE: Tolerance = Tolerance {
    scale_up: 0.1,
    scale_down: 0.1,
};

/// Pods by phase: `+` runs and is ready, `-` runs and is not, `?` waits.
fn pods(phases: &str) -> Vec<Pod> {
    let pod = |(at, phase)| Pod {
        name: format!("web-{at}"),
        phase: if phase == '?' { "Pending" } else { "Running" }.to_owned(),
        start_time: Some(now() - jiff::SignedDuration::from_hours(1)),
        ready: Some(ReadyCondition {
            status: if phase == '+' { "True" } else { "False" }.to_owned(),
            last_transition: now(),
        }),
        containers: vec![autoscale::hpa::Container {
            name: "web".to_owned(),
            requests_milli: [("cpu".to_owned(), 100)].into(),
        }],
        ..Pod::default()
    };
    phases.chars().enumerate().map(pod).collect()
}

fn samples(values: &[Option<i64>]) -> Samples {
    let of = |(at, value): (usize, &Option<i64>)| {
        let sample = Sample {
            timestamp: now(),
            window_seconds: 5.0,
            value_milli: (*value)?,
        };
        Some((format!("web-{at}"), sample))
    };
    values.iter().enumerate().filter_map(of).collect()
}

/// Calls with a context of these pods, at this size.
fn with<T>(phases: &str, current: i32, call: impl FnOnce(&Context<'_>) -> T) -> T {
    let pods = pods(phases);
    let pods: Vec<&Pod> = pods.iter().collect();
    let settings = Settings::default();
    call(&Context {
        pods: &pods,
        settings: &settings,
        now: now(),
        tolerance: TOLERANCE,
        current,
    })
}

#[test]
fn one_value_against_one_target() {
    let proposal = with("+-+", 3, |context| by_value(context, 6000, 5000)).expect("a proposal");
    assert_eq!(proposal.replicas, 3, "1.2 times the two that are ready");
    let kept = proposal.arithmetic;
    assert_eq!(kept.target, Some(Target::ValueMilli(5000)));
    assert_eq!((kept.usage_milli, kept.ratio), (6000, 1.2));
    assert_eq!(kept.tolerance, TOLERANCE);
    assert_eq!(kept.multiplied_with, Some(2));
    assert_eq!(kept.pods.map(|pods| pods.ready), Some(2));
    // of nothing the ratio itself
    let proposal = with("", 0, |context| by_value(context, 6000, 5000)).expect("a proposal");
    assert_eq!(proposal.replicas, 2);
    assert_eq!(proposal.arithmetic.usage_milli, 6000);
    assert_eq!(proposal.arithmetic.target, Some(Target::ValueMilli(5000)));
}

#[test]
fn one_value_shared_out() {
    let proposal = with("+++", 3, |context| by_value_per_pod(context, 3, 6000, 1000));
    assert_eq!(proposal.replicas, 6);
    let kept = proposal.arithmetic;
    assert_eq!(kept.target, Some(Target::AverageMilli(1000)));
    assert_eq!((kept.usage_milli, kept.ratio), (6000, 2.0));
    assert_eq!(
        (kept.average_milli, kept.tolerance),
        (Some(2000), TOLERANCE)
    );
    assert_eq!(kept.multiplied_with, Some(3));
    assert_eq!(kept.conclusion, Conclusion::Divided);
    let stays = with("+++", 3, |context| by_value_per_pod(context, 3, 3200, 1000));
    assert_eq!(stays.replicas, 3);
    assert_eq!(stays.arithmetic.conclusion, Conclusion::WithinTolerance);
}

#[test]
fn what_is_unknown_damps_the_change() {
    let average = |phases: &str, values: &[Option<i64>]| {
        let current = phases.len() as i32;
        let samples = samples(values);
        with(phases, current, |context| {
            by_average(context, samples, "", 100)
        })
        .expect("a proposal")
    };
    // below the target, as the target: (50 + 100) / 2
    let down = average("++", &[Some(50), None]);
    assert_eq!(
        (down.arithmetic.usage_milli, down.arithmetic.ratio),
        (50, 0.5)
    );
    assert_eq!(down.arithmetic.tolerance, TOLERANCE);
    let adjusted = down.arithmetic.adjusted.expect("assumed");
    assert_eq!(
        (adjusted.ratio, adjusted.missing_percent),
        (0.75, Some(100))
    );
    // above it, as nothing: (300 + 0) / 2
    let up = average("++", &[Some(300), None]);
    let adjusted = up.arithmetic.adjusted.expect("assumed");
    assert_eq!((adjusted.ratio, adjusted.missing_percent), (1.5, Some(0)));
    assert_eq!(up.replicas, 3);
    // at it, as neither; and who waits counts only above
    let same = average("++", &[Some(100), None]);
    let adjusted = same.arithmetic.adjusted.expect("looked at");
    assert_eq!((adjusted.ratio, adjusted.missing_percent), (1.0, None));
    assert_eq!(average("+?", &[Some(100), None]).arithmetic.adjusted, None);
    assert_eq!(average("+?", &[Some(50), None]).arithmetic.adjusted, None);
    let waits = average("+?", &[Some(300), None]).arithmetic.adjusted;
    assert!(waits.expect("assumed").unready_as_zero);
}

#[test]
fn what_would_turn_the_direction_round_changes_nothing() {
    let utilization = |target: i32, values: &[Option<i64>]| {
        let samples = samples(values);
        with("++", 2, |context| {
            by_utilization(context, samples, "cpu", None, target)
        })
        .expect("a proposal")
    };
    // 40 % of a target of 50 %; with the missing one at 100 % it is 70 %
    let shrinking = utilization(50, &[Some(40), None]);
    assert_eq!(shrinking.replicas, 2);
    assert_eq!(shrinking.arithmetic.conclusion, Conclusion::WouldReverse);
    let adjusted = shrinking.arithmetic.adjusted.expect("assumed");
    assert_eq!((shrinking.arithmetic.ratio, adjusted.ratio), (0.8, 1.4));
    // 80 % of it; with the missing one at 0 % it is 40 %
    let growing = utilization(50, &[Some(80), None]);
    assert_eq!(growing.replicas, 2);
    assert_eq!(growing.arithmetic.conclusion, Conclusion::WouldReverse);
}

/// Sizes that come out above or below the present one against the ratio's direction, because others are there than are counted.
#[test]
fn a_size_against_the_ratio_changes_nothing_and_the_same_size_is_a_result() {
    let at = |current: i32, values: &[Option<i64>]| {
        let samples = samples(values);
        let proposal = with("++", current, |context| {
            by_average(context, samples, "", 100)
        })
        .expect("a proposal");
        (proposal.replicas, proposal.arithmetic.conclusion)
    };
    let multiplied = Conclusion::default();
    // 1.5 times two is three
    let up = [Some(300), None];
    assert_eq!(at(2, &up), (3, multiplied));
    assert_eq!(at(3, &up), (3, multiplied));
    assert_eq!(at(4, &up), (4, Conclusion::WouldReverse));
    // 0.75 times two is two
    let down = [Some(50), None];
    assert_eq!(at(3, &down), (2, multiplied));
    assert_eq!(at(2, &down), (2, multiplied));
    assert_eq!(at(1, &down), (1, Conclusion::WouldReverse));
}
