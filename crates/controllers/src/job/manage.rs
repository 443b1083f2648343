//! Which pods a Job needs, and which it has too many of.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::backoff::Failures;
use super::look::{Look, is_suspended, number};
use super::pod;
use crate::objects;

/// Pods that are made or deleted in one reconcile, as upstream.
const BURST: usize = 500;

/// What is to be done with the pods.
#[derive(Debug, Default)]
pub struct Step {
    /// To be deleted.
    pub delete: Vec<Arc<Pod>>,
    /// They are not counted, so that nothing keeps them.
    pub uncounted: bool,
    /// To be made: for each its index, if the Job has any.
    pub create: Vec<Option<i32>>,
    /// When to look again, should nothing else happen.
    pub wait: Option<Duration>,
}

/// Decides. Deletions come first, alone.
pub fn step(look: &Look) -> Step {
    if look.end.is_some() {
        return Step {
            delete: look.active.clone(),
            ..Step::default()
        };
    }
    if objects::is_terminating(look.job) {
        return Step::default();
    }
    let active = look.active.len();
    let wanted = wanted(look);
    let mut surplus = superfluous(look, active.saturating_sub(wanted));
    if !is_suspended(look.spec) {
        surplus.truncate(BURST);
    }
    if !surplus.is_empty() || is_suspended(look.spec) {
        return Step {
            delete: surplus,
            uncounted: true,
            ..Step::default()
        };
    }
    let ending = if pod::replaced_when_ended(look.job) {
        usize::try_from(look.terminating()).unwrap_or(0)
    } else {
        0
    };
    let missing = wanted.saturating_sub(ending).saturating_sub(active);
    if missing == 0 {
        return Step::default();
    }
    let missing = missing.min(BURST);
    let (create, wait) = match &look.indexed {
        Some(seen) if seen.failed.is_some() => ready(pending(look, missing), &seen.kept, look),
        _ => {
            let wait = look.failures.wait(look.now);
            let create = match &look.indexed {
                Some(_) => pending(look, missing).into_iter().map(Some).collect(),
                None => vec![None; missing],
            };
            (create, wait)
        }
    };
    if wait.is_zero() {
        Step {
            create,
            ..Step::default()
        }
    } else {
        Step {
            wait: Some(wait),
            ..Step::default()
        }
    }
}

/// So many pods should be active.
fn wanted(look: &Look) -> usize {
    if is_suspended(look.spec) {
        return 0;
    }
    let parallelism = look.spec.parallelism.unwrap_or(1);
    let wanted = match look.spec.completions {
        Some(completions) => parallelism.min(completions.saturating_sub(look.succeeded)),
        // One success is enough; what runs beside it ends by itself.
        None if look.succeeded > 0 => number(look.active.len()),
        None => parallelism,
    };
    usize::try_from(wanted).unwrap_or(0)
}

/// At least so many pods, those without use first, then those that have come least far.
fn superfluous(look: &Look, at_least: usize) -> Vec<Arc<Pod>> {
    let mut pods = look.active.clone();
    pods.sort_by_cached_key(|pod| progress(pod));
    let Some(seen) = &look.indexed else {
        pods.truncate(at_least);
        return pods;
    };
    // Without an index of this Job, or with one that another pod works on and is further.
    let mut furthest: BTreeMap<i32, String> = BTreeMap::new();
    for pod in &pods {
        if let Some(index) = pod::valid_index(pod, seen.completions) {
            furthest.insert(index, objects::uid(&**pod).to_owned());
        }
    }
    let useful = |pod: &Arc<Pod>| {
        pod::valid_index(pod, seen.completions)
            .and_then(|index| furthest.get(&index))
            .is_some_and(|uid| uid == objects::uid(&**pod))
    };
    let (left, mut useless): (Vec<_>, Vec<_>) = pods.into_iter().partition(useful);
    let more = at_least.saturating_sub(useless.len());
    useless.extend(left.into_iter().take(more));
    useless
}

/// How far a pod has come (`ActivePods` of `pkg/controller/controller_utils.go`): bound, running, ready, ready for long,
/// seldom restarted, old.
fn progress(pod: &Pod) -> impl Ord + use<> {
    let bound = pod.spec.as_ref().is_some_and(|spec| {
        spec.node_name
            .as_deref()
            .is_some_and(|node| !node.is_empty())
    });
    let phase = match objects::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let restarts = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref())
        .into_iter()
        .flatten()
        .map(|status| status.restart_count)
        .max();
    (
        bound,
        phase,
        objects::is_ready(pod),
        objects::ready_since(pod).map(Reverse),
        Reverse(restarts),
        Reverse(objects::created(pod)),
    )
}

/// The first indexes that nothing works on and that are not done.
fn pending(look: &Look, count: usize) -> Vec<i32> {
    let Some(seen) = &look.indexed else {
        return Vec::new();
    };
    let index = |pod: &Arc<Pod>| pod::index(pod);
    let mut taken = seen.succeeded.with(look.active.iter().filter_map(index));
    if pod::replaced_when_ended(look.job) {
        let ending = look.pods.iter().filter(|pod| pod::is_ending(pod));
        taken = taken.with(ending.filter_map(index));
    }
    if let Some(failed) = &seen.failed {
        taken = taken.union(failed);
    }
    taken.missing(count, seen.completions)
}

/// Of these indexes those that have waited long enough after their failures; if none has, how long the first one waits.
fn ready(
    indexes: Vec<i32>,
    last: &BTreeMap<i32, Arc<Pod>>,
    look: &Look,
) -> (Vec<Option<i32>>, Duration) {
    let wait = |index: &i32| {
        last.get(index)
            .map_or(Duration::ZERO, |pod| Failures::of_index(pod).wait(look.now))
    };
    let shortest = indexes.iter().map(wait).min().unwrap_or_default();
    let now = indexes.into_iter().filter(|index| wait(index).is_zero());
    (now.map(Some).collect(), shortest)
}

#[cfg(test)]
mod tests;
