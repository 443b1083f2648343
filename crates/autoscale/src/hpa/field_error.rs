//! Errors of single fields, worded as `k8s.io/apimachinery/pkg/util/validation/field` words them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One error of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Path of the field, `spec.maxReplicas`.
    pub field: String,
    /// Reason of the cause in a Status: `FieldValueRequired`, `FieldValueInvalid`, ...
    pub reason: String,
    /// What is wrong, as the cause's message (`Invalid value: 0: must be greater than 0`).
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Errors found so far.
#[derive(Default)]
pub struct Errors {
    /// In the order of finding.
    pub list: Vec<FieldError>,
}

impl Errors {
    fn push(&mut self, field: impl Into<String>, reason: &str, message: String) {
        self.list.push(FieldError {
            field: field.into(),
            reason: reason.to_owned(),
            message,
        });
    }

    /// A value that must be there is not.
    pub fn required(&mut self, field: impl Into<String>, detail: &str) {
        let message = if detail.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {detail}")
        };
        self.push(field, "FieldValueRequired", message);
    }

    /// A value is wrong.
    pub fn invalid(&mut self, field: impl Into<String>, value: impl fmt::Debug, detail: &str) {
        self.push(
            field,
            "FieldValueInvalid",
            format!("Invalid value: {value:?}: {detail}"),
        );
    }

    /// A value must not be there.
    pub fn forbidden(&mut self, field: impl Into<String>, detail: &str) {
        self.push(field, "FieldValueForbidden", format!("Forbidden: {detail}"));
    }

    /// A value is none of those that are possible.
    pub fn unsupported(&mut self, field: impl Into<String>, value: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let message = format!(
            "Unsupported value: {value:?}: supported values: {}",
            supported.join(", ")
        );
        self.push(field, "FieldValueNotSupported", message);
    }

    /// A name that cannot be part of a path is wrong.
    pub fn path_segment(&mut self, field: String, value: &str) {
        if value == "." || value == ".." {
            self.invalid(field, value, &format!("may not be '{value}'"));
            return;
        }
        for illegal in ["/", "%"] {
            if value.contains(illegal) {
                self.invalid(
                    field.clone(),
                    value,
                    &format!("may not contain '{illegal}'"),
                );
            }
        }
    }

    /// A name that is not an RFC 1123 label is wrong.
    pub fn label(&mut self, field: String, value: &str) {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let valid = value.starts_with(inner)
            && value.ends_with(inner)
            && value.chars().all(|c| inner(c) || c == '-');
        if value.len() > 63 {
            self.invalid(field.clone(), value, "must be no more than 63 bytes");
        }
        if !valid {
            self.invalid(
                field,
                value,
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                 start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
                 validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            );
        }
    }
}
