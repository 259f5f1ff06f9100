//! Amounts of resources, compared exactly: a quantity as a whole number of nano-units.

use std::cmp::Ordering;

use serde_json::Value;

/// A quantity in nano-units (10⁻⁹), rounded up as upstream does for finer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(pub i128);

impl Amount {
    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether it is below nothing.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whether it is a whole number.
    pub fn is_whole(self) -> bool {
        self.0 % 1_000_000_000 == 0
    }

    /// Whole units, rounded up.
    pub fn units(self) -> i128 {
        self.0.div_euclid(1_000_000_000) + i128::from(self.0.rem_euclid(1_000_000_000) != 0)
    }
}

/// The amount that a value of type `Quantity` stands for; `None` if it is malformed.
pub fn of(value: &Value) -> Option<Amount> {
    match value {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        _ => None,
    }
}

/// Compares two quantities; malformed ones count as nothing (they were refused before).
pub fn compare(a: &Value, b: &Value) -> Ordering {
    of(a).unwrap_or(Amount(0)).cmp(&of(b).unwrap_or(Amount(0)))
}

/// Whether two quantities are the same amount.
pub fn same(a: &Value, b: &Value) -> bool {
    compare(a, b) == Ordering::Equal
}

/// How messages show a quantity: as text.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn parse(text: &str) -> Option<Amount> {
    let text = text.trim();
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // Binary suffixes multiply; decimal ones shift.
    let (binary, exponent): (i128, i32) = match suffix {
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
        other => (1, other.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let digits: i128 = match format!("{whole}{fraction}").trim_start_matches('0') {
        "" => 0,
        digits if digits.len() <= 30 => digits.parse().ok()?,
        _ => return None,
    };
    let mut nano = digits.checked_mul(binary)?;
    let shift = exponent + 9 - i32::try_from(fraction.len()).ok()?;
    if shift >= 0 {
        nano = nano.checked_mul(10i128.checked_pow(shift.unsigned_abs())?)?;
    } else {
        match 10i128.checked_pow(shift.unsigned_abs()) {
            Some(divisor) => nano = nano / divisor + i128::from(nano % divisor != 0),
            None => nano = i128::from(nano != 0),
        }
    }
    Some(Amount(if negative { -nano } else { nano }))
}
