//! The rows of PriorityClasses and PodDisruptionBudgets.

use super::super::{Kind, columns, defaults, strategy, validate};
use super::BASE;

pub(super) const PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    storage: "/registry/priorityclasses",
    storage_version: "scheduling.k8s.io/v1",
    columns: columns::PRIORITY_CLASS,
    cells: columns::priority_class,
    defaults: defaults::priority_class,
    validate: validate::priority_class,
    validate_update: validate::priority_class_update,
    ..BASE
};

pub(super) const DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    storage: "/registry/poddisruptionbudgets",
    storage_version: "policy/v1",
    status: true,
    generation: true,
    columns: columns::DISRUPTION_BUDGET,
    cells: columns::disruption_budget,
    prepare_create: strategy::disruption_budget_create,
    validate: validate::disruption_budget,
    ..BASE
};
