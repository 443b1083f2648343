//! The emptier node, and the one whose processor and memory are used alike (upstream's NodeResourcesFit with LeastAllocated,
//! and NodeResourcesBalancedAllocation).

use super::MAX;
use crate::cluster::{Footprint, NodeRoom};

const NAMES: [&str; 2] = ["cpu", "memory"];

/// How much would be left of processor and memory, each a half of the score.
pub fn least_allocated(footprint: &Footprint, room: &NodeRoom) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for (at, name) in NAMES.iter().enumerate() {
        let allocatable = room.allocatable.get(*name).copied().unwrap_or(0);
        if allocatable <= 0 {
            continue;
        }
        let wanted = room.nonzero[at].saturating_add(footprint.nonzero[at]);
        weights += 1;
        if wanted <= allocatable {
            let left = i128::from(allocatable - wanted) * i128::from(MAX);
            sum += i64::try_from(left / i128::from(allocatable)).unwrap_or(0);
        }
    }
    if weights == 0 { 0 } else { sum / weights }
}

/// How alike the used shares would be. A pod that asks for nothing changes nothing and is not scored.
pub fn balanced(footprint: &Footprint, room: &NodeRoom) -> i64 {
    let wanted = |name: &str| footprint.requests.get(name).copied().unwrap_or(0);
    if NAMES.iter().all(|name| wanted(name) == 0) {
        return 0;
    }
    let shares: Vec<f64> = NAMES
        .iter()
        .filter_map(|name| {
            let allocatable = room
                .allocatable
                .get(*name)
                .copied()
                .filter(|all| *all > 0)?;
            let taken = room.taken.get(*name).copied().unwrap_or(0);
            let used = taken.saturating_add(wanted(name));
            Some((used as f64 / allocatable as f64).min(1.0))
        })
        .collect();
    let deviation = match shares[..] {
        [cpu, memory] => (cpu - memory).abs() / 2.0,
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX as f64) as i64
}
