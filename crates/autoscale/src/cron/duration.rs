//! Durations in Go's notation: `1h30m`, `1.5h`, `-2s`.

use jiff::SignedDuration;

use crate::cron::Invalid;

/// Nanoseconds of each unit.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses as Go's `time.ParseDuration`.
pub fn parse(text: &str) -> Result<SignedDuration, Invalid> {
    let invalid = || Invalid(format!("time: invalid duration {text:?}"));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds: i128 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits(rest);
        let (integer, after) = rest.split_at(whole);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if integer.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(Invalid(format!("time: missing unit in duration {text:?}")));
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(Invalid(format!(
                "time: unknown unit {unit:?} in duration {text:?}"
            )));
        };
        let amount = |digits: &str| -> Result<i128, Invalid> {
            let kept = &digits[..digits.len().min(20)];
            match kept {
                "" => Ok(0),
                kept => kept.parse().map_err(|_| invalid()),
            }
        };
        if integer.len() > 19 {
            return Err(invalid());
        }
        let places = fraction.len().min(18);
        let scale = 10_i128.pow(u32::try_from(places).unwrap_or(0));
        nanoseconds += amount(integer)? * size + amount(&fraction[..places])? * size / scale;
        if nanoseconds > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = after;
    }
    let nanoseconds = i64::try_from(nanoseconds).map_err(|_| invalid())?;
    Ok(SignedDuration::from_nanos(if negative {
        -nanoseconds
    } else {
        nanoseconds
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let millis = |text: &str| parse(text).map(|duration| duration.as_millis());
        for (text, expected) in [
            ("0", 0),
            ("1s", 1_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("1h1m1s1ms", 3_661_001),
            ("-2m", -120_000),
            ("+.5s", 500),
            ("1.s", 1_000),
            ("9223372036854775807ns", 9_223_372_036_854),
            ("-9223372036854775807ns", -9_223_372_036_854),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for (text, why) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("h", "time: invalid duration \"h\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5m3", "time: missing unit in duration \"5m3\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            (
                "99999999999999999999h",
                "time: invalid duration \"99999999999999999999h\"",
            ),
            (
                "9223372036854775808ns",
                "time: invalid duration \"9223372036854775808ns\"",
            ),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
        ] {
            assert_eq!(millis(text), Err(Invalid(why.to_owned())), "{text}");
        }
    }
}
