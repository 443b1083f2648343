//! Whether the node is short of something, and what to do about it: a pure function.
//!
//! Follows the kubelet's `pkg/kubelet/eviction` (`synchronize` and its helpers) for hard thresholds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::signal::{Observations, Pressure};
use super::threshold::Threshold;

/// What is remembered from one look to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Thresholds that were met and whose minimum was not reclaimed yet.
    met: Vec<Threshold>,
    /// When each condition was seen last.
    seen: BTreeMap<Pressure, Duration>,
}

/// What a look at the node gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    pub memory: Memory,
    /// Conditions that hold: seen now, or not so long ago that they may be believed to be over.
    pub conditions: BTreeSet<Pressure>,
    /// Thresholds that are met now, the one to deal with first.
    pub met: Vec<Threshold>,
}

/// Compares what is there with what should be. `now` is time of a clock that does not jump; a condition holds until it has not
/// been seen for `transition`.
pub fn look(
    thresholds: &[Threshold],
    observed: &Observations,
    before: &Memory,
    transition: Duration,
    now: Duration,
) -> Look {
    let mut met = met_of(thresholds, observed, false);
    for unresolved in met_of(&before.met, observed, true) {
        // a threshold that was taken out of the settings is forgotten
        if !met.contains(&unresolved) && thresholds.contains(&unresolved) {
            met.push(unresolved);
        }
    }
    met.sort_by_key(|threshold| threshold.signal);
    let mut seen = before.seen.clone();
    seen.extend(
        met.iter()
            .map(|threshold| (threshold.signal.condition(), now)),
    );
    seen.retain(|_, at| now == *at || now.saturating_sub(*at) < transition);
    Look {
        conditions: seen.keys().copied().collect(),
        memory: Memory {
            met: met.clone(),
            seen,
        },
        met,
    }
}

/// Whether, after something was reclaimed, any threshold is still met or its minimum not reclaimed.
pub fn still_short(thresholds: &[Threshold], observed: &Observations) -> bool {
    !met_of(thresholds, observed, true).is_empty()
}

fn met_of(thresholds: &[Threshold], observed: &Observations, reclaiming: bool) -> Vec<Threshold> {
    let met = thresholds.iter().filter(|threshold| {
        observed
            .get(&threshold.signal)
            .is_some_and(|observed| threshold.is_met(*observed, reclaiming))
    });
    met.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::signal::{Observation, Signal};
    use super::super::threshold::{Reclaims, Thresholds};
    use super::*;

    const TRANSITION: Duration = Duration::from_secs(300);

    fn thresholds(text: &str, reclaims: &str) -> Vec<Threshold> {
        let reclaims: Reclaims = reclaims.parse().expect("valid");
        text.parse::<Thresholds>().expect("valid").with(&reclaims)
    }

    fn observed(rows: &[(Signal, i64)]) -> Observations {
        let row = |(signal, available): &(Signal, i64)| {
            let observation = Observation {
                available: *available,
                capacity: 1000,
            };
            (*signal, observation)
        };
        rows.iter().map(row).collect()
    }

    /// One run through a table: seconds, observations, conditions, signals that are met.
    type Row<'a> = (u64, &'a [(Signal, i64)], &'a [Pressure], &'a [Signal]);

    fn run(thresholds: &[Threshold], rows: &[Row]) {
        let mut memory = Memory::default();
        for (seconds, rows, conditions, signals) in rows {
            let now = Duration::from_secs(*seconds);
            let looked = look(thresholds, &observed(rows), &memory, TRANSITION, now);
            let met: Vec<Signal> = looked.met.iter().map(|one| one.signal).collect();
            assert_eq!(met, *signals, "after {seconds} s");
            assert_eq!(
                looked.conditions.iter().copied().collect::<Vec<_>>(),
                *conditions,
                "after {seconds} s"
            );
            memory = looked.memory;
        }
    }

    #[test]
    fn a_condition_holds_until_it_was_not_seen_for_the_transition_period() {
        use Pressure::{Disk, Memory as OfMemory};
        use Signal::{ImageFs, Memory, NodeFs};
        let all = thresholds(
            "memory.available<100,nodefs.available<10%,imagefs.available<15%",
            "",
        );
        run(
            &all,
            &[
                (0, &[(Memory, 100), (NodeFs, 100), (ImageFs, 150)], &[], &[]),
                (1, &[(Memory, 99), (NodeFs, 100)], &[OfMemory], &[Memory]),
                (2, &[(Memory, 100), (NodeFs, 100)], &[OfMemory], &[]),
                (
                    100,
                    &[(Memory, 100), (NodeFs, 99), (ImageFs, 99)],
                    &[Disk, OfMemory],
                    &[NodeFs, ImageFs],
                ),
                (300, &[(Memory, 100)], &[Disk, OfMemory], &[]),
                // what cannot be observed decides nothing
                (301, &[], &[Disk], &[]),
                (399, &[], &[Disk], &[]),
                (400, &[], &[], &[]),
            ],
        );
    }

    #[test]
    fn memory_comes_first_and_so_do_the_pods() {
        use Signal::{Memory, NodeFs, Pids, PodsMemory};
        let all = thresholds(
            "pid.available<10,nodefs.available<100,memory.available<100",
            "",
        );
        run(
            &all,
            &[
                (
                    0,
                    &[(Pids, 9), (NodeFs, 1), (Memory, 1), (PodsMemory, -5)],
                    &[Pressure::Disk, Pressure::Memory, Pressure::Pids],
                    &[Memory, PodsMemory, NodeFs, Pids],
                ),
                (
                    1,
                    &[(Pids, 10), (NodeFs, 100), (Memory, 100), (PodsMemory, 99)],
                    &[Pressure::Disk, Pressure::Memory, Pressure::Pids],
                    &[PodsMemory],
                ),
            ],
        );
    }

    #[test]
    fn what_was_short_stays_so_until_its_minimum_is_reclaimed() {
        use Signal::NodeFs;
        let all = thresholds("nodefs.available<100", "nodefs.available=50");
        run(
            &all,
            &[
                (0, &[(NodeFs, 149)], &[], &[]),
                (1, &[(NodeFs, 99)], &[Pressure::Disk], &[NodeFs]),
                (2, &[(NodeFs, 149)], &[Pressure::Disk], &[NodeFs]),
                (3, &[(NodeFs, 150)], &[Pressure::Disk], &[]),
                (4, &[(NodeFs, 149)], &[Pressure::Disk], &[]),
            ],
        );
        assert!(still_short(&all, &observed(&[(NodeFs, 149)])));
        assert!(!still_short(&all, &observed(&[(NodeFs, 150)])));
        assert!(!still_short(&all, &observed(&[])));
    }

    #[test]
    fn without_a_transition_period_a_condition_goes_at_once() {
        let all = thresholds("memory.available<100", "");
        let zero = Duration::ZERO;
        let short = observed(&[(Signal::Memory, 1)]);
        let first = look(&all, &short, &Memory::default(), zero, zero);
        assert_eq!(first.conditions.len(), 1);
        let enough = observed(&[(Signal::Memory, 100)]);
        let next = look(&all, &enough, &first.memory, zero, Duration::from_secs(1));
        assert!(next.conditions.is_empty());
    }
}
