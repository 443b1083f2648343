//! Formats of strings that schemas may ask for (kube-openapi `pkg/validation/strfmt`). Others are not looked at.

mod uri;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::registry::names;
use crate::schema::gotext;

/// Whether a text has the format. A format that is not known has everything.
pub fn is(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => date_time(text),
        "date" => gotext::time_error(&format!("{text}T00:00:00Z"), false).is_none(),
        "duration" => duration(text),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .is_ok()
        }
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok() && text.contains(':'),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some('3')),
        "uuid4" => uuid(text, Some('4')),
        "uuid5" => uuid(text, Some('5')),
        "uri" => uri::is(text),
        "email" => email(text),
        "hostname" => hostname(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        }
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "k8s-short-name" => names::dns1123_label(text).is_empty(),
        "k8s-long-name" => names::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

/// RFC 3339, or the same without a zone, which upstream reads, too.
fn date_time(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    gotext::time_error(&upper, false).is_none()
        || gotext::time_error(&format!("{upper}Z"), false).is_none()
}

/// Go's durations (`1h30m`), and `3 days`.
fn duration(text: &str) -> bool {
    const UNITS: [&str; 25] = [
        "ns", "us", "µs", "μs", "ms", "s", "m", "h", "nanos", "micros", "millis", "sec", "secs",
        "second", "seconds", "min", "mins", "minute", "minutes", "hour", "hours", "d", "day",
        "days", "w",
    ];
    let mut rest = text.trim().trim_start_matches(['-', '+']);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        if rest[..digits].parse::<f64>().is_err() {
            return false;
        }
        rest = rest[digits..].trim_start();
        let unit = rest
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(rest.len());
        let known = UNITS.contains(&&rest[..unit]) || ["week", "weeks"].contains(&&rest[..unit]);
        if !known {
            return false;
        }
        rest = rest[unit..].trim_start();
    }
    true
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn mac(text: &str) -> bool {
    [':', '-'].iter().any(|separator| {
        let parts: Vec<_> = text.split(*separator).collect();
        matches!(parts.len(), 6 | 8 | 20)
            && parts
                .iter()
                .all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
    })
}

/// With or without hyphens; `version` is the first digit of the third group.
fn uuid(text: &str, version: Option<char>) -> bool {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    let grouped = text.len() == 32
        || text.len() == 36
            && [8, 13, 18, 23]
                .iter()
                .all(|at| text.as_bytes()[*at] == b'-');
    grouped
        && hex.len() == 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
        && version.is_none_or(|version| hex.chars().nth(12) == Some(version))
}

fn email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    !local.is_empty() && !domain.is_empty() && !text.contains(char::is_whitespace)
}

fn hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.starts_with(|c: char| c.is_alphanumeric())
            && label.ends_with(|c: char| c.is_alphanumeric())
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    text.len() <= 255 && text.trim_end_matches('.').split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                "date-time",
                &["2026-01-02T03:04:05Z", "2026-01-02t03:04:05.5+01:00"],
                &["", "2026-01-02", "2026-13-02T03:04:05Z"],
            ),
            ("date", &["2026-02-28"], &["2026-02-30", "x"]),
            (
                "duration",
                &["1h30m", "5s", "1.5h", "3 days", "0"],
                &["", "h", "1x", "1"],
            ),
            ("byte", &["", "YQ=="], &["Y", "*"]),
            ("ipv4", &["1.2.3.4"], &["1.2.3", "::1"]),
            ("ipv6", &["::1"], &["1.2.3.4", "x"]),
            (
                "cidr",
                &["10.0.0.0/8", "fd00::/64"],
                &["10.0.0.0", "10.0.0.0/33"],
            ),
            (
                "mac",
                &["01:23:45:67:89:ab"],
                &["01:23", "01:23:45:67:89:zz"],
            ),
            (
                "uuid",
                &[
                    "123e4567-e89b-12d3-a456-426614174000",
                    "123e4567e89b12d3a456426614174000",
                ],
                &["123e4567", "123e4567-e89b-12d3-a456-42661417400z"],
            ),
            (
                "uuid4",
                &["123e4567-e89b-42d3-a456-426614174000"],
                &["123e4567-e89b-12d3-a456-426614174000"],
            ),
            ("email", &["a@b.c"], &["a", "@b", "a b@c"]),
            ("hostname", &["a.b-c", "a"], &["", "-a", "a..b"]),
            ("unheard-of", &["anything"], &[]),
        ];
        for (format, good, bad) in cases {
            for text in *good {
                assert!(is(format, text), "{text:?} is a {format}");
            }
            for text in *bad {
                assert!(!is(format, text), "{text:?} is no {format}");
            }
        }
    }
}
