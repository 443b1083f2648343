//! How long a request may take: a minute, or less when the client says so by `timeout`.

use std::time::Duration;

use crate::query::Query;
use crate::status::ApiError;

/// The time for a request with this query: what it asks for, if that is more than nothing and less than `longest`.
pub(super) fn of(query: &Query, longest: Duration) -> Result<Duration, ApiError> {
    let Some(text) = query.get("timeout") else {
        return Ok(longest);
    };
    match go_duration(text) {
        Ok(asked) if asked > Duration::ZERO && asked < longest => Ok(asked),
        Ok(_) => Ok(longest),
        Err(why) => Err(ApiError::bad_request(format!(
            "invalid timeout specified in the request URL - {why}"
        ))),
    }
}

/// Go's durations, `1m30s` or `250ms`, and its words for what is none. Negative ones count as zero.
fn go_duration(text: &str) -> Result<Duration, String> {
    let quoted = crate::schema::gotext::quote(text);
    let invalid = || format!("time: invalid duration {quoted}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "" => return Err(format!("time: missing unit in duration {quoted}")),
            unit => {
                let unit = crate::schema::gotext::quote(unit);
                return Err(format!("time: unknown unit {unit} in duration {quoted}"));
            }
        };
        seconds += number * factor;
        rest = after;
    }
    if negative {
        return Ok(Duration::ZERO);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let longest = Duration::from_secs(60);
        let of = |query: &str| {
            let query = Query::parse(Some(query)).expect("a query");
            of(&query, longest).map_err(|error| error.message)
        };
        for (query, expected) in [
            ("", Ok(60_000)),
            ("timeout=1.5s", Ok(1500)),
            ("timeout=250ms", Ok(250)),
            ("timeout=0m30s", Ok(30_000)),
            ("timeout=0", Ok(60_000)),
            ("timeout=0s", Ok(60_000)),
            ("timeout=-5s", Ok(60_000)),
            ("timeout=10h", Ok(60_000)),
            ("timeout=x", Err("time: invalid duration \"x\"")),
            ("timeout=10", Err("time: missing unit in duration \"10\"")),
            (
                "timeout=1d",
                Err("time: unknown unit \"d\" in duration \"1d\""),
            ),
            (
                "timeout=1e999s",
                Err("time: unknown unit \"e\" in duration \"1e999s\""),
            ),
        ] {
            let expected = expected.map(Duration::from_millis).map_err(|why: &str| {
                format!("invalid timeout specified in the request URL - {why}")
            });
            assert_eq!(of(query), expected, "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = go_duration(&text);
        }
    }
}
