//! Whole decisions: recorded ones, and inputs that somebody wrote.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::common::{Differences, check, check_error};
use super::{Decided, compare, strict};
use crate::hpa::{self, Decision, Inputs, Rule};
use crate::record::{Record, concluded};

/// What a written case may expect; what is not named is not compared.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Expected {
    /// The size.
    desired: Option<i32>,
    /// Whether the size is changed.
    rescale: Option<bool>,
    /// Part of the error's text; empty for none.
    error: Option<String>,
    /// Conditions by type, `STATUS/REASON` or `REASON` each.
    conditions: std::collections::BTreeMap<String, String>,
}

/// Inputs with what is expected of them.
pub fn written(case: &Value, decided: &mut Option<Decided>) -> Differences {
    let mut case = case.clone();
    let Some(object) = case.as_object_mut() else {
        return Err("it is no object".to_owned());
    };
    let expected = object.remove("expected").unwrap_or_default();
    for key in ["name", "table", "source", "description"] {
        object.remove(key);
    }
    let inputs: Inputs = match object.remove("inputs") {
        None => strict::read(&case, "")?,
        Some(inputs) => {
            let left: Vec<&str> = object.keys().map(String::as_str).collect();
            if !left.is_empty() {
                return Err(format!("unknown field {}", left.join(", ")));
            }
            strict::read(&inputs, "inputs")?
        }
    };
    let expected: Expected = match expected {
        Value::Null => Expected::default(),
        expected => strict::read(&expected, "expected")?,
    };
    let mut spec = inputs.hpa.spec.clone();
    hpa::default_spec(&mut spec);
    let least = if inputs.settings.scale_to_zero { 0 } else { 1 };
    if let Some(error) = hpa::validate_autoscaler(&spec, least).first() {
        return Err(format!("the API server would refuse it: hpa.{error}"));
    }
    let decision = hpa::decide(&inputs);
    let mut differences = Vec::new();
    let desired = expected.desired.map(Some);
    check(&mut differences, "desired", desired, &decision.desired);
    let rescaled = decision.rescale.is_some();
    check(&mut differences, "rescale", expected.rescale, &rescaled);
    if let Some(text) = &expected.error {
        let text = Some(text.as_str()).filter(|text| !text.is_empty());
        check_error(&mut differences, text, decision.error.as_deref());
    }
    for (kind, wanted) in &expected.conditions {
        let found = decision.status.conditions.iter().flatten();
        let mut found = found.filter(|condition| &condition.type_ == kind).map(|c| {
            let reason = c.reason.as_deref().unwrap_or_default();
            if wanted.contains('/') {
                format!("{}/{reason}", c.status)
            } else {
                reason.to_owned()
            }
        });
        let found = found.next().unwrap_or_default();
        let what = format!("conditions.{kind}");
        check(&mut differences, &what, Some(wanted.clone()), &found);
    }
    *decided = Some(summary(&decision));
    Ok(differences)
}

/// A ScalingDecision: the same inputs must give the same decision.
pub fn recorded(case: &Value, decided: &mut Option<Decided>) -> Differences {
    let spec = case.get("spec").ok_or("it has no spec")?;
    let record: Record = serde_path_to_error::deserialize(spec)
        .map_err(|error| format!("spec.{}: {}", error.path(), error.inner()))?;
    let inputs = record
        .inputs
        .as_ref()
        .ok_or("its inputs were not kept (they were too large)")?;
    let inputs: Inputs = strict::read(inputs, "spec.inputs")?;
    let mut decision = hpa::decide(&inputs);
    if let Some(error) = record.decision.as_ref().and_then(write_error) {
        decision = hpa::decide_after_failed_write(&inputs, &error);
    }
    let mut differences = Vec::new();
    let again = Record::new(&inputs, &decision, usize::MAX);
    check(
        &mut differences,
        "spec.from",
        Some(record.from),
        &again.from,
    );
    check(&mut differences, "spec.to", Some(record.to), &again.to);
    if let (Some(before), Some(now)) = (&record.decision, concluded(&decision)) {
        compare::differences(before, &now, "spec.decision", &mut differences);
    }
    *decided = Some(summary(&decision));
    Ok(differences)
}

/// Why the write of the size failed, if it did.
fn write_error(decision: &Value) -> Option<String> {
    let steps = decision.get("steps")?.as_array()?;
    steps
        .iter()
        .rev()
        .find_map(|step| match Rule::deserialize(step.get("rule")?).ok()? {
            Rule::WriteFailed { error } => Some(error),
            _ => None,
        })
}

fn summary(decision: &Decision) -> Decided {
    Decided {
        from: decision.current,
        to: decision.desired,
        sentences: decision.sentences(),
    }
}
