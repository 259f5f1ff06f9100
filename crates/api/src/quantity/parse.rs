//! Reading quantities, in the same liberal way as upstream.

use std::{cmp::Ordering, str::FromStr};

use super::{Format, MAX_BINARY, MAX_SCALE, NANO, ParseError, Quantity, divide_away};

/// The parts of a quantity's text.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, ParseError> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let trimmed = unsigned.trim_start_matches('0');
    let (whole, rest) = trimmed.split_at(digits(trimmed));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = suffix.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let exponent = &suffix[letters..];
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    if digits(exponent) != exponent.len() {
        return Err(ParseError::Format);
    }
    Ok(Parts { negative: text.starts_with('-'), whole, fraction, suffix })
}

/// Base, exponent and form of a suffix.
fn interpret(suffix: &str) -> Option<(u32, i64, Format)> {
    use Format::*;
    Some(match suffix {
        "" => (10, 0, DecimalSi),
        "n" => (10, -9, DecimalSi),
        "u" => (10, -6, DecimalSi),
        "m" => (10, -3, DecimalSi),
        "k" => (10, 3, DecimalSi),
        "M" => (10, 6, DecimalSi),
        "G" => (10, 9, DecimalSi),
        "T" => (10, 12, DecimalSi),
        "P" => (10, 15, DecimalSi),
        "E" => (10, 18, DecimalSi),
        "Ki" => (2, 10, BinarySi),
        "Mi" => (2, 20, BinarySi),
        "Gi" => (2, 30, BinarySi),
        "Ti" => (2, 40, BinarySi),
        "Pi" => (2, 50, BinarySi),
        "Ei" => (2, 60, BinarySi),
        _ => (10, suffix.strip_prefix(['e', 'E'])?.parse().ok()?, DecimalExponent),
    })
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Format);
        }
        let parts = split(text)?;
        let (base, exponent, format) = interpret(parts.suffix).ok_or(ParseError::Suffix)?;
        let exponent = exponent.clamp(-i64::from(MAX_SCALE), i64::from(MAX_SCALE)) as i32;
        let (mut mantissa, mut scale) = digits_of(parts.whole, parts.fraction);
        let mut format = format;
        if base == 2 {
            // 2^60 times at most 38 digits: what does not fit is far beyond the largest binary quantity.
            mantissa = mantissa.checked_mul(1 << exponent).unwrap_or(i128::MAX);
        } else {
            scale += exponent;
        }
        if scale < NANO {
            mantissa = divide_away(mantissa, (NANO - scale) as u32).0;
            scale = NANO;
        }
        if format == Format::BinarySi {
            let whole = Self { mantissa, scale, format, text: None };
            if whole.at_scale(0).0 > MAX_BINARY {
                (mantissa, scale) = (MAX_BINARY, 0);
            } else if mantissa != 0 && whole.cmp(&Self::new(1, format)) == Ordering::Less {
                format = Format::DecimalSi;
            }
        }
        let kept = mantissa != 0 && is_canonical(&parts, exponent, format);
        Ok(Self {
            mantissa: if parts.negative { -mantissa } else { mantissa },
            scale,
            format,
            text: kept.then(|| text.into()),
        })
    }
}

/// The digits as a number and its scale; digits beyond the 38th are taken for zeros.
fn digits_of(whole: &str, fraction: &str) -> (i128, i32) {
    let (mut mantissa, mut scale, mut full) = (0i128, -(fraction.len().min(1 << 20) as i32), false);
    for digit in whole.bytes().chain(fraction.bytes()) {
        match mantissa.checked_mul(10).and_then(|m| m.checked_add((digit - b'0').into())) {
            Some(next) if !full => mantissa = next,
            _ => {
                scale += 1;
                full = true;
            }
        }
    }
    (mantissa, scale)
}

/// Whether upstream keeps the text as it came instead of writing the number anew.
fn is_canonical(parts: &Parts<'_>, exponent: i32, format: Format) -> bool {
    let digits = parts.whole.len().max(1) + parts.fraction.len();
    match format {
        Format::BinarySi => {
            let room = 15 - parts.whole.len().max(1) as i32 - (exponent as f32 * 3.0 / 10.0) as i32 - 1;
            let odd = parts.whole.parse::<i64>().is_ok_and(|v| v & 7 != 0);
            parts.fraction.is_empty() && room >= 0 && odd
        }
        Format::DecimalSi | Format::DecimalExponent => {
            let scale = exponent - parts.fraction.len() as i32;
            let trailing =
                parts.whole.bytes().chain(parts.fraction.bytes()).rev().take(3).filter(|b| *b == b'0').count() == 3;
            digits <= 18 && scale >= NANO && scale % 3 == 0 && !trailing && !parts.whole.is_empty()
        }
    }
}
