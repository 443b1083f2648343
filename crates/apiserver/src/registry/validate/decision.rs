//! Validation of ScalingDecisions.

use serde_json::Value;

use super::Problems;
use crate::object::text;

pub fn scaling_decision(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    for (key, why) in [
        ("autoscaler", "must name the autoscaler that decided"),
        ("time", "must say when it was decided"),
    ] {
        if text(spec, &[key]).is_empty() {
            problems.required(&format!("spec.{key}"), why);
        }
    }
    let time = text(spec, &["time"]);
    if !time.is_empty() && time.parse::<jiff::Timestamp>().is_err() {
        problems.invalid("spec.time", &spec["time"], "must be a time in RFC 3339");
    }
}

/// What was decided stays what it was.
pub fn scaling_decision_update(new: &Value, old: &Value, problems: &mut Problems) {
    if new["spec"] != old["spec"] {
        problems.forbidden("spec", "a decision that was made does not change");
    }
}
