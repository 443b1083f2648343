//! Kubernetes quantities, as far as scaling needs them: text to milli-units and back.
//!
//! Source followed: `k8s.io/apimachinery/pkg/api/resource/quantity.go` (suffixes, rounding up, canonical form).

use std::fmt;

/// Units of 10⁻⁹ in one.
const NANO: i128 = 1_000_000_000;
/// No quantity is larger, or smaller than the negative of it: far beyond what any caller can hold, and safe to compute with.
const CAP: i128 = i128::MAX / 4;

/// A quantity in units of 10⁻⁹; upstream keeps nothing finer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

/// A text that is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unable to parse quantity {text:?}: quantities must match the regular expression \
     '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub struct ParseError {
    text: String,
}

impl Quantity {
    /// Parses `text` (`"300m"`, `"1.5Gi"`, `"2e3"`); digits finer than 10⁻⁹ are rounded away from zero.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse_nanos(text)
            .map(|nanos| Self { nanos })
            .ok_or_else(|| ParseError {
                text: text.chars().take(64).collect(),
            })
    }

    /// A quantity of `milli` thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * (NANO / 1000),
        }
    }

    /// A quantity of `nanos` thousand-millionths.
    pub fn from_nanos(nanos: i64) -> Self {
        Self {
            nanos: i128::from(nanos),
        }
    }

    /// A quantity of whole units.
    pub fn from_units(units: i64) -> Self {
        Self {
            nanos: i128::from(units) * NANO,
        }
    }

    /// Thousandths, rounded up, saturating at the ends of `i64`.
    pub fn milli_value(self) -> i64 {
        saturate(div_ceil(self.nanos, NANO / 1000))
    }

    /// Whole units, rounded up, saturating at the ends of `i64`.
    pub fn value(self) -> i64 {
        saturate(div_ceil(self.nanos, NANO))
    }

    /// The nearest floating point number.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether it is greater than zero.
    pub fn is_positive(self) -> bool {
        self.nanos > 0
    }

    /// Whether it is less than zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Canonical text with decimal suffixes (`1500m`, `15`, `2k`).
    pub fn decimal(self) -> String {
        const SUFFIXES: [(&str, i32); 10] = [
            ("E", 18),
            ("P", 15),
            ("T", 12),
            ("G", 9),
            ("M", 6),
            ("k", 3),
            ("", 0),
            ("m", -3),
            ("u", -6),
            ("n", -9),
        ];
        if self.nanos == 0 {
            return "0".to_owned();
        }
        let fits = |exponent: i32| 10i128.pow((exponent + 9) as u32);
        // the last one always does
        SUFFIXES
            .into_iter()
            .find(|(_, exponent)| self.nanos % fits(*exponent) == 0)
            .map_or_else(String::new, |(suffix, exponent)| {
                format!("{}{suffix}", self.nanos / fits(exponent))
            })
    }

    /// Canonical text with binary suffixes (`64Mi`); decimal where that would lose precision or is below 1024.
    pub fn binary(self) -> String {
        if self.nanos % NANO != 0 || (self.nanos / NANO).abs() < 1024 {
            return self.decimal();
        }
        let mut value = self.nanos / NANO;
        let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter();
        let mut suffix = suffixes.next().copied().unwrap_or_default();
        while value % 1024 == 0 {
            let Some(next) = suffixes.next() else { break };
            value /= 1024;
            suffix = next;
        }
        format!("{value}{suffix}")
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.decimal())
    }
}

/// Text of a raw status value in thousandths, in the unit system that metrics-server uses for `resource`
/// (`buildQuantity` in horizontal.go).
pub fn status_text(resource: &str, milli: i64) -> String {
    let quantity = Quantity::from_milli(milli);
    if resource == "memory" {
        quantity.binary()
    } else {
        quantity.decimal()
    }
}

fn parse_nanos(text: &str) -> Option<i128> {
    if text.len() > 64 {
        return None;
    }
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let (base, exponent) = scale_of(suffix)?;
    // Digits are taken as one integer; the fraction moves the decimal exponent down.
    let digits: String = whole.chars().chain(fraction.chars()).collect();
    let digits = digits.trim_start_matches('0');
    if digits.len() > 30 {
        return Some(if negative { -CAP } else { CAP });
    }
    let mantissa: i128 = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    let magnitude = scaled(
        mantissa.saturating_mul(base),
        exponent + 9 - fraction.len() as i32,
    );
    Some(if negative { -magnitude } else { magnitude })
}

/// `mantissa` times ten to the `exponent`, rounded up and capped.
fn scaled(mantissa: i128, exponent: i32) -> i128 {
    let factor = 10i128.checked_pow(exponent.unsigned_abs());
    match factor {
        _ if mantissa == 0 => 0,
        Some(factor) if exponent < 0 => div_ceil(mantissa, factor),
        // less than any number that can be written, and more than nothing
        None if exponent < 0 => 1,
        Some(factor) => mantissa.saturating_mul(factor).min(CAP),
        None => CAP,
    }
}

fn scale_of(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            (1, exponent.parse::<i32>().ok()?.clamp(-1000, 1000))
        }
    })
}

