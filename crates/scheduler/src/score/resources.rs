//! The emptier node, and the one whose processor and memory are used alike (upstream's NodeResourcesFit with LeastAllocated,
//! and NodeResourcesBalancedAllocation).

use super::MAX;
use crate::cluster::{Footprint, NodeRoom};

/// Processor and memory: the first two of the built-in resources.
const SCORED: usize = 2;

/// How much would be left of processor and memory, each a half of the score.
pub fn least_allocated(footprint: &Footprint, room: &NodeRoom) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for at in 0..SCORED {
        let allocatable = room.allocatable.built_in[at];
        if allocatable <= 0 {
            continue;
        }
        let wanted = room.nonzero[at].saturating_add(footprint.nonzero[at]);
        weights += 1;
        if wanted <= allocatable {
            let left = allocatable - wanted;
            sum += match left.checked_mul(MAX) {
                Some(left) => left / allocatable,
                // so much that its hundredths are exact enough
                None => left / (allocatable / MAX),
            };
        }
    }
    if weights == 0 { 0 } else { sum / weights }
}

/// Whether the used shares would be more alike than they are: 75 for no change, 50 and 100 for the worst and the best. A pod that
/// asks for nothing changes nothing and is not scored.
pub fn balanced(footprint: &Footprint, room: &NodeRoom) -> i64 {
    let wanted = &footprint.requests.built_in[..SCORED];
    if wanted.iter().all(|amount| *amount == 0) {
        return 0;
    }
    let deviation = |more: &dyn Fn(usize) -> i64| {
        let share = |at: usize| {
            let allocatable = room.allocatable.built_in[at];
            let used = room.taken.built_in[at].saturating_add(more(at));
            (allocatable > 0).then(|| (used as f64 / allocatable as f64).min(1.0))
        };
        match (share(0), share(1)) {
            (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
            _ => 0.0,
        }
    };
    let (with, without) = (deviation(&|at| wanted[at]), deviation(&|_| 0));
    let change = (without - with) * MAX as f64;
    (50.0 + (50.0 + change) / 2.0) as i64
}
