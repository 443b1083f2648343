//! Docker's filters: which rows of a list, or which objects that are pruned, somebody means.
//!
//! Follows moby's `api/types/filters`: of several values of a filter one has to fit, of several labels all; a filter without values
//! is none; one that is not known is refused, because what it would have spared is deleted otherwise.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use regex::Regex;

use crate::query::Query;
use crate::reply::Refusal;

/// The filters of one request.
#[derive(Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Of the request, all of them among the `known` ones.
    pub fn of(query: &Query, known: &[&str]) -> Result<Self, Refusal> {
        let mut given = query.filters()?;
        given.retain(|_, values| !values.is_empty());
        match given.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(Refusal::bad(format!("invalid filter '{unknown}'"))),
            None => Ok(Self(given)),
        }
    }

    /// The values of a filter; none if it is not there.
    pub fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// One of the filter's values fits, or there is no such filter.
    pub fn any(&self, name: &str, fits: impl Fn(&str) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// The text is one of the filter's values, or matches one of them as a regular expression.
    pub fn matches(&self, name: &str, text: &str) -> bool {
        self.any(name, |value| {
            value == text || Regex::new(value).is_ok_and(|pattern| pattern.is_match(text))
        })
    }

    /// All that `label` asks for is there, and nothing that `label!` excludes.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|known| known == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }

    /// A filter that is true or false.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        let wrong = |value: &str| Refusal::bad(format!("invalid filter '{name}={value}'"));
        let read = |value: &String| match value.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(true),
            "0" | "f" | "false" => Ok(false),
            _ => Err(wrong(value)),
        };
        self.values(name).first().map(read).transpose()
    }

    /// Before this moment: `until` is a time, or a duration before now.
    pub fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
        let values = self.values("until");
        if values.len() > 1 {
            return Err(Refusal::bad("more than one until filter specified"));
        }
        let wrong = |text: &str| Refusal::bad(format!("invalid filter 'until={text}'"));
        let read = |text: &String| moment(text, now).ok_or_else(|| wrong(text));
        values.first().map(read).transpose()
    }
}

/// `24h`, `1h30m`, seconds since 1970 (with a fraction), or a date (with a time).
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(ago) = duration(text) {
        return now.checked_sub(ago).ok();
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if let Ok(seconds) = seconds.parse() {
        let nanoseconds = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        return Timestamp::new(seconds, nanoseconds).ok();
    }
    let zone = jiff::tz::TimeZone::system();
    let local = text.parse::<jiff::civil::DateTime>().ok()?;
    local.to_zoned(zone).ok().map(|at| at.timestamp())
}

/// As Go writes them.
fn duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| end + at);
        seconds += number
            * match &rest[end..unit_end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    match text.is_empty() {
        true => None,
        false => SignedDuration::try_from_secs_f64(seconds).ok(),
    }
}

/// As in paths: `*` for what is between slashes, `?` for one character of it, `[a-z]`; the whole text.
pub fn path_matches(pattern: &str, text: &str) -> bool {
    let mut expression = String::from("^");
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '[' | ']' | '-' | '^' => expression.push(character),
            '\\' => {
                if let Some(next) = characters.next() {
                    expression.push_str(&regex::escape(&next.to_string()));
                }
            }
            other => expression.push_str(&regex::escape(&other.to_string())),
        }
    }
    expression.push('$');
    Regex::new(&expression).is_ok_and(|expression| expression.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        let query = Query::parse(&format!("filters={text}"));
        Filters::of(&query, &["name", "label", "label!", "until", "dangling"]).expect("filters")
    }

    #[test]
    fn of_labels_all_and_of_others_one() {
        let labels: BTreeMap<String, String> = [("a", "1"), ("b", "")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        for (text, expected) in [
            (r#"{}"#, true),
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a","b"]}"#, true),
            (r#"{"label":["a","c"]}"#, false),
            (r#"{"label":["a=1","b="]}"#, true),
            (r#"{"label":["a=2"]}"#, false),
            (r#"{"label!":["c"]}"#, true),
            (r#"{"label!":["c","a"]}"#, false),
            (r#"{"label":{"a":true,"c":true}}"#, false),
            (r#"{"label":[]}"#, true),
        ] {
            assert_eq!(filters(text).labels(&labels), expected, "{text}");
        }
        for (text, expected) in [
            (r#"{"name":["web"]}"#, true),
            (r#"{"name":["^web$"]}"#, false),
            (r#"{"name":["^web-1$"]}"#, true),
            (r#"{"name":["db","web-."]}"#, true),
            (r#"{"name":["db","("]}"#, false),
            (r#"{"name":[]}"#, true),
        ] {
            assert_eq!(filters(text).matches("name", "web-1"), expected, "{text}");
        }
        let unknown = Query::parse(r#"filters={"colour":["red"]}"#);
        let refused = Filters::of(&unknown, &["name"]).expect_err("unknown");
        assert_eq!(refused.message, "invalid filter 'colour'");
    }

    #[test]
    fn times_and_durations() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let until = |text: &str| {
            let found = filters(&format!(r#"{{"until":["{text}"]}}"#)).until(now);
            found
                .map(|at| at.map(|at| at.to_string()))
                .map_err(|refusal| refusal.message)
        };
        for (text, expected) in [
            ("24h", "2026-01-01T00:00:00Z"),
            ("1h30m", "2026-01-01T22:30:00Z"),
            ("1.5s", "2026-01-01T23:59:58.5Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.5", "2023-11-14T22:13:20.5Z"),
            ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z"),
        ] {
            assert_eq!(until(text), Ok(Some(expected.to_owned())), "{text}");
        }
        for text in ["yesterday", "24", "1h30", "h"] {
            // a bare number is a time
            let expected = text == "24";
            assert_eq!(until(text).is_ok(), expected, "{text}");
        }
        assert_eq!(filters("{}").until(now).map_err(|_| ()), Ok(None));
    }

    #[test]
    fn names_of_images_by_pattern() {
        for (pattern, text, expected) in [
            ("busy*", "busybox", true),
            ("busy*", "team/busybox", false),
            ("*/busybox:?", "team/busybox:1", true),
            ("localhost:5000/app", "localhost:5000/app", true),
            ("a.c", "abc", false),
            ("[ab]c", "bc", true),
            ("a\\*", "a*", true),
            ("[", "[", false),
        ] {
            assert_eq!(path_matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
