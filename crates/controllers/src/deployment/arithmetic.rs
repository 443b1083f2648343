//! How many replicas each ReplicaSet of a Deployment gets next.
//!
//! Pure. Follows `pkg/controller/deployment/rolling.go` and `util/deployment_util.go`.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What a step needs to know of a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// `spec.replicas`.
    pub replicas: i32,
    /// Pods allowed above `replicas`.
    pub max_surge: i32,
    /// Pods that may be unavailable.
    pub max_unavailable: i32,
    /// RollingUpdate, not Recreate.
    pub rolling: bool,
}

/// What a step needs to know of a ReplicaSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `status.availableReplicas`.
    pub available: i32,
    /// Creation time; older sets are scaled down first.
    pub created: Timestamp,
    /// The `max-replicas` annotation: the Deployment's replicas and surge when the set was last scaled.
    pub max_replicas: Option<i32>,
}

/// A ReplicaSet's next size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resize {
    /// Which set.
    pub name: String,
    /// Its next `spec.replicas`.
    pub replicas: i32,
}

impl Goal {
    /// Reads a Deployment; percentages of surge round up, of unavailability down, and both are never zero.
    pub fn of(deployment: &Deployment) -> Self {
        let replicas = deployment.spec.replicas.unwrap_or(1).max(0);
        let strategy = deployment.spec.strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate");
        if !rolling {
            return Self {
                replicas,
                max_surge: 0,
                max_unavailable: 0,
                rolling,
            };
        }
        let update = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = update
            .and_then(|update| update.max_surge.as_ref())
            .unwrap_or(&quarter);
        let unavailable = update
            .and_then(|update| update.max_unavailable.as_ref())
            .unwrap_or(&quarter);
        let max_surge = resolve(surge, replicas, true);
        let mut max_unavailable = resolve(unavailable, replicas, false);
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Self {
            replicas,
            max_surge,
            max_unavailable: max_unavailable.min(replicas),
            rolling,
        }
    }

    /// Replicas that may exist at once.
    pub fn max_total(&self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }

    /// Replicas that must be available.
    pub fn min_available(&self) -> i32 {
        self.replicas - self.max_unavailable
    }
}

/// A number, or the percentage of `of`.
pub(crate) fn resolve(value: &IntOrString, of: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(count) => (*count).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|number| number.parse().ok())
                .unwrap_or(0);
            let product = percent.max(0).saturating_mul(of.into());
            let rounded = if round_up {
                product.saturating_add(99) / 100
            } else {
                product / 100
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

/// The size of the newest set, given all sets' sizes (its own included).
pub fn new_set_size(goal: &Goal, current: i32, total: i32) -> i32 {
    if !goal.rolling {
        return goal.replicas;
    }
    if current >= goal.replicas {
        return goal.replicas;
    }
    let room = goal.max_total() - total;
    if room <= 0 {
        return current;
    }
    current + room.min(goal.replicas - current)
}

/// How the old sets shrink in one step of a rolling update: first replicas that are not available anyway, then as
/// many available ones as the Deployment can miss.
pub fn shrink_old(goal: &Goal, new: &Set, old: &[Set]) -> Vec<Resize> {
    if old.iter().all(|set| set.replicas == 0) {
        return Vec::new();
    }
    let total: i32 = new.replicas + old.iter().map(|set| set.replicas).sum::<i32>();
    let new_unavailable = new.replicas - new.available;
    let surplus = total - goal.min_available() - new_unavailable;
    if surplus <= 0 {
        return Vec::new();
    }
    let mut sets: Vec<Set> = old.to_vec();
    sets.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let before: Vec<i32> = sets.iter().map(|set| set.replicas).collect();
    take_unavailable(&mut sets, surplus);
    take_available(goal, new, &mut sets);
    sets.into_iter()
        .zip(before)
        .filter(|(set, before)| set.replicas != *before)
        .map(|(set, _)| Resize {
            name: set.name,
            replicas: set.replicas,
        })
        .collect()
}

fn take_unavailable(sets: &mut [Set], most: i32) {
    let mut taken = 0;
    for set in sets {
        if taken >= most {
            return;
        }
        let take = (most - taken).min(set.replicas - set.available);
        if set.replicas == 0 || take <= 0 {
            continue;
        }
        set.replicas -= take;
        taken += take;
    }
}

fn take_available(goal: &Goal, new: &Set, sets: &mut [Set]) {
    let available: i32 = new.available + sets.iter().map(|set| set.available).sum::<i32>();
    let most = available - goal.min_available();
    let mut taken = 0;
    for set in sets {
        if taken >= most {
            return;
        }
        let take = (most - taken).min(set.replicas);
        set.replicas -= take;
        taken += take;
    }
}

/// How a change of the Deployment's own size is spread over its active sets, in proportion to their sizes, so that a
/// rollout under way keeps its mix. Every set is returned, since its annotations change with the Deployment's size.
pub fn spread(goal: &Goal, status_replicas: i32, active: &[Set]) -> Vec<Resize> {
    let total: i32 = active.iter().map(|set| set.replicas).sum();
    let allowed = if goal.replicas > 0 {
        goal.max_total()
    } else {
        0
    };
    let to_add = allowed - total;
    let mut sets: Vec<&Set> = active.iter().collect();
    sets.sort_by(|a, b| {
        let age = if to_add > 0 {
            b.created.cmp(&a.created)
        } else {
            a.created.cmp(&b.created)
        };
        b.replicas
            .cmp(&a.replicas)
            .then(age)
            .then_with(|| a.name.cmp(&b.name))
    });
    let mut added = 0;
    let mut sizes: Vec<Resize> = sets
        .iter()
        .map(|set| {
            let share = proportion(goal, status_replicas, set, to_add, added);
            added += share;
            Resize {
                name: set.name.clone(),
                replicas: set.replicas + share,
            }
        })
        .collect();
    if let Some(first) = sizes.first_mut() {
        first.replicas = (first.replicas + to_add - added).max(0);
    }
    sizes
}

fn proportion(goal: &Goal, status_replicas: i32, set: &Set, to_add: i32, added: i32) -> i32 {
    if set.replicas == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let share = fraction(goal, status_replicas, set);
    let left = to_add - added;
    if to_add > 0 {
        share.min(left)
    } else {
        share.max(left)
    }
}

fn fraction(goal: &Goal, status_replicas: i32, set: &Set) -> i32 {
    if goal.replicas == 0 {
        return -set.replicas;
    }
    let before = match set.max_replicas {
        Some(before) if before > 0 => before,
        _ if status_replicas > 0 => status_replicas,
        _ => return 0,
    };
    let size = f64::from(set.replicas) * f64::from(goal.max_total()) / f64::from(before);
    // The quotient of 32-bit counts fits a 32-bit count unless the annotation was tampered with; then it saturates.
    size.round() as i32 - set.replicas
}

#[cfg(test)]
mod tests;
