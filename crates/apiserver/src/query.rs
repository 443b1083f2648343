//! Query strings: decoding, and the options that Kubernetes requests carry.

use crate::status::{ApiError, Cause};

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

    /// Gives a key this value alone.
    pub fn set(&mut self, key: &str, value: &str) {
        self.0.retain(|(k, _)| k != key);
        self.0.push((key.to_owned(), value.to_owned()));
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let own = self.0.iter().filter(move |(k, _)| k == key);
        own.map(|(_, value)| value.as_str())
    }

    /// A flag as upstream converts it: absent, `false` and `0` are false, everything else is true.
    pub fn flag(&self, key: &str) -> bool {
        match self.0.iter().find(|(k, _)| k == key) {
            None => false,
            Some((_, value)) => !matches!(value.as_str(), "false" | "0" | "False" | "FALSE"),
        }
    }

    /// A number; what is below zero counts as zero.
    fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        self.get(key)
            .map(|v| {
                let number = v.parse::<i64>().map(|n| n.max(0).unsigned_abs());
                number.map_err(|_| {
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
        let named = query.get("resourceVersionMatch").unwrap_or_default();
        let version_match = match named {
            "Exact" => VersionMatch::Exact,
            "NotOlderThan" => VersionMatch::NotOlderThan,
            _ => VersionMatch::Unset,
        };
        let mut options = Self {
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
        // Upstream's default: a watch that does not say from where begins with what there is.
        let from_anywhere = matches!(options.resource_version.as_deref(), None | Some("0"));
        if options.watch
            && from_anywhere
            && options.send_initial_events.is_none()
            && named.is_empty()
        {
            options.send_initial_events = Some(true);
            options.version_match = VersionMatch::NotOlderThan;
            options.check("NotOlderThan")?;
        } else {
            options.check(named)?;
        }
        Ok(options)
    }

    /// Refuses what contradicts itself; all of it at once. `named` is resourceVersionMatch as it was given.
    fn check(&self, named: &str) -> Result<(), ApiError> {
        let mut causes = match self.watch {
            true => self.problems_of_a_watch(named),
            false => self.problems_of_a_list(named),
        };
        if causes.is_empty()
            && let Some(v) = self.resource_version.as_deref()
            && v.parse::<u64>().is_err()
        {
            let why =
                format!("Invalid value: {v:?}: strconv.ParseUint: parsing {v:?}: invalid syntax");
            causes.push(cause("FieldValueInvalid", "resourceVersion", why));
        }
        if causes.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", causes))
        }
    }

    fn problems_of_a_watch(&self, named: &str) -> Vec<Cause> {
        let mut causes = Vec::new();
        let not_older = named == "NotOlderThan";
        if self.send_initial_events.is_some() && !not_older {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(forbidden("resourceVersionMatch", why));
        }
        if named.is_empty() {
            return causes;
        }
        if self.send_initial_events.is_none() {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(forbidden("resourceVersionMatch", why));
        }
        if !not_older {
            causes.push(unsupported(named, "\"NotOlderThan\""));
        }
        if self.continue_token.is_some() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            causes.push(forbidden("resourceVersionMatch", why));
        }
        causes
    }

    fn problems_of_a_list(&self, named: &str) -> Vec<Cause> {
        let mut causes = Vec::new();
        if !named.is_empty() {
            if self.resource_version.is_none() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                causes.push(forbidden("resourceVersionMatch", why));
            }
            if self.continue_token.is_some() {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                causes.push(forbidden("resourceVersionMatch", why));
            }
            if self.version_match == VersionMatch::Unset {
                causes.push(unsupported(named, "\"Exact\", \"NotOlderThan\", \"\""));
            }
            if self.version_match == VersionMatch::Exact
                && self.resource_version.as_deref() == Some("0")
            {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                causes.push(forbidden("resourceVersionMatch", why));
            }
        }
        if self.send_initial_events.is_some() {
            let why = "sendInitialEvents is forbidden for list";
            causes.push(forbidden("sendInitialEvents", why));
        }
        causes
    }
}

fn forbidden(field: &str, why: &str) -> Cause {
    cause("FieldValueForbidden", field, format!("Forbidden: {why}"))
}

fn unsupported(value: &str, supported: &str) -> Cause {
    let why = format!("Unsupported value: {value:?}: supported values: {supported}");
    cause("FieldValueNotSupported", "resourceVersionMatch", why)
}

fn cause(reason: &'static str, field: &str, message: String) -> Cause {
    Cause {
        reason,
        message,
        field: field.into(),
    }
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
        const MATCH: &str = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden";
        let several = |one: &str, two: &str| format!("[{one}, {two}]");
        let initial = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        for (query, words) in [
            (
                "resourceVersion=x",
                "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax".to_owned(),
            ),
            (
                "resourceVersionMatch=Exact",
                format!("{MATCH} unless resourceVersion is provided"),
            ),
            (
                "resourceVersionMatch=Exact&resourceVersion=1&continue=x",
                format!("{MATCH} when continue is provided"),
            ),
            (
                "resourceVersionMatch=Exact&continue=x",
                several(
                    &format!("{MATCH} unless resourceVersion is provided"),
                    &format!("{MATCH} when continue is provided"),
                ),
            ),
            (
                "resourceVersionMatch=Exact&resourceVersion=0",
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"".to_owned(),
            ),
            (
                "resourceVersionMatch=Nope&resourceVersion=1",
                "resourceVersionMatch: Unsupported value: \"Nope\": supported values: \"Exact\", \"NotOlderThan\", \"\"".to_owned(),
            ),
            (
                "sendInitialEvents=false",
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list".to_owned(),
            ),
            ("watch=1&sendInitialEvents=true", initial.to_owned()),
            (
                "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact",
                several(
                    initial,
                    "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"",
                ),
            ),
            (
                "watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=1",
                format!("{MATCH} for watch unless sendInitialEvents is provided"),
            ),
            (
                "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x",
                format!("{MATCH} when continue is provided"),
            ),
        ] {
            let parsed = Query::parse(Some(query)).expect("a query");
            let error = ListOptions::parse(&parsed).expect_err(query);
            let expected = format!("ListOptions.meta.k8s.io \"\" is invalid: {words}");
            assert_eq!((error.code, error.message), (422, expected), "{query}");
        }
        let parsed = Query::parse(Some("limit=x")).expect("a query");
        assert_eq!(
            ListOptions::parse(&parsed).map_err(|e| e.code).err(),
            Some(400)
        );
    }

    #[test]
    fn a_watch_from_anywhere_begins_with_what_there_is() {
        for (query, expected) in [
            ("watch=1", Some(true)),
            ("watch=1&resourceVersion=0", Some(true)),
            ("watch=1&resourceVersion=5", None),
            (
                "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan",
                Some(false),
            ),
            ("limit=-1", None),
        ] {
            let parsed = Query::parse(Some(query)).expect("a query");
            let options = ListOptions::parse(&parsed).expect(query);
            assert_eq!(options.send_initial_events, expected, "{query}");
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
