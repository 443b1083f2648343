//! Which start of a CronJob is due, and when to look again.

use std::time::Duration;

use autoscale::cron::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;

use crate::objects;

/// Added to the next look, so that clocks that differ a little do not make it early.
const LATER: SignedDuration = SignedDuration::from_millis(100);
/// More missed starts than this are told.
const MANY: i64 = 100;
/// Searching beyond an approximation ends here; five years of days are fewer.
const STEPS_MAX: usize = 10_000;

/// A schedule by the clocks of a place.
pub struct Times<'a> {
    pub schedule: &'a Schedule,
    pub zone: &'a TimeZone,
}

/// What was missed since the last start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The newest one, if there is any.
    pub latest: Option<Timestamp>,
    /// There are more than a hundred.
    pub many: bool,
    /// From when on was looked.
    pub since: Timestamp,
}

/// The schedule never comes, or comes again at once.
pub const NEVER: &str = "time difference between two schedules is less than 1 second";

impl Times<'_> {
    fn after(&self, at: Timestamp) -> Option<Timestamp> {
        self.schedule.after(at, self.zone)
    }
}

/// The starts that were missed. `bounded`: not those that startingDeadlineSeconds rule out.
pub fn missed(
    cron: &CronJob,
    times: &Times,
    now: Timestamp,
    bounded: bool,
) -> Result<Missed, &'static str> {
    let last = cron
        .status
        .as_ref()
        .and_then(|status| status.last_schedule_time.as_ref());
    let mut since = last.map_or_else(|| objects::created(cron), |last| last.0);
    let deadline = cron.spec.starting_deadline_seconds;
    if let (true, Some(seconds)) = (bounded, deadline) {
        let earliest = now.checked_sub(SignedDuration::from_secs(seconds));
        since = since.max(earliest.unwrap_or(Timestamp::MIN));
    }
    let none = Missed {
        latest: None,
        many: false,
        since,
    };
    let first = times.after(since);
    let second = first.and_then(|first| times.after(first));
    let (Some(first), Some(second)) = (first, second) else {
        return Err(NEVER);
    };
    if now < first {
        return Ok(none);
    }
    if now < second {
        return Ok(Missed {
            latest: Some(first),
            ..none
        });
    }
    // An approximation, as upstream: most schedules have one distance.
    let distance = second.duration_since(first).as_secs();
    if distance < 1 {
        return Err(NEVER);
    }
    let number = now.duration_since(first).as_secs() / distance + 1;
    let skipped = SignedDuration::from_secs((number - 2).saturating_mul(distance));
    let near = first.checked_add(skipped).map_err(|_| NEVER)?;
    // the newest one behind `from`; an error when there are more than are gone through
    let newest = |from: Timestamp| {
        let following = std::iter::successors(times.after(from), |at| times.after(*at));
        let mut left = STEPS_MAX;
        let mut newest = None;
        for at in following.take_while(|at| *at <= now) {
            left = left.checked_sub(1).ok_or(())?;
            newest = Some(at);
        }
        Ok::<_, ()>(newest)
    };
    // Where distances differ, the approximation may lie beyond the newest one: upstream misses it then.
    let found = match newest(near) {
        Ok(None) => newest(first).map(|found| found.or(Some(first))),
        found => found,
    };
    Ok(Missed {
        latest: found.unwrap_or(None),
        many: number > MANY || found.is_err(),
        since,
    })
}

