//! Tables of moments and the ones that follow.

use super::*;

fn next(text: &str, at: &str, zone_name: &str) -> String {
    let schedule = Schedule::parse(text).expect(text);
    let zone = zone(zone_name).expect("a zone");
    match schedule.after(at.parse().expect("a time"), &zone) {
        Some(next) => next
            .to_zoned(zone)
            .strftime("%Y-%m-%dT%H:%M:%S%:z")
            .to_string(),
        None => "never".to_owned(),
    }
}

#[test]
fn moments_follow_each_other() {
    for (text, at, expected) in [
        // minutes, hours and their ends
        ("* * * * *", "2026-07-09T15:00:00Z", "2026-07-09T15:01:00"),
        ("* * * * *", "2026-07-09T15:00:59Z", "2026-07-09T15:01:00"),
        ("* * * * *", "2026-07-09T15:00:59.9Z", "2026-07-09T15:01:00"),
        (
            "*/15 * * * *",
            "2026-07-09T14:45:00Z",
            "2026-07-09T15:00:00",
        ),
        (
            "*/15 * * * *",
            "2026-07-09T14:59:01Z",
            "2026-07-09T15:00:00",
        ),
        (
            "20-35/15 * * * *",
            "2026-07-09T23:46:00Z",
            "2026-07-10T00:20:00",
        ),
        ("0 * * * *", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00"),
        ("5 4 * * *", "2026-07-09T04:05:00Z", "2026-07-10T04:05:00"),
        // days and months
        (
            "0 0 9 4-12 *",
            "2026-12-10T00:00:00Z",
            "2027-04-09T00:00:00",
        ),
        ("0 0 31 * *", "2026-01-31T00:00:00Z", "2026-03-31T00:00:00"),
        ("0 0 29 2 *", "2026-07-09T00:00:00Z", "2028-02-29T00:00:00"),
        // the next first is another month's
        (
            "0 0 1,30 2 *",
            "2026-02-02T00:00:00Z",
            "2027-02-01T00:00:00",
        ),
        ("0 0 30 2 *", "2026-07-09T00:00:00Z", "never"),
        (
            "0 0 * feb mon",
            "2026-12-09T00:00:00Z",
            "2027-02-01T00:00:00",
        ),
        // either day, unless one is a star
        (
            "0 0 13 * fri",
            "2026-07-09T00:00:00Z",
            "2026-07-10T00:00:00",
        ),
        (
            "0 0 13 * fri",
            "2026-07-10T00:00:00Z",
            "2026-07-13T00:00:00",
        ),
        ("0 0 * * fri", "2026-07-10T00:00:00Z", "2026-07-17T00:00:00"),
        (
            "0 0 */10 * sun",
            "2026-07-09T00:00:00Z",
            "2026-07-11T00:00:00",
        ),
        // names
        ("@hourly", "2026-07-09T14:45:12Z", "2026-07-09T15:00:00"),
        ("@daily", "2026-07-09T14:45:00Z", "2026-07-10T00:00:00"),
        ("@weekly", "2026-07-09T14:45:00Z", "2026-07-12T00:00:00"),
        ("@monthly", "2026-07-09T14:45:00Z", "2026-08-01T00:00:00"),
        ("@yearly", "2026-07-09T14:45:00Z", "2027-01-01T00:00:00"),
        // distances
        (
            "@every 1h30m",
            "2026-07-09T14:45:12.7Z",
            "2026-07-09T16:15:12",
        ),
        ("@every 10ms", "2026-07-09T14:45:12Z", "2026-07-09T14:45:13"),
    ] {
        let expected = match expected {
            "never" => "never".to_owned(),
            moment => format!("{moment}+00:00"),
        };
        assert_eq!(next(text, at, "UTC"), expected, "{text} after {at}");
    }
}

#[test]
fn clocks_that_change_skip_or_repeat_hours() {
    for (text, at, zone, expected) in [
        // Berlin: 2026-03-29 02:00 is 03:00
        (
            "30 2 * * *",
            "2026-03-28T12:00:00Z",
            "Europe/Berlin",
            "2026-03-30T02:30:00+02:00",
        ),
        (
            "0 3 * * *",
            "2026-03-28T12:00:00Z",
            "Europe/Berlin",
            "2026-03-29T03:00:00+02:00",
        ),
        (
            "0 * * * *",
            "2026-03-29T00:00:00Z",
            "Europe/Berlin",
            "2026-03-29T03:00:00+02:00",
        ),
        // 2026-10-25 03:00 is 02:00 again
        (
            "30 2 * * *",
            "2026-10-24T12:00:00Z",
            "Europe/Berlin",
            "2026-10-25T02:30:00+02:00",
        ),
        (
            "30 2 * * *",
            "2026-10-25T00:30:00Z",
            "Europe/Berlin",
            "2026-10-25T02:30:00+01:00",
        ),
        (
            "0 0 * * *",
            "2026-07-09T21:00:00Z",
            "Europe/Berlin",
            "2026-07-10T00:00:00+02:00",
        ),
        // São Paulo had no midnight on 2018-11-04
        (
            "0 0 * * *",
            "2018-11-03T12:00:00Z",
            "America/Sao_Paulo",
            "2018-11-05T00:00:00-02:00",
        ),
        (
            "0 1 * * *",
            "2018-11-03T12:00:00Z",
            "America/Sao_Paulo",
            "2018-11-04T01:00:00-02:00",
        ),
        // half hours
        (
            "0 9 * * *",
            "2026-07-09T00:00:00Z",
            "Asia/Kolkata",
            "2026-07-09T09:00:00+05:30",
        ),
        // the schedule's own zone comes first
        (
            "TZ=Asia/Tokyo 0 9 * * *",
            "2026-07-09T12:00:00Z",
            "UTC",
            "2026-07-10T00:00:00+00:00",
        ),
        (
            "CRON_TZ=Asia/Tokyo @daily",
            "2026-07-09T12:00:00Z",
            "UTC",
            "2026-07-09T15:00:00+00:00",
        ),
    ] {
        assert_eq!(
            next(text, at, zone),
            expected,
            "{text} in {zone} after {at}"
        );
    }
}

#[test]
fn every_moment_is_later_and_whole() {
    for text in [
        "* * * * *",
        "7 */5 1,15 * 2",
        "@every 7s",
        "59 23 31 12 *",
        "@weekly",
    ] {
        let schedule = Schedule::parse(text).expect(text);
        for zone_name in ["UTC", "America/New_York", "Australia/Lord_Howe"] {
            let zone = zone(zone_name).expect("a zone");
            let mut at = Timestamp::from_second(1_772_000_000).expect("a time");
            for _ in 0..300 {
                let next = schedule.after(at, &zone).expect("it comes");
                assert!(next > at, "{text} in {zone_name} after {at}");
                assert_eq!(next.subsec_nanosecond(), 0);
                at = next;
            }
        }
    }
}

#[test]
fn mistakes_are_told_in_upstreams_words() {
    for (text, why) in [
        ("", "empty spec string"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        (
            "* * * * * *",
            "expected exactly 5 fields, found 6: [* * * * * *]",
        ),
        ("@unrecognized", "unrecognized descriptor: @unrecognized"),
        (
            "@every 5",
            "failed to parse duration @every 5: time: missing unit in duration \"5\"",
        ),
        ("* * 32 * *", "end of range (32) above maximum (31): 32"),
        (
            "TZ=Mars/Olympus * * * * *",
            "provided bad location Mars/Olympus: unknown time zone Mars/Olympus",
        ),
    ] {
        let found = Schedule::parse(text).map(drop).expect_err(text);
        assert_eq!(found.to_string(), why, "{text}");
    }
    assert_eq!(without_zone("TZ=UTC 0 0 * * *"), ("0 0 * * *", Some("UTC")));
    assert_eq!(without_zone("0 0 * * *"), ("0 0 * * *", None));
}
