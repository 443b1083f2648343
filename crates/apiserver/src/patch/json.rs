//! JSON patch (RFC 6902), with bounds on operations, on what copies add up to, and on depth.

use super::{PatchError, read};
use crate::codec::DEPTH_MAX;
use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;

/// Upstream's limit.
const OPERATIONS_MAX: usize = 10_000;
/// What all copies of a patch may add up to: more than any object that can be stored.
const COPIED_BYTES_MAX: usize = 8 << 20;

pub(super) fn apply(original: &Value, body: &[u8]) -> Result<Value, PatchError> {
    let patch = read(body)?;
    let count = patch.as_array().map_or(0, Vec::len);
    if count > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
        )));
    }
    let operations: Vec<PatchOperation> = serde_json::from_value(patch)
        .map_err(|error| PatchError::Malformed(format!("error decoding patch: {error}")))?;
    let mut result = original.clone();
    let mut bounds = Bounds {
        copied: 0,
        depth: depth(&result),
    };
    for operation in &operations {
        bounds.guard(&result, operation)?;
        if finds_nothing_as_expected(&result, operation) {
            continue;
        }
        json_patch::patch_unsafe(&mut result, std::slice::from_ref(operation))
            .map_err(|error| PatchError::Unprocessable(explain(operation, &error.kind)))?;
    }
    Ok(result)
}

/// Whether `null` is expected of a field that is not there, which upstream's library takes for the same: the finalizer helper of
/// kube for Rust asks so before it adds the first one.
fn finds_nothing_as_expected(document: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else {
        return false;
    };
    let path = test.path.as_str();
    let Some((object, _)) = path.rsplit_once('/') else {
        return false;
    };
    test.value.is_null()
        && document.pointer(object).is_some_and(Value::is_object)
        && document.pointer(path).is_none()
}

/// Refuses what would grow without bound: copies of copies, and nesting that recursion could not follow.
struct Bounds {
    /// About the bytes of JSON that copies have added.
    copied: usize,
    /// The document nests no deeper than this.
    depth: usize,
}

impl Bounds {
    fn guard(&mut self, document: &Value, operation: &PatchOperation) -> Result<(), PatchError> {
        match operation {
            PatchOperation::Add(add) => self.deepen(steps(add.path.as_str()) + depth(&add.value)),
            PatchOperation::Replace(replace) => {
                self.deepen(steps(replace.path.as_str()) + depth(&replace.value))
            }
            PatchOperation::Move(mov) => {
                self.transfer(document, mov.from.as_str(), mov.path.as_str())
            }
            PatchOperation::Copy(copy) => {
                let source = document.pointer(copy.from.as_str());
                self.copied += source.map_or(0, size);
                if self.copied > COPIED_BYTES_MAX {
                    let copied = self.copied;
                    return Err(PatchError::TooLarge(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {copied}, \
                         exceeding the limit {COPIED_BYTES_MAX}"
                    )));
                }
                self.transfer(document, copy.from.as_str(), copy.path.as_str())
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => Ok(()),
        }
    }

    /// What is taken from one place to another. It is measured only when the bound alone would refuse it.
    fn transfer(&mut self, document: &Value, from: &str, to: &str) -> Result<(), PatchError> {
        let estimate = steps(to) + self.depth.saturating_sub(steps(from));
        if estimate <= DEPTH_MAX {
            return self.deepen(estimate);
        }
        self.depth = depth(document);
        self.deepen(steps(to) + document.pointer(from).map_or(0, depth))
    }

    fn deepen(&mut self, depth: usize) -> Result<(), PatchError> {
        if depth > DEPTH_MAX {
            return Err(PatchError::TooLarge(format!(
                "the patch would nest the object deeper than {DEPTH_MAX} levels"
            )));
        }
        self.depth = self.depth.max(depth);
        Ok(())
    }
}

fn steps(pointer: &str) -> usize {
    pointer.bytes().filter(|byte| *byte == b'/').count()
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// About the bytes that a value takes as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 2 + items.iter().map(|item| 1 + size(item)).sum::<usize>(),
        Value::Object(fields) => {
            2 + fields
                .iter()
                .map(|(key, value)| key.len() + 4 + size(value))
                .sum::<usize>()
        }
        Value::String(text) => 2 + text.len(),
        _ => 8,
    }
}

fn explain(operation: &PatchOperation, kind: &PatchErrorKind) -> String {
    let (name, path) = match operation {
        PatchOperation::Add(add) => ("add", &add.path),
        PatchOperation::Remove(remove) => ("remove", &remove.path),
        PatchOperation::Replace(replace) => ("replace", &replace.path),
        PatchOperation::Move(mov) => ("move", &mov.path),
        PatchOperation::Copy(copy) => ("copy", &copy.path),
        PatchOperation::Test(test) => ("test", &test.path),
    };
    match (name, kind) {
        ("test", _) => format!("testing value {path} failed: test failed"),
        ("replace", _) => {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }
        (_, PatchErrorKind::InvalidPointer) => {
            format!(
                "{name} operation does not apply: doc is missing path: {:?}: missing value",
                path.as_str()
            )
        }
        (_, kind) => format!("{name} operation does not apply: {path}: {kind}"),
    }
}
