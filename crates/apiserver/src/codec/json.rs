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
            "couldn't get version/kind; json parse error: {}",
            words(&error, body)
        ))),
    }
}

/// Upstream's words where it has some for the case: an end that comes too early, a character that does not belong there.
fn words(error: &serde_json::Error, body: &[u8]) -> String {
    if error.is_eof() {
        return format!(
            "unexpected end of JSON input at line {} column {}",
            error.line(),
            error.column()
        );
    }
    let line = body
        .split(|byte| *byte == b'\n')
        .nth(error.line().saturating_sub(1));
    let character = line
        .and_then(|line| line.get(error.column().saturating_sub(1)..))
        .and_then(|rest| String::from_utf8_lossy(rest).chars().next());
    match character {
        Some(character) if error.is_syntax() => format!("invalid character {character:?}: {error}"),
        _ => error.to_string(),
    }
}
