//! Query strings: decoding, and the options that Kubernetes requests carry.

use crate::status::ApiError;

/// Decodes `%XX` (and `+` as a space where `form`). `None` when an escape is broken or the result is not UTF-8.
pub fn percent_decode(text: &str, form: bool) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3)?;
                let high = char::from(digits[0]).to_digit(16)?;
                let low = char::from(digits[1]).to_digit(16)?;
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            b'+' if form => {
                out.push(b' ');
                at += 1;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// Encodes everything but unreserved characters.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The decoded pairs of a query string, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// Parses a query string; broken escapes are 400.
    pub fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for part in text.unwrap_or("").split('&').filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let pair = percent_decode(key, true).zip(percent_decode(value, true));
            pairs.push(pair.ok_or_else(|| {
                ApiError::bad_request(format!("invalid URL escape in query parameter {part:?}"))
            })?);
        }
        Ok(Self(pairs))
    }

    /// The first value of a key; empty counts as absent.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .filter(|v| !v.is_empty())
    }

    /// A flag as upstream converts it: absent, `false` and `0` are false, everything else is true.
    pub fn flag(&self, key: &str) -> bool {
        match self.0.iter().find(|(k, _)| k == key) {
            None => false,
            Some((_, value)) => !matches!(value.as_str(), "false" | "0" | "False" | "FALSE"),
        }
    }

    fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        self.get(key)
            .map(|v| {
                v.parse().map_err(|_| {
                    ApiError::bad_request(format!(
                        "strconv.ParseInt: parsing {v:?}: invalid syntax"
                    ))
                })
            })
            .transpose()
    }
}

/// How a resource version in a list or watch is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    Unset,
    Exact,
    NotOlderThan,
}

/// `metav1.ListOptions`.
#[derive(Clone, Debug)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub limit: usize,
    pub continue_token: Option<String>,
    pub resource_version: Option<String>,
    pub version_match: VersionMatch,
    pub watch: bool,
    pub bookmarks: bool,
    pub timeout_seconds: Option<u64>,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and checks the options as `ValidateListOptions` does.
    pub fn parse(query: &Query) -> Result<Self, ApiError> {
        let version_match = match query.get("resourceVersionMatch") {
            None => VersionMatch::Unset,
            Some("Exact") => VersionMatch::Exact,
            Some("NotOlderThan") => VersionMatch::NotOlderThan,
            Some(other) => {
                return Err(invalid_option(
                    "resourceVersionMatch",
                    format!(
                        "Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
                    ),
                ));
            }
        };
        let options = Self {
            label_selector: query.get("labelSelector").map(str::to_owned),
            field_selector: query.get("fieldSelector").map(str::to_owned),
            limit: query.number("limit")?.unwrap_or(0) as usize,
            continue_token: query.get("continue").map(str::to_owned),
            resource_version: query.get("resourceVersion").map(str::to_owned),
            version_match,
            watch: query.flag("watch"),
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout_seconds: query.number("timeoutSeconds")?,
            send_initial_events: query
                .get("sendInitialEvents")
                .map(|_| query.flag("sendInitialEvents")),
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), ApiError> {
        let version = self.resource_version.as_deref();
        if let Some(v) = version
            && v.parse::<u64>().is_err()
        {
            return Err(invalid_option(
                "resourceVersion",
                format!("Invalid value: {v:?}: strconv.ParseUint: parsing {v:?}: invalid syntax"),
            ));
        }
        if self.watch {
            if self.send_initial_events.is_some()
                && self.version_match != VersionMatch::NotOlderThan
            {
                return Err(invalid_option(
                    "resourceVersionMatch",
                    "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan".into(),
                ));
            }
            if self.send_initial_events.is_none() && self.version_match != VersionMatch::Unset {
                return Err(invalid_option(
                    "resourceVersionMatch",
                    "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided".into(),
                ));
            }
            return Ok(());
        }
        if self.send_initial_events.is_some() {
            return Err(invalid_option(
                "sendInitialEvents",
                "Forbidden: sendInitialEvents is forbidden for list".into(),
            ));
        }
        if self.version_match != VersionMatch::Unset {
            let problem = if version.is_none() {
                Some(
                    "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
                )
            } else if self.continue_token.is_some() {
                Some("Forbidden: resourceVersionMatch is forbidden when continue is provided")
            } else if self.version_match == VersionMatch::Exact && version == Some("0") {
                Some(
                    "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                )
            } else {
                None
            };
            if let Some(problem) = problem {
                return Err(invalid_option("resourceVersionMatch", problem.into()));
            }
        }
        Ok(())
    }
}

fn invalid_option(field: &str, message: String) -> ApiError {
    let (reason, _) = message.split_once(": ").unwrap_or(("Invalid value", ""));
    let reason = match reason {
        "Forbidden" => "FieldValueForbidden",
        "Unsupported value" => "FieldValueNotSupported",
        _ => "FieldValueInvalid",
    };
    let cause = crate::status::Cause {
        reason,
        message,
        field: field.into(),
    };
    ApiError::invalid("meta.k8s.io", "ListOptions", "", vec![cause])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_escapes() {
        let cases = [
            ("a%20b", false, Some("a b")),
            ("a+b", false, Some("a+b")),
            ("a+b", true, Some("a b")),
            ("%", false, None),
            ("%4", false, None),
            ("%zz", false, None),
            ("%ff", false, None),
            ("", true, Some("")),
        ];
        for (text, form, expected) in cases {
            assert_eq!(percent_decode(text, form).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn refuses_contradicting_list_options() {
        for (query, words) in [
            ("resourceVersion=x", "resourceVersion: Invalid value"),
            (
                "resourceVersionMatch=Exact",
                "unless resourceVersion is provided",
            ),
            (
                "resourceVersionMatch=Exact&resourceVersion=0",
                "is forbidden for resourceVersion \"0\"",
            ),
            (
                "resourceVersionMatch=Nope&resourceVersion=1",
                "Unsupported value: \"Nope\"",
            ),
            (
                "watch=1&sendInitialEvents=true",
                "requires setting resourceVersionMatch",
            ),
            (
                "watch=1&resourceVersionMatch=Exact&resourceVersion=1",
                "unless sendInitialEvents is provided",
            ),
            ("limit=x", "invalid syntax"),
        ] {
            let parsed = Query::parse(Some(query)).expect("a query");
            let error = ListOptions::parse(&parsed).expect_err(query);
            assert!(error.message.contains(words), "{query}: {}", error.message);
        }
    }

    proptest::proptest! {
        #[test]
        fn encoding_is_undone(text in ".{0,40}") {
            proptest::prop_assert_eq!(percent_decode(&percent_encode(&text), true), Some(text));
        }

        #[test]
        fn no_query_panics(text in "(&|=|%|[a-zA-Z0-9]|.){0,60}") {
            if let Ok(query) = Query::parse(Some(&text)) {
                let _ = ListOptions::parse(&query);
            }
        }
    }
}
