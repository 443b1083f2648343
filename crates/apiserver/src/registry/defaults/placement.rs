//! Defaults of PriorityClasses.

use serde_json::Value;

use super::set;

pub fn priority_class(object: &mut Value) {
    set(object, "preemptionPolicy", "PreemptLowerPriority");
}
