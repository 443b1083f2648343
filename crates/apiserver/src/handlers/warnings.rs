//! Warnings: what is found while a request is done, and the headers that tell it.

use http::header::HeaderValue;
use parking_lot::Mutex;
use serde_json::Value;

use super::Context;
use crate::registry::warn;

/// Together they are at most this long, else each is cut (upstream's limits, in characters).
const TOTAL_CHARS_MAX: usize = 4 * 1024;
const CUT_CHARS: usize = 256;

/// What the answer to a request warns of; each thing once, also when a write is tried again.
#[derive(Default)]
pub(crate) struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    pub fn add(&self, warning: String) {
        let mut all = self.0.lock();
        if !all.contains(&warning) {
            all.push(warning);
        }
    }

    /// What the object itself is warned of, when it is made or changed from what it was `before`.
    pub fn of(&self, context: &Context, object: &Value, before: Option<&Value>) {
        let kind = &context.kind;
        if kind.custom.is_none() {
            for warning in warn::of_object(kind.group, kind.kind, object, before) {
                self.add(warning);
            }
        }
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

/// The values of the `Warning` headers (RFC 7234, code 299). A text that no header can hold is left out.
pub(super) fn headers(warnings: &[String]) -> Vec<HeaderValue> {
    let total: usize = warnings.iter().map(|text| text.chars().count()).sum();
    let cut = total > TOTAL_CHARS_MAX;
    let mut written = 0;
    let mut headers = Vec::new();
    for warning in warnings {
        let text: String = match cut {
            true if written >= TOTAL_CHARS_MAX => break,
            true => warning.chars().take(CUT_CHARS).collect(),
            false => warning.clone(),
        };
        written += text.chars().count();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        headers.extend(HeaderValue::from_bytes(
            format!("299 - \"{quoted}\"").as_bytes(),
        ));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(warnings: &[String]) -> Vec<usize> {
        let around = "299 - \"\"".len();
        let headers = headers(warnings).into_iter();
        headers.map(|header| header.len() - around).collect()
    }

    #[test]
    fn warnings_are_cut_when_they_are_long_together() {
        let long = |chars: usize| "x".repeat(chars);
        assert_eq!(lengths(&[long(4096)]), [4096]);
        assert_eq!(lengths(&[long(4000), long(97)]), [256, 97]);
        let many: Vec<_> = (0..100).map(|_| long(300)).collect();
        assert_eq!(lengths(&many), vec![256; 16]);
        assert_eq!(lengths(&vec!["é".repeat(300); 20])[0], 512);
    }

    #[test]
    fn what_no_header_can_hold_is_left_out() {
        let told = headers(&["a \"b\" \\".to_owned(), "a\nb".to_owned(), "ü".to_owned()]);
        assert_eq!(
            told,
            [
                HeaderValue::from_static("299 - \"a \\\"b\\\" \\\\\""),
                HeaderValue::from_bytes("299 - \"ü\"".as_bytes()).expect("a header"),
            ]
        );
    }

    #[test]
    fn each_thing_is_warned_of_once() {
        let warnings = Warnings::default();
        for text in ["a", "b", "a"] {
            warnings.add(text.to_owned());
        }
        assert_eq!(warnings.take(), ["a", "b"]);
        assert!(warnings.take().is_empty());
    }
}