/// When the next start is to be looked for.
pub fn again(cron: &CronJob, times: &Times, now: Timestamp) -> Duration {
    let from = match missed(cron, times, now, false) {
        Err(_) => now,
        Ok(Missed {
            latest: Some(latest),
            ..
        }) => latest,
        Ok(Missed { since, .. }) => since,
    };
    // A schedule that never comes is looked at like one that comes in a day.
    let next = times.after(from).filter(|next| *next > now);
    let wait = next
        .or_else(|| times.after(now))
        .map_or(SignedDuration::from_hours(24), |next| {
            next.duration_since(now).saturating_add(LATER)
        });
    Duration::try_from(wait).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        format!("2026-07-09T{text}Z").parse().unwrap()
    }

    fn cron(last: Option<&str>, deadline: Option<i64>) -> CronJob {
        serde_json::from_value(json!({
            "metadata": {"name": "c", "creationTimestamp": at("09:30:00").to_string()},
            "spec": {"schedule": "", "startingDeadlineSeconds": deadline, "jobTemplate": {}},
            "status": {"lastScheduleTime": last.map(|last| at(last).to_string())},
        }))
        .unwrap()
    }

    #[test]
    fn a_pause_too_long_to_go_through_starts_nothing_and_ends() {
        let times = Times {
            schedule: &Schedule::parse("* 9-17 * * *").unwrap(),
            zone: &TimeZone::UTC,
        };
        let long_ago: CronJob = serde_json::from_value(json!({
            "metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"schedule": "", "jobTemplate": {}},
            "status": {"lastScheduleTime": "2026-01-01T10:00:00Z"},
        }))
        .unwrap();
        let night = at("02:00:00");
        let found = missed(&long_ago, &times, night, true).unwrap();
        assert_eq!((found.latest, found.many), (None, true));
        assert_eq!(again(&long_ago, &times, night).as_secs(), 7 * 3600);
    }

    #[test]
    fn the_newest_missed_start_counts() {
        for (schedule, last, deadline, now, expected) in [
            ("0 * * * *", None, None, "09:59:59", (None, false)),
            (
                "0 * * * *",
                None,
                None,
                "10:00:00",
                (Some("10:00:00"), false),
            ),
            (
                "0 * * * *",
                None,
                None,
                "10:59:00",
                (Some("10:00:00"), false),
            ),
            (
                "0 * * * *",
                None,
                None,
                "13:10:00",
                (Some("13:00:00"), false),
            ),
            (
                "0 * * * *",
                Some("13:00:00"),
                None,
                "13:10:00",
                (None, false),
            ),
            (
                "0 * * * *",
                Some("10:00:00"),
                None,
                "13:10:00",
                (Some("13:00:00"), false),
            ),
            // not later than the deadline
            ("0 * * * *", None, Some(300), "13:10:00", (None, false)),
            (
                "0 * * * *",
                None,
                Some(900),
                "13:10:00",
                (Some("13:00:00"), false),
            ),
            // distances that differ
            (
                "0 10,11,16 * * *",
                None,
                None,
                "17:00:00",
                (Some("16:00:00"), false),
            ),
            (
                "59 9 * * *",
                Some("09:59:00"),
                None,
                "10:30:00",
                (None, false),
            ),
            // more than a hundred
            (
                "* * * * *",
                None,
                None,
                "11:10:30",
                (Some("11:10:00"), false),
            ),
            (
                "* * * * *",
                None,
                None,
                "11:20:30",
                (Some("11:20:00"), true),
            ),
            ("@every 1h", None, None, "10:29:59", (None, false)),
            (
                "@every 1h",
                None,
                None,
                "12:45:00",
                (Some("12:30:00"), false),
            ),
        ] {
            let parsed = Schedule::parse(schedule).unwrap();
            let times = Times {
                schedule: &parsed,
                zone: &TimeZone::UTC,
            };
            let found = missed(&cron(last, deadline), &times, at(now), true).unwrap();
            let expected = (expected.0.map(at), expected.1);
            assert_eq!((found.latest, found.many), expected, "{schedule} {now}");
        }
    }

    #[test]
    fn the_next_look_is_just_after_the_next_start() {
        for (schedule, last, now, expected) in [
            ("0 * * * *", None, "09:59:59", 1_100),
            ("0 * * * *", None, "10:00:01", 3_599_100),
            ("0 * * * *", Some("10:00:00"), "10:30:00", 1_800_100),
            ("0 * * * *", Some("10:00:00"), "13:30:00", 1_800_100),
            ("0 0 30 2 *", None, "10:00:00", 86_400_000),
        ] {
            let parsed = Schedule::parse(schedule).unwrap();
            let times = Times {
                schedule: &parsed,
                zone: &TimeZone::UTC,
            };
            let found = again(&cron(last, None), &times, at(now));
            assert_eq!(found.as_millis(), expected, "{schedule} {now}");
        }
        let never = Schedule::parse("0 0 30 2 *").unwrap();
        let times = Times {
            schedule: &never,
            zone: &TimeZone::UTC,
        };
        assert_eq!(
            missed(&cron(None, None), &times, at("10:00:00"), true),
            Err(NEVER)
        );
    }
}
