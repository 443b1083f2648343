//! Rate policies: how far the size may move in their periods, and the memory of past moves that they count.
//!
//! Source followed: `calculateScaleUpLimitWithScalingRules`, `calculateScaleDownLimitWithBehaviors`,
//! `getReplicasChangePerPeriod` and `storeScaleEvent` of `pkg/controller/podautoscaler/horizontal.go`.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules};

use super::inputs::{ScaleEvent, Settings, State};
use super::pods::later;
use super::usage::ceil_replicas;

/// The rules of one direction.
pub type Rules = HPAScalingRules;

/// Upper bound on remembered moves of one direction: with periods of at most 1 800 s it is reached only by
/// moving more often than twice a second.
const EVENTS_MAX: usize = 4096;

/// The highest size that `rules` allow now; `i32::MIN` or `MAX` without policies.
pub fn scale_up_limit(
    current: i32,
    ups: &[ScaleEvent],
    downs: &[ScaleEvent],
    rules: &HPAScalingRules,
    now: Timestamp,
) -> i32 {
    limit(current, ups, downs, rules, now, Direction::Up)
}

/// The lowest size that `rules` allow now; `i32::MIN` or `MAX` without policies.
pub fn scale_down_limit(
    current: i32,
    ups: &[ScaleEvent],
    downs: &[ScaleEvent],
    rules: &HPAScalingRules,
    now: Timestamp,
) -> i32 {
    limit(current, ups, downs, rules, now, Direction::Down)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

fn limit(
    current: i32,
    ups: &[ScaleEvent],
    downs: &[ScaleEvent],
    rules: &HPAScalingRules,
    now: Timestamp,
    direction: Direction,
) -> i32 {
    let select = rules.select_policy.as_deref().unwrap_or("Max");
    if select == "Disabled" {
        return current;
    }
    let proposals = rules.policies.iter().flatten().filter_map(|policy| {
        let period = policy.period_seconds;
        let start = current
            .saturating_sub(change_in_period(period, ups, now))
            .saturating_add(change_in_period(period, downs, now));
        proposal(policy, start, direction)
    });
    // The largest change is the highest size going up, the lowest going down.
    match (direction, select == "Min") {
        (Direction::Up, false) => proposals.max().unwrap_or(i32::MIN),
        (Direction::Up, true) => proposals.min().unwrap_or(i32::MAX),
        (Direction::Down, false) => proposals.min().unwrap_or(i32::MAX),
        (Direction::Down, true) => proposals.max().unwrap_or(i32::MIN),
    }
}

fn proposal(policy: &HPAScalingPolicy, start: i32, direction: Direction) -> Option<i32> {
    let part = f64::from(policy.value) / 100.0;
    match (policy.type_.as_str(), direction) {
        ("Pods", Direction::Up) => Some(start.saturating_add(policy.value)),
        ("Pods", Direction::Down) => Some(start.saturating_sub(policy.value)),
        // Rounded up, or a small percentage would never let a small size grow.
        ("Percent", Direction::Up) => Some(ceil_replicas(f64::from(start) * (1.0 + part))),
        ("Percent", Direction::Down) => Some((f64::from(start) * (1.0 - part)) as i32),
        _ => None,
    }
}

/// Sum of the changes that happened less than `period_seconds` ago.
pub fn change_in_period(period_seconds: i32, events: &[ScaleEvent], now: Timestamp) -> i32 {
    let cutoff = later(now, -f64::from(period_seconds));
    events
        .iter()
        .filter(|event| event.at > cutoff)
        .fold(0, |sum, event| i32::saturating_add(sum, event.change))
}

/// Remembers a change of size: for the policies of `rules` (up, down) where `behavior` is set, for the period of
/// the default limit where it is not.
pub fn remember(
    state: &mut State,
    rules: Option<(&Rules, &Rules)>,
    from: i32,
    to: i32,
    settings: &Settings,
    now: Timestamp,
) {
    let change = to.saturating_sub(from);
    match rules {
        Some((up, _)) if change > 0 => store_event(
            &mut state.scale_ups,
            change,
            longest_period_seconds(up),
            now,
        ),
        Some((_, down)) => store_event(
            &mut state.scale_downs,
            -change,
            longest_period_seconds(down),
            now,
        ),
        None => {
            if let Some(period) = settings
                .scale_up_limit_period_seconds
                .filter(|_| change > 0)
            {
                store_event(&mut state.default_scale_ups, change, period, now);
            }
        }
    }
}

/// Remembers a move, in the place of one that no policy counts any more if there is one.
fn store_event(
    events: &mut Vec<ScaleEvent>,
    change: i32,
    longest_period_seconds: i32,
    now: Timestamp,
) {
    let cutoff = later(now, -f64::from(longest_period_seconds));
    for event in events.iter_mut() {
        event.outdated |= event.at < cutoff;
    }
    let event = ScaleEvent {
        change,
        at: now,
        outdated: false,
    };
    match events.iter().rposition(|event| event.outdated) {
        Some(place) => events[place] = event,
        None => events.push(event),
    }
    if events.len() > EVENTS_MAX {
        events.remove(0);
    }
}

/// The longest period of `rules`' policies; zero without any.
fn longest_period_seconds(rules: &HPAScalingRules) -> i32 {
    rules
        .policies
        .iter()
        .flatten()
        .map(|policy| policy.period_seconds)
        .max()
        .unwrap_or_default()
        .max(0)
}
