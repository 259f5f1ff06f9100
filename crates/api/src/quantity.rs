//! `resource.Quantity`: exact decimal numbers with SI or binary suffixes, as they stand in resource requests.
//!
//! A quantity is a whole number times a power of ten, never finer than nano: finer input is rounded away
//! from zero, as upstream does. Text that is already canonical is given back as it came.

mod parse;

use std::{cmp::Ordering, fmt};

use serde_json::Value;

/// Why a text is not a quantity. The messages are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It has not the form of a quantity.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// Its suffix is none.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`.
    DecimalSi,
}

/// A fixed-point number and the way it is written. Comparison looks at the number alone.
#[derive(Clone, Debug)]
pub struct Quantity {
    /// The number is `mantissa * 10^scale`.
    mantissa: i128,
    /// At least -9.
    scale: i32,
    format: Format,
    /// The text it was read from, where that is canonical.
    text: Option<Box<str>>,
}

const NANO: i32 = -9;
/// Binary quantities end here: the largest 64-bit integer.
const MAX_BINARY: i128 = i64::MAX as i128;
/// Exponents beyond this are beyond all use; they are held to it so that arithmetic stays bounded.
const MAX_SCALE: i32 = 10_000;

impl Quantity {
    /// A whole number.
    pub fn new(value: i64, format: Format) -> Self {
        Self { mantissa: value.into(), scale: 0, format, text: None }
    }

    /// Thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self { mantissa: value.into(), scale: -3, format, text: None }
    }

    /// Reads a JSON string or number, as `resource.Quantity` unmarshals.
    pub fn from_json(value: &Value) -> Result<Self, ParseError> {
        match value {
            Value::String(text) => text.trim().parse(),
            Value::Number(number) => number.to_string().parse(),
            Value::Null => Ok(Self::new(0, Format::DecimalSi)),
            _ => Err(ParseError::Format),
        }
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The number, rounded up to a whole (away from zero), within 64 bits.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// The number in thousandths, rounded up (away from zero), within 64 bits.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The number in units of `10^scale`, rounded up (away from zero), within 64 bits.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let (value, _) = self.at_scale(scale);
        i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
    }

    /// The nearest floating-point number.
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.scale)
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// Adds; the written form stays unless this one is zero. Sums beyond 38 digits stop there.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i128::saturating_add);
    }

    /// Subtracts; the written form stays unless this one is zero.
    pub fn sub(&mut self, other: &Self) {
        self.combine(other, i128::saturating_sub);
    }

    /// Multiplies.
    pub fn mul(&mut self, by: i64) {
        self.text = None;
        self.mantissa = self.mantissa.saturating_mul(by.into());
    }

    /// Changes the sign.
    pub fn neg(&mut self) {
        self.text = None;
        self.mantissa = -self.mantissa;
    }

    fn combine(&mut self, other: &Self, with: fn(i128, i128) -> i128) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.text = None;
        let scale = self.scale.min(other.scale);
        let (left, right) = (raise(self.mantissa, self.scale - scale), raise(other.mantissa, other.scale - scale));
        self.mantissa = with(left, right);
        self.scale = scale;
    }

    /// The number in units of `10^scale`, and whether that is exact.
    fn at_scale(&self, scale: i32) -> (i128, bool) {
        if self.scale >= scale {
            return (raise(self.mantissa, self.scale - scale), true);
        }
        divide_away(self.mantissa, (scale - self.scale) as u32)
    }

    /// The canonical text: no digit lost, no fraction, the largest suffix that allows it.
    fn canonical(&self) -> String {
        if self.is_zero() {
            return "0".into();
        }
        if self.format == Format::BinarySi {
            let (whole, exact) = self.at_scale(0);
            if exact && !(-1024 < whole && whole < 1024) {
                return binary_text(whole);
            }
        }
        let format = if self.format == Format::BinarySi { Format::DecimalSi } else { self.format };
        decimal_text(self.mantissa, self.scale, format)
    }
}

/// `value * 10^by`, stopping at the ends of the type.
fn raise(value: i128, by: i32) -> i128 {
    if value == 0 || by == 0 {
        return value;
    }
    match 10i128.checked_pow(by as u32).and_then(|p| value.checked_mul(p)) {
        Some(raised) => raised,
        None if value < 0 => i128::MIN,
        None => i128::MAX,
    }
}

/// `value / 10^by`, away from zero, and whether that is exact.
fn divide_away(value: i128, by: u32) -> (i128, bool) {
    let Some(divisor) = 10i128.checked_pow(by) else {
        return (value.signum(), value == 0);
    };
    let (quotient, rest) = (value / divisor, value % divisor);
    if rest == 0 { (quotient, true) } else { (quotient + value.signum(), false) }
}

fn binary_text(mut value: i128) -> String {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut index = 0;
    while value % 1024 == 0 && index + 1 < SUFFIXES.len() {
        value /= 1024;
        index += 1;
    }
    format!("{value}{}", SUFFIXES[index])
}

fn decimal_text(mut mantissa: i128, mut scale: i32, format: Format) -> String {
    while mantissa % 10 == 0 {
        mantissa /= 10;
        scale += 1;
    }
    // Suffixes go in steps of three, and SI's end at E.
    let aligned = match format {
        Format::DecimalSi => scale.div_euclid(3).min(6) * 3,
        _ => scale.div_euclid(3) * 3,
    };
    let digits = raise(mantissa, scale - aligned);
    match (format, aligned) {
        (_, 0) => digits.to_string(),
        (Format::DecimalSi, _) => {
            const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
            format!("{digits}{}", SUFFIXES[(aligned / 3 + 3) as usize])
        }
        _ => format!("{digits}e{aligned}"),
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => f.write_str(&self.canonical()),
        }
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_sign = self.mantissa.signum().cmp(&other.mantissa.signum());
        if by_sign != Ordering::Equal || self.is_zero() {
            return by_sign;
        }
        let scale = self.scale.min(other.scale);
        let aligned = |q: &Self| 10i128.checked_pow((q.scale - scale) as u32).and_then(|p| q.mantissa.checked_mul(p));
        match (aligned(self), aligned(other)) {
            (Some(left), Some(right)) => left.cmp(&right),
            // Only the one of larger scale can fail to fit, so it is the one further from zero.
            (None, _) if self.mantissa > 0 => Ordering::Greater,
            (None, _) => Ordering::Less,
            (_, None) if self.mantissa > 0 => Ordering::Less,
            (_, None) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}
