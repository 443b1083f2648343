//! A whole schedule, and the moment that follows another.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use crate::cron::field::{DAYS, HOURS, MINUTES, MONTHS, Set, WEEKDAYS};
use crate::cron::{Invalid, duration, zone};

/// Years that are searched: a day like 30 February never comes.
const YEARS_MAX: i16 = 5;

/// When something is to happen again and again.
#[derive(Clone, Debug)]
pub struct Schedule {
    rule: Rule,
    zone: Option<TimeZone>,
}

#[derive(Clone, Debug)]
enum Rule {
    /// At fixed distances from the last time.
    Every(SignedDuration),
    /// At the minutes that all fields name.
    Fields {
        minute: Set,
        hour: Set,
        day: Set,
        month: Set,
        weekday: Set,
    },
}

/// The text without a leading `TZ=NAME` or `CRON_TZ=NAME`, and that name.
pub fn without_zone(text: &str) -> (&str, Option<&str>) {
    let named = text
        .strip_prefix("TZ=")
        .or_else(|| text.strip_prefix("CRON_TZ="));
    match named {
        None => (text, None),
        Some(named) => {
            let (name, rest) = named.split_once(' ').unwrap_or((named, ""));
            (rest.trim(), Some(name))
        }
    }
}

impl Schedule {
    /// Parses five fields (minute, hour, day of the month, month, weekday) or one of `@yearly`, `@monthly`, `@weekly`,
    /// `@daily`, `@hourly`, `@every 1h30m`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid("empty spec string".into()));
        }
        let (text, named) = without_zone(text);
        let zone = match named {
            None => None,
            Some(name) => Some(
                zone(name)
                    .map_err(|why| Invalid(format!("provided bad location {name}: {why}")))?,
            ),
        };
        let rule = if text.starts_with('@') {
            described(text)?
        } else {
            fields(text)?
        };
        Ok(Self { rule, zone })
    }

    /// The first moment after `at`, by the clocks of `zone` unless the schedule names one itself; none when it does not
    /// come within five years.
    pub fn after(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let zone = self.zone.as_ref().unwrap_or(zone);
        let whole = Timestamp::from_second(at.as_second()).ok()?;
        match &self.rule {
            Rule::Every(delay) => whole.checked_add(*delay).ok(),
            Rule::Fields { .. } => {
                let start = whole.checked_add(1.second()).ok()?;
                self.rule
                    .next(start.to_zoned(zone.clone()))
                    .map(|next| next.timestamp())
            }
        }
    }
}

fn described(text: &str) -> Result<Rule, Invalid> {
    let every = Set::all;
    let first = Set::only;
    let (minute, hour, day, month, weekday) = match text {
        "@yearly" | "@annually" => (first(0), first(0), first(1), first(1), every(&WEEKDAYS)),
        "@monthly" => (
            first(0),
            first(0),
            first(1),
            every(&MONTHS),
            every(&WEEKDAYS),
        ),
        "@weekly" => (first(0), first(0), every(&DAYS), every(&MONTHS), first(0)),
        "@daily" | "@midnight" => (
            first(0),
            first(0),
            every(&DAYS),
            every(&MONTHS),
            every(&WEEKDAYS),
        ),
        "@hourly" => (
            first(0),
            every(&HOURS),
            every(&DAYS),
            every(&MONTHS),
            every(&WEEKDAYS),
        ),
        other => {
            let Some(length) = other.strip_prefix("@every ") else {
                return Err(Invalid(format!("unrecognized descriptor: {other}")));
            };
            let delay = duration::parse(length)
                .map_err(|why| Invalid(format!("failed to parse duration {other}: {why}")))?;
            // whole seconds, at least one
            let seconds = delay.as_secs().max(1);
            return Ok(Rule::Every(SignedDuration::from_secs(seconds)));
        }
    };
    Ok(Rule::Fields {
        minute,
        hour,
        day,
        month,
        weekday,
    })
}

fn fields(text: &str) -> Result<Rule, Invalid> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else {
        return Err(Invalid(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        )));
    };
    Ok(Rule::Fields {
        minute: Set::parse(minute, &MINUTES)?,
        hour: Set::parse(hour, &HOURS)?,
        day: Set::parse(day, &DAYS)?,
        month: Set::parse(month, &MONTHS)?,
        weekday: Set::parse(weekday, &WEEKDAYS)?,
    })
}

impl Rule {
    /// The first moment that is not before `time`, which has whole seconds. The larger parts first: whatever is
    /// increased sets the smaller ones to their beginning, and a part that starts anew has the larger ones looked at again.
    fn next(&self, mut time: Zoned) -> Option<Zoned> {
        let Self::Fields {
            minute,
            hour,
            day,
            month,
            weekday,
        } = self
        else {
            return None;
        };
        let last_year = time.year().saturating_add(YEARS_MAX);
        let day_matches = |date: Date| {
            let by_number = day.has(date.day());
            let by_name = weekday.has(date.weekday().to_sunday_zero_offset());
            if day.star || weekday.star {
                by_number && by_name
            } else {
                by_number || by_name
            }
        };
        'again: while time.year() <= last_year {
            while !month.has(time.month()) {
                let next = time.date().first_of_month().checked_add(1.month()).ok()?;
                time = midnight(&time, next)?;
                if next.month() == 1 {
                    continue 'again;
                }
            }
            while !day_matches(time.date()) {
                let next = time.date().tomorrow().ok()?;
                time = midnight(&time, next)?;
                if next.day() == 1 {
                    continue 'again;
                }
            }
            while !hour.has(time.hour()) {
                time = begin(
                    &time,
                    i64::from(time.minute()) * 60 + i64::from(time.second()),
                )?;
                time = time.checked_add(1.hour()).ok()?;
                if time.hour() == 0 {
                    continue 'again;
                }
            }
            while !minute.has(time.minute()) || time.second() != 0 {
                time = begin(&time, i64::from(time.second()))?;
                time = time.checked_add(1.minute()).ok()?;
                if time.minute() == 0 {
                    continue 'again;
                }
            }
            return Some(time);
        }
        None
    }
}

/// The beginning of a day in the zone of `time`: where clocks skip midnight, the first moment after it.
fn midnight(time: &Zoned, date: Date) -> Option<Zoned> {
    date.to_zoned(time.time_zone().clone()).ok()
}

/// So many seconds earlier.
fn begin(time: &Zoned, seconds: i64) -> Option<Zoned> {
    time.checked_sub(SignedDuration::from_secs(seconds)).ok()
}

#[cfg(test)]
mod tests;
