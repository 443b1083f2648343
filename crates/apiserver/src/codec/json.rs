//! JSON bodies. Nesting is limited to [`super::DEPTH_MAX`] by serde_json.

use super::tree::Tree;
use super::{DEPTH_MAX, DecodeError, Duplicate};
use serde_json::Value;

/// The value of a body and the fields it gives more than once.
pub fn decode(body: &[u8]) -> Result<(Value, Vec<Duplicate>), DecodeError> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Tree::read(&mut deserializer, &mut duplicates)
        .and_then(|value| deserializer.end().map(|()| value));
    match value {
        Ok(value) => Ok((value, duplicates)),
        Err(error) if error.to_string().starts_with("recursion limit") => Err(DecodeError::Limit(
            format!("the body nests deeper than {DEPTH_MAX} levels"),
        )),
        Err(error) => Err(DecodeError::Malformed(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))),
    }
}
