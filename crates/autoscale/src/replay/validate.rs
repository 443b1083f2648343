//! Tables of validation and of quantities.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerSpec;
use serde::Deserialize;
use serde_json::Value;

use super::common::{Differences, check, check_error, parse};
use crate::hpa;
use crate::quantity::{Quantity, status_text};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QuantityCase {
    resource_name: String,
    raw_proposal_milli: i64,
    expected: QuantityExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QuantityExpected {
    milli_value: i64,
    format: String,
}

pub fn build_quantity(case: &Value) -> Differences {
    let case: QuantityCase = parse(case)?;
    let text = status_text(&case.resource_name, case.raw_proposal_milli);
    let read = Quantity::parse(&text).map_err(|error| error.to_string())?;
    let format = if text.ends_with('i') {
        "BinarySI"
    } else {
        "DecimalSI"
    };
    let mut differences = Vec::new();
    check(
        &mut differences,
        "milliValue",
        Some(case.expected.milli_value),
        &read.milli_value(),
    );
    check(
        &mut differences,
        "format",
        Some(case.expected.format),
        &format.to_owned(),
    );
    Ok(differences)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidateCase<T> {
    object: T,
    min_replicas_lower_bound: i32,
    expected: ValidateExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidateExpected {
    valid: bool,
    #[serde(default)]
    first_error_contains: Option<String>,
}

#[derive(Deserialize)]
struct SpecObject {
    spec: HorizontalPodAutoscalerSpec,
}

#[derive(Deserialize)]
struct ScaleObject {
    spec: ScaleSpec,
}

#[derive(Deserialize)]
struct ScaleSpec {
    replicas: i32,
}

pub fn validate(case: &Value) -> Differences {
    let case: ValidateCase<SpecObject> = parse(case)?;
    let errors = hpa::validate_autoscaler(&case.object.spec, case.min_replicas_lower_bound);
    Ok(compare_errors(&case.expected, &errors))
}

pub fn validate_scale(case: &Value) -> Differences {
    let case: ValidateCase<ScaleObject> = parse(case)?;
    Ok(compare_errors(
        &case.expected,
        &hpa::validate_scale(case.object.spec.replicas),
    ))
}

/// Evaluates a case of validation by somebody else's function, which gets the table's name, the object and the least
/// that `minReplicas` may be, and gives all errors in order, each as `FIELD: WHAT IS WRONG`. This is how the API
/// server's own validation is put to the same cases as this crate's.
///
/// # Errors
/// If the case is none of validation, or does not have its form.
pub fn compare_validation(
    case: &Value,
    validate: impl FnOnce(&str, &Value, i32) -> Vec<String>,
) -> Differences {
    let table = case
        .get("table")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !["validate_hpa", "validate_scale"].contains(&table) {
        return Err(format!("{table:?} is no table of validation"));
    }
    let form: ValidateCase<Value> = parse(case)?;
    let errors = validate(table, &form.object, form.min_replicas_lower_bound);
    Ok(compare_texts(&form.expected, &errors))
}

fn compare_errors(expected: &ValidateExpected, errors: &[hpa::FieldError]) -> Vec<String> {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    compare_texts(expected, &texts)
}

fn compare_texts(expected: &ValidateExpected, errors: &[String]) -> Vec<String> {
    let mut differences = Vec::new();
    check(
        &mut differences,
        "valid",
        Some(expected.valid),
        &errors.is_empty(),
    );
    check_error(
        &mut differences,
        expected.first_error_contains.as_deref(),
        errors.first().map(String::as_str),
    );
    differences
}
