//! The row of ScalingDecisions, the one kind of a group of our own: decisions of autoscalers that differed, kept with
//! what they were made from. `controllers` writes them, `autoscale::record` is their form.

use super::super::{Kind, columns, validate};
use super::{BASE, field};

pub(super) const SCALING_DECISION: Kind = Kind {
    group: "autoscaling.plimsoll.dev",
    version: "v1alpha1",
    kind: "ScalingDecision",
    plural: "scalingdecisions",
    singular: "scalingdecision",
    storage: "/registry/autoscaling.plimsoll.dev/scalingdecisions",
    storage_version: "autoscaling.plimsoll.dev/v1alpha1",
    status: true,
    fields: &[field("spec.autoscaler", &["spec", "autoscaler"])],
    columns: columns::SCALING_DECISION,
    cells: columns::scaling_decision,
    validate: validate::scaling_decision,
    validate_update: validate::scaling_decision_update,
    ..BASE
};
