//! Times as they are stored: UTC, whole seconds (`metav1.Time`) or microseconds (`metav1.MicroTime`), however clients write
//! them: what Go's decoding and encoding make of them.

use jiff::Timestamp;
use serde_json::Value;

/// Rewrites one time. Text that is no time stays as it is: validation tells of it. Go's zero time becomes null, as Go writes it.
pub(super) fn rewrite(value: &mut Value, micros: bool) {
    let Value::String(text) = &*value else {
        return;
    };
    // Nearly all times come as they should be.
    let length = if micros { 27 } else { 20 };
    if text.len() == length && text.ends_with('Z') && !text.starts_with("0001-01-01T00:00:00") {
        return;
    }
    let Ok(at) = text.replace(',', ".").parse::<Timestamp>() else {
        return;
    };
    // Go cuts off; `strftime` alone would round towards zero before 1970.
    let seconds = at.as_nanosecond().div_euclid(1_000_000_000);
    *value = match at {
        _ if seconds == ZERO_SECOND && at.subsec_nanosecond() == 0 => Value::Null,
        at if micros => {
            let whole = at.as_nanosecond().div_euclid(1000) * 1000;
            match Timestamp::from_nanosecond(whole) {
                Ok(whole) => whole.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into(),
                Err(_) => return,
            }
        }
        _ => match i64::try_from(seconds).map(Timestamp::from_second) {
            Ok(Ok(whole)) => crate::time::seconds(whole).into(),
            _ => return,
        },
    };
}

/// The beginning of year 1.
const ZERO_SECOND: i128 = -62_135_596_800;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_stored_in_one_form() {
        for (time, micros, expected) in [
            ("2026-01-01T01:00:00Z", false, json!("2026-01-01T01:00:00Z")),
            (
                "2026-01-01T01:00:00+01:00",
                false,
                json!("2026-01-01T00:00:00Z"),
            ),
            (
                "2026-01-01T00:00:00-00:30",
                false,
                json!("2026-01-01T00:30:00Z"),
            ),
            (
                "2026-01-01T01:00:00.999999Z",
                false,
                json!("2026-01-01T01:00:00Z"),
            ),
            (
                "2026-01-01T01:00:00,5Z",
                false,
                json!("2026-01-01T01:00:00Z"),
            ),
            (
                "1969-12-31T23:59:58.5Z",
                false,
                json!("1969-12-31T23:59:58Z"),
            ),
            ("0001-01-01T00:00:00Z", false, json!(null)),
            ("0001-01-01T01:00:00+01:00", false, json!(null)),
            (
                "2026-01-01T01:00:00.000000Z",
                true,
                json!("2026-01-01T01:00:00.000000Z"),
            ),
            (
                "2026-01-01T01:00:00.123456+01:00",
                true,
                json!("2026-01-01T00:00:00.123456Z"),
            ),
            (
                "1969-12-31T23:59:58.500000+00:00",
                true,
                json!("1969-12-31T23:59:58.500000Z"),
            ),
            ("yesterday", false, json!("yesterday")),
        ] {
            let mut value = json!(time);
            rewrite(&mut value, micros);
            assert_eq!(value, expected, "{time}");
        }
    }
}