fn div_ceil(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by > 0 {
        quotient + 1
    } else {
        quotient
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_to_milli_values() {
        for (text, milli) in [
            ("0", 0),
            ("300m", 300),
            ("15", 15_000),
            ("1.5", 1500),
            (".5", 500),
            ("-2", -2000),
            ("+2", 2000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("2e3", 2_000_000),
            ("2E-3", 2),
            ("1n", 1),
            ("100u", 1),
            ("1500u", 2),
            ("9223372036854775807", i64::MAX),
            ("16Ei", i64::MAX),
        ] {
            assert_eq!(
                Quantity::parse(text).map(Quantity::milli_value),
                Ok(milli),
                "{text}"
            );
        }
    }

    #[test]
    fn every_suffix_is_read_and_written() {
        for (text, nanos) in [
            ("1n", 1),
            ("1u", 1_000),
            ("1m", 1_000_000),
            ("1", 1_000_000_000),
            ("1k", 1_000_000_000_000),
            ("1M", 1_000_000_000_000_000),
            ("1G", 1_000_000_000_000_000_000),
            ("1T", 10i128.pow(21)),
            ("1P", 10i128.pow(24)),
            ("1E", 10i128.pow(27)),
            ("-7k", -7_000_000_000_000),
        ] {
            let quantity = Quantity::parse(text).expect(text);
            assert_eq!(quantity, Quantity { nanos }, "{text}");
            assert_eq!(quantity.to_string(), text);
        }
        for (text, power) in [
            ("3Ki", 10),
            ("3Mi", 20),
            ("3Gi", 30),
            ("3Ti", 40),
            ("3Pi", 50),
            ("3Ei", 60),
        ] {
            let quantity = Quantity::parse(text).expect(text);
            assert_eq!(quantity.nanos, (3i128 << power) * NANO, "{text}");
            assert_eq!(quantity.binary(), text);
        }
        assert_eq!(Quantity::from_units(-2048).binary(), "-2Ki");
        assert_eq!(Quantity::from_units(1023).binary(), "1023");
    }

    #[test]
    fn is_told_in_units_and_rounded_up() {
        for (text, units, float) in [
            ("0", 0, 0.0),
            ("1", 1, 1.0),
            ("1500m", 2, 1.5),
            ("1n", 1, 1e-9),
            ("-1500m", -1, -1.5),
            ("-1n", 0, -1e-9),
            ("7k", 7000, 7000.0),
        ] {
            let quantity = Quantity::parse(text).expect(text);
            assert_eq!(quantity.value(), units, "{text}");
            assert!((quantity.as_f64() - float).abs() < 1e-12, "{text}");
            assert_eq!(quantity.is_positive(), float > 0.0, "{text}");
            assert_eq!(quantity.is_negative(), float < 0.0, "{text}");
        }
        assert_eq!(Quantity::from_units(3), Quantity::from_milli(3000));
        assert_eq!(Quantity::from_nanos(3), Quantity { nanos: 3 });
    }

    #[test]
    fn what_is_too_large_or_too_small_stays_within_bounds() {
        let cap = CAP;
        for (text, nanos) in [
            ("1e29", cap),
            ("1e28", 10i128.pow(37)),
            ("5e28", cap),
            ("1e999", cap),
            ("-1e999", -cap),
            ("0e999", 0),
            ("1e-9", 1),
            ("1e-10", 1),
            ("1e-47", 1),
            ("1e-48", 1),
            ("1e-999", 1),
            ("0e-999", 0),
            ("1000000000000000000000000000000", cap),
            ("-1000000000000000000000000000000", -cap),
            ("25e-10", 3),
            ("100000000000000000000.000000000Ei", cap),
        ] {
            assert_eq!(Quantity::parse(text), Ok(Quantity { nanos }), "{text}");
        }
        // thirty digits are read, more are more than there can be
        let nanos = |digits: usize| format!("1{}n", "0".repeat(digits - 1));
        let (thirty, more) = (
            Quantity {
                nanos: 10i128.pow(29),
            },
            Quantity { nanos: cap },
        );
        assert_eq!(Quantity::parse(&nanos(30)), Ok(thirty));
        assert_eq!(Quantity::parse(&nanos(31)), Ok(more));
        let long = |zeros: usize| format!("{}1", "0".repeat(zeros));
        assert_eq!(Quantity::parse(&long(63)), Ok(Quantity::from_units(1)));
        assert!(Quantity::parse(&long(64)).is_err());
        let largest = Quantity::parse("16Ei").expect("a quantity");
        assert_eq!(largest.value(), i64::MAX);
        assert_eq!(Quantity::parse("-16Ei").map(Quantity::value), Ok(i64::MIN));
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in [
            "", "-", "m", "1..2", "1.2.3", "1 ", "ten", "1e", "1ee3", "0x10", "1Kim", "∞", "NaN",
            "e3",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn formats_canonically() {
        for (milli, decimal, binary) in [
            (0, "0", "0"),
            (500, "500m", "500m"),
            (15_000, "15", "15"),
            (1_000_000, "1k", "1k"),
            (1_500_000, "1500", "1500"),
            (2_000_000, "2k", "2000"),
            (1_024_000, "1024", "1Ki"),
            (67_108_864_000, "67108864", "64Mi"),
            (67_108_864_500, "67108864500m", "67108864500m"),
        ] {
            assert_eq!(Quantity::from_milli(milli).decimal(), decimal);
            assert_eq!(Quantity::from_milli(milli).binary(), binary);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(milli in any::<i64>()) {
            let quantity = Quantity::from_milli(milli);
            prop_assert_eq!(Quantity::parse(&quantity.decimal()), Ok(quantity));
            prop_assert_eq!(Quantity::parse(&quantity.binary()), Ok(quantity));
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = Quantity::parse(&text).map(Quantity::milli_value);
        }

        #[test]
        fn never_panics_on_almost_quantities(text in "[+-]?[0-9.]{0,40}[eEKMGinum0-9+-]{0,6}") {
            let _ = Quantity::parse(&text).map(|q| (q.milli_value(), q.value(), q.decimal(), q.binary()));
        }
    }
}
