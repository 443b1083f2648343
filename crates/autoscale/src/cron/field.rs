//! One field of an expression: `*`, `1-5`, `*/15`, `mon,wed`, as a set of numbers.

use crate::cron::Invalid;

/// What numbers a field may have, and their names.
pub struct Bounds {
    pub min: u32,
    pub max: u32,
    pub names: &'static [&'static str],
}

pub const MINUTES: Bounds = Bounds {
    min: 0,
    max: 59,
    names: &[],
};
pub const HOURS: Bounds = Bounds {
    min: 0,
    max: 23,
    names: &[],
};
pub const DAYS: Bounds = Bounds {
    min: 1,
    max: 31,
    names: &[],
};
pub const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
pub const WEEKDAYS: Bounds = Bounds {
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// The numbers that a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    bits: u64,
    /// Whether it was written with a star: of the two fields of days, both must then hold.
    pub star: bool,
}

impl Set {
    /// Every number.
    pub fn all(bounds: &Bounds) -> Self {
        Self {
            bits: range(bounds.min, bounds.max, 1),
            star: true,
        }
    }

    /// One number.
    pub fn only(number: u32) -> Self {
        Self {
            bits: 1 << number,
            star: false,
        }
    }

    /// Whether the number is in it.
    pub fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits & (1 << number) != 0)
    }

    /// Parses a list of ranges.
    pub fn parse(text: &str, bounds: &Bounds) -> Result<Self, Invalid> {
        let mut set = Self {
            bits: 0,
            star: false,
        };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let one = parse_range(part, bounds)?;
            set.bits |= one.bits;
            set.star |= one.star;
        }
        Ok(set)
    }
}

fn parse_range(text: &str, bounds: &Bounds) -> Result<Set, Invalid> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end, mut star);
    if matches!(ends[0], "*" | "?") {
        (start, end, star) = (bounds.min, bounds.max, true);
    } else {
        start = number_or_name(ends[0], bounds)?;
        end = match ends.as_slice() {
            [_] => start,
            [_, end] => number_or_name(end, bounds)?,
            _ => return Err(Invalid(format!("too many hyphens: {text}"))),
        };
        star = false;
    }
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            // "N/step" means "N-max/step"
            if ends.len() == 1 {
                end = bounds.max;
            }
            star &= step <= 1;
            step
        }
        _ => return Err(Invalid(format!("too many slashes: {text}"))),
    };
    let (min, max) = (bounds.min, bounds.max);
    if start < min {
        return Err(Invalid(format!(
            "beginning of range ({start}) below minimum ({min}): {text}"
        )));
    }
    if end > max {
        return Err(Invalid(format!(
            "end of range ({end}) above maximum ({max}): {text}"
        )));
    }
    if start > end {
        return Err(Invalid(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        )));
    }
    if step == 0 {
        return Err(Invalid(format!(
            "step of range should be a positive number: {text}"
        )));
    }
    Ok(Set {
        bits: range(start, end, step),
        star,
    })
}

fn range(start: u32, end: u32, step: u32) -> u64 {
    (start..=end)
        .step_by(step as usize)
        .fold(0, |bits, number| bits | 1 << number)
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, Invalid> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(place) => Ok(bounds.min + u32::try_from(place).unwrap_or(0)),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, Invalid> {
    let failed = |why: &str| {
        Invalid(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}"
        ))
    };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(failed("invalid syntax"));
    }
    let number: i64 = text.parse().map_err(|_| failed("value out of range"))?;
    if number < 0 {
        return Err(Invalid(format!(
            "negative number ({number}) not allowed: {text}"
        )));
    }
    // Larger ones are beyond every bound, too.
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lists_steps_and_names() {
        let all = |bounds: &Bounds, text: &str| -> Vec<i8> {
            let set = Set::parse(text, bounds).expect(text);
            (0..60).filter(|number| set.has(*number)).collect()
        };
        assert_eq!(all(&MINUTES, "5"), [5]);
        assert_eq!(all(&MINUTES, "5,7,,9"), [5, 7, 9]);
        assert_eq!(all(&MINUTES, "50/4"), [50, 54, 58]);
        assert_eq!(all(&MINUTES, "5-9/2"), [5, 7, 9]);
        assert_eq!(all(&HOURS, "*/6"), [0, 6, 12, 18]);
        assert_eq!(all(&HOURS, "?").len(), 24);
        assert_eq!(all(&MONTHS, "Jan-mar,DEC"), [1, 2, 3, 12]);
        assert_eq!(all(&WEEKDAYS, "sun,5-6"), [0, 5, 6]);
        assert_eq!(all(&DAYS, "31"), [31]);
    }

    #[test]
    fn a_star_is_one_only_when_it_names_everything() {
        for (text, star) in [
            ("*", true),
            ("?", true),
            ("*/1", true),
            ("*/2", false),
            ("1,*", true),
        ] {
            assert_eq!(Set::parse(text, &DAYS).expect(text).star, star, "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_in_upstreams_words() {
        for (text, why) in [
            ("60", "end of range (60) above maximum (59): 60"),
            ("9-5", "beginning of range (9) beyond end of range (5): 9-5"),
            ("1-2-3", "too many hyphens: 1-2-3"),
            ("1/2/3", "too many slashes: 1/2/3"),
            ("*/0", "step of range should be a positive number: */0"),
            (
                "x",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "-1",
                "failed to parse int from : strconv.Atoi: parsing \"\": invalid syntax",
            ),
            ("*/-5", "negative number (-5) not allowed: -5"),
            (
                "99999999999999999999",
                "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(
                Set::parse(text, &MINUTES),
                Err(Invalid(why.to_owned())),
                "{text}"
            );
        }
        assert_eq!(
            Set::parse("0", &DAYS),
            Err(Invalid(
                "beginning of range (0) below minimum (1): 0".into()
            ))
        );
        assert_eq!(
            Set::parse("7", &WEEKDAYS),
            Err(Invalid("end of range (7) above maximum (6): 7".into()))
        );
    }
}
