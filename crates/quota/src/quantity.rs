//! Kubernetes' resource.Quantity: exact decimal amounts with SI and binary suffixes.
//!
//! Follows `k8s.io/apimachinery/pkg/api/resource`: amounts finer than a nano are rounded away from zero, a binary
//! suffix survives only while the amount is at least 1024, and the canonical form has no fraction and the largest
//! suffix that allows that.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
/// Upstream caps binary amounts here, at 2^63-1 units.
const NANOS_CAP: i128 = (i64::MAX as i128) * NANO;
/// Other amounts, such as `12E`, may be larger; this leaves room to add any two.
const NANOS_MAX: i128 = 10i128.pow(37);

/// An exact amount such as `500m`, `1Gi` or `1e3`, in steps of a nano.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The family of suffixes that an amount is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `1Mi`.
    Binary,
    /// `1e6`.
    Exponent,
    /// `1M`.
    Decimal,
}

/// Why a text is not a quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        format: Format::Decimal,
    };

    /// A whole number of units.
    pub fn from_value(value: i64, format: Format) -> Self {
        Quantity {
            nanos: i128::from(value) * NANO,
            format,
        }
    }

    /// A number of thousandths.
    pub fn from_milli_value(value: i64, format: Format) -> Self {
        Quantity {
            nanos: i128::from(value) * 1_000_000,
            format,
        }
    }

    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths, rounded away from zero; capped at the range of `i64`.
    pub fn milli_value(&self) -> i64 {
        self.scaled(1_000_000)
    }

    /// Billionths, exact.
    pub fn nano_value(&self) -> i128 {
        self.nanos
    }

    /// The amount in units as the nearest floating-point number.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    pub fn format(&self) -> Format {
        self.format
    }

    fn scaled(&self, unit: i128) -> i64 {
        let value = divide_away_from_zero(self.nanos, unit);
        value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// A zero takes the format of what is added to it, as upstream's does.
    fn combined(self, nanos: i128, other: Quantity) -> Self {
        let format = if self.nanos == 0 {
            other.format
        } else {
            self.format
        };
        Quantity {
            nanos: nanos.clamp(-NANOS_MAX, NANOS_MAX),
            format,
        }
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        self.combined(self.nanos + other.nanos, other)
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        self.combined(self.nanos - other.nanos, other)
    }
}

impl std::ops::AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl std::ops::SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(amounts: I) -> Quantity {
        amounts.fold(Quantity::ZERO, |total, amount| total + amount)
    }
}

/// Amounts compare by value: `1` equals `1000m`.
impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (number, suffix) = split(text)?;
        let (format, power) = scale(suffix)?;
        let negative = number.starts_with('-');
        let digits = number.trim_start_matches(['+', '-']);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let nanos = match format {
            Format::Binary => binary_nanos(whole, fraction, power).min(NANOS_CAP),
            _ => decimal_nanos(whole, fraction, power),
        };
        // Less than one unit is never shown in binary.
        let format = if nanos > 0 && nanos < NANO && format == Format::Binary {
            Format::Decimal
        } else {
            format
        };
        Ok(Quantity {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

/// The canonical form.
impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return formatter.write_str("0");
        }
        let whole = self.nanos % NANO == 0;
        if self.format == Format::Binary && whole && self.nanos.abs() >= 1024 * NANO {
            let mut amount = self.nanos / NANO;
            let mut suffix = 0;
            while amount % 1024 == 0 && suffix < BINARY.len() - 1 {
                amount /= 1024;
                suffix += 1;
            }
            return write!(formatter, "{amount}{}", BINARY[suffix]);
        }
        let mut amount = self.nanos;
        let mut exponent = -9;
        while amount % 1000 == 0 && exponent < 18 {
            amount /= 1000;
            exponent += 3;
        }
        match (self.format, exponent) {
            (_, 0) => write!(formatter, "{amount}"),
            (Format::Exponent, exponent) => write!(formatter, "{amount}e{exponent}"),
            (_, exponent) => write!(
                formatter,
                "{amount}{}",
                DECIMAL[((exponent + 9) / 3) as usize]
            ),
        }
    }
}

impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// The number and the suffix. `.5` and `5.` are numbers, `.` is not.
fn split(text: &str) -> Result<(&str, &str), QuantityError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = text.len() - unsigned.len();
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let number = &unsigned[..end];
    let dots = number.bytes().filter(|byte| *byte == b'.').count();
    if dots > 1 || number.len() == dots {
        return Err(QuantityError::Format);
    }
    Ok((&text[..sign + end], &unsigned[end..]))
}

/// A suffix as family, and as the power that it stands for: of two in binary, else of ten.
fn scale(suffix: &str) -> Result<(Format, i32), QuantityError> {
    if let Some(step) = BINARY.iter().skip(1).position(|known| *known == suffix) {
        return Ok((Format::Binary, 10 * (step as i32 + 1)));
    }
    if let Some(step) = DECIMAL.iter().position(|known| *known == suffix) {
        return Ok((Format::Decimal, step as i32 * 3 - 9));
    }
    let Some(exponent) = suffix.strip_prefix(['e', 'E']) else {
        let legal = suffix
            .bytes()
            .all(|byte| b"eEinumkKMGTP+-0123456789".contains(&byte));
        return Err(if legal {
            QuantityError::Suffix
        } else {
            QuantityError::Format
        });
    };
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QuantityError::Suffix);
    }
    let exponent = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    Ok((Format::Exponent, exponent))
}

/// The amount in nanos, capped at [`NANOS_MAX`], with any remainder rounded up. Exact for any number of digits: the point is
/// moved, nothing is multiplied.
fn decimal_nanos(whole: &str, fraction: &str, power: i32) -> i128 {
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let shift = i64::from(power) + 9 - fraction.len() as i64;
    let kept = digits.len() as i64 + shift;
    if kept > 37 {
        return NANOS_MAX;
    }
    let (kept, dropped) = digits.split_at(digits.len().min(kept.max(0) as usize));
    let amount: i128 = match kept {
        "" => 0,
        kept => kept.parse().unwrap_or(NANOS_MAX),
    };
    let zeros = shift.max(0) as u32;
    amount * 10i128.pow(zeros) + i128::from(dropped.bytes().any(|digit| digit != b'0'))
}

/// The amount in nanos, capped, with any remainder rounded up.
fn binary_nanos(whole: &str, fraction: &str, power: i32) -> i128 {
    let mut multiplier = 1u128 << power;
    let mut digits: u128 = 0;
    let mut places = 0u32;
    let mut remainder = false;
    for (position, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let digit = u128::from(byte - b'0');
        let fractional = position >= whole.len();
        // 28 digits leave no amount within range unread; what is finer only decides about rounding.
        if digits >= 10u128.pow(27) {
            if !fractional {
                return NANOS_MAX;
            }
            remainder |= digit != 0;
            continue;
        }
        digits = digits * 10 + digit;
        places += u32::from(fractional);
    }
    if digits == 0 && !remainder {
        return 0;
    }
    let mut divisor = 1u128;
    // nanos = digits * 10^9 * multiplier / 10^places, with the powers of ten cancelled first.
    multiplier = multiplier.saturating_mul(10u128.pow(9));
    for _ in 0..places {
        if multiplier.is_multiple_of(10) {
            multiplier /= 10;
        } else {
            divisor = divisor.saturating_mul(10);
        }
    }
    let Some(product) = digits.checked_mul(multiplier) else {
        return match digits.checked_div(divisor) {
            Some(scaled) => scaled.saturating_mul(multiplier).min(NANOS_MAX as u128) as i128,
            None => NANOS_MAX,
        };
    };
    remainder |= product % divisor != 0;
    let nanos = (product / divisor).saturating_add(u128::from(remainder));
    nanos.min(NANOS_MAX as u128) as i128
}

fn divide_away_from_zero(amount: i128, unit: i128) -> i128 {
    let quotient = amount / unit;
    if amount % unit == 0 {
        quotient
    } else {
        quotient + amount.signum()
    }
}
