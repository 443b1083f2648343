//! Times and durations as people type them.

use anyhow::{Context, Result, bail};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// A moment: RFC 3339, a date and time or a time of day in the zone, or how long ago.
pub fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let local = |time: DateTime| Ok::<_, anyhow::Error>(time.to_zoned(zone.clone())?.timestamp());
    // a date with a time before a time alone, as which jiff reads it too
    if let Ok(time) = text.parse::<DateTime>() {
        return local(time);
    }
    if let Ok(time) = text.parse::<Time>() {
        let today = now.to_zoned(zone.clone()).date().to_datetime(time);
        let moment = local(today)?;
        // 23:50, said at ten past midnight, was yesterday
        return if moment > now {
            local(today.checked_sub(1.day())?)
        } else {
            Ok(moment)
        };
    }
    ago(text, now).with_context(|| {
        format!(
            "{text:?} is no time; write 2026-01-31T12:00:00Z, 12:00, or 5m for five minutes ago"
        )
    })
}

/// The moment so long ago: `90s`, `5m`, `1h30m`, `2d`.
pub fn ago(text: &str, now: Timestamp) -> Result<Timestamp> {
    let duration = duration(text.trim())
        .with_context(|| format!("{text:?} is no duration; write 90s, 5m, 1h or 2d"))?;
    Ok(now.saturating_sub(duration)?)
}

fn duration(text: &str) -> Result<SignedDuration> {
    let mut seconds = 0i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .context("a unit is missing: s, m, h or d")?;
        let number: i64 = rest[..digits].parse().context("a number is missing")?;
        let unit = rest[digits..].chars().next().unwrap_or_default();
        let each = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            other => bail!("the unit {other:?} is none of s, m, h, d"),
        };
        let part = number.checked_mul(each);
        let sum = part.and_then(|part| seconds.checked_add(part));
        seconds = sum.context("that is too long")?;
        rest = &rest[digits + unit.len_utf8()..];
    }
    if text.is_empty() {
        bail!("it is empty");
    }
    Ok(SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_type_them() {
        let now: Timestamp = "2026-01-31T12:10:00Z".parse().expect("a time");
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let table = [
            ("2026-01-30T08:00:00Z", "2026-01-30T08:00:00Z"),
            ("2026-01-30T08:00:00+02:00", "2026-01-30T06:00:00Z"),
            ("2026-01-30T08:00:00", "2026-01-30T07:00:00Z"),
            ("2026-01-30 08:00", "2026-01-30T07:00:00Z"),
            ("13:05", "2026-01-31T12:05:00Z"),
            ("13:05:30", "2026-01-31T12:05:30Z"),
            ("23:00", "2026-01-30T22:00:00Z"),
            ("5m", "2026-01-31T12:05:00Z"),
            ("1h30m", "2026-01-31T10:40:00Z"),
            ("2d", "2026-01-29T12:10:00Z"),
            ("0s", "2026-01-31T12:10:00Z"),
        ];
        for (text, expected) in table {
            let found = moment(text, now, &zone).expect(text);
            assert_eq!(found.to_string(), expected, "{text}");
        }
        for text in [
            "",
            "5",
            "m",
            "5w",
            "-5m",
            "yesterday",
            "9999999999999999999s",
            "99999999999999999d",
            "5é",
        ] {
            assert!(moment(text, now, &zone).is_err(), "{text}");
            assert!(ago(text, now).is_err(), "{text}");
        }
        assert!(ago("100000000d", now).is_ok_and(|time| time == Timestamp::MIN));
    }
}
