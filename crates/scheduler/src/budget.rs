//! Disruption budgets as preemption respects them: as far as it can.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::labels::Selects;
use crate::resident::Resident;

/// Which pods, and how many of them may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    namespace: String,
    selects: Selects,
    allowed: i32,
    /// Pods that are counted as gone already.
    disrupted: BTreeSet<String>,
}

impl Budget {
    /// Of this object.
    pub fn of(budget: &PodDisruptionBudget) -> Self {
        let spec = budget.spec.as_ref();
        let status = budget.status.as_ref();
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
        Self {
            namespace: budget.metadata.namespace.clone().unwrap_or_default(),
            selects: Selects::of(spec.and_then(|spec| spec.selector.as_ref())),
            allowed: status
                .and_then(|status| status.disruptions_allowed)
                .unwrap_or(0),
            disrupted: disrupted
                .into_iter()
                .flat_map(|pods| pods.keys().cloned())
                .collect(),
        }
    }

    /// The pod's going would be taken from the budget.
    fn counts(&self, pod: &Resident) -> bool {
        self.namespace == pod.namespace
            && !self.selects.is_empty()
            && self.selects.matches(&pod.labels)
            && !self.disrupted.contains(&pod.name)
    }
}

/// For each of the pods, in their order: whether its going, after those before it, would be more than a budget allows.
pub fn violations<'a>(
    pods: impl IntoIterator<Item = &'a Resident>,
    budgets: &HashMap<String, Budget>,
) -> Vec<bool> {
    let mut left: Vec<(&Budget, i32)> = budgets
        .values()
        .map(|budget| (budget, budget.allowed))
        .collect();
    let violates = |pod: &Resident| {
        let mut violated = false;
        for (budget, left) in &mut left {
            if budget.counts(pod) {
                *left -= 1;
                violated |= *left < 0;
            }
        }
        violated
    };
    pods.into_iter().map(violates).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Labels;
    use serde_json::{Value, json};

    fn pod(name: &str, namespace: &str) -> Resident {
        Resident {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            labels: Labels::from([("app".to_owned(), "web".to_owned())]),
            ..Resident::default()
        }
    }

    #[test]
    fn a_budget_is_used_up_in_order() {
        let pods = [
            pod("a", "n"),
            pod("b", "other"),
            pod("c", "n"),
            pod("d", "n"),
        ];
        let app = json!({"matchLabels": {"app": "web"}});
        let table: [(Value, Value, [bool; 4]); 4] = [
            (
                app.clone(),
                json!({"disruptionsAllowed": 1}),
                [false, false, true, true],
            ),
            (
                app.clone(),
                json!({"disruptionsAllowed": 0}),
                [true, false, true, true],
            ),
            (
                app,
                json!({"disruptionsAllowed": 0, "disruptedPods": {"c": "2026-01-01T00:00:00Z"}}),
                [true, false, false, true],
            ),
            (json!({}), json!({"disruptionsAllowed": 0}), [false; 4]),
        ];
        for (selector, mut status, expected) in table {
            for field in ["currentHealthy", "desiredHealthy", "expectedPods"] {
                status[field] = json!(0);
            }
            let object = json!({"metadata": {"namespace": "n"}, "spec": {"selector": selector}, "status": status});
            let budget = Budget::of(&serde_json::from_value(object.clone()).unwrap());
            let budgets = HashMap::from([("n/b".to_owned(), budget)]);
            assert_eq!(violations(&pods, &budgets), expected, "{object}");
        }
    }
}
