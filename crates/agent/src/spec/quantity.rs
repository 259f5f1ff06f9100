//! `resource.Quantity` strings as numbers, rounded up as the kubelet does.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The value in thousandths, rounded up; `None` if it can't be read.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1000)
}

/// The whole value, rounded up; `None` if it can't be read.
pub fn whole(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1)
}

/// `ceil(value / divisor)` as `resourceFieldRef` defines it; `milli_divisor` is in thousandths.
pub fn divided(milli_value: i128, milli_divisor: i128) -> i64 {
    let divisor = if milli_divisor <= 0 { 1000 } else { milli_divisor };
    i64::try_from((milli_value + divisor - 1).div_euclid(divisor)).unwrap_or(i64::MAX)
}

/// The value in thousandths without the bounds of an `i64`.
pub fn milli_wide(quantity: &Quantity) -> Option<i128> {
    parse(&quantity.0).map(|value| value.ceil_times(1000))
}

/// Bytes as a quantity in its canonical form.
pub fn binary(amount: i64) -> String {
    shortened(amount, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
}

/// A number as a quantity in its canonical form.
pub fn decimal(amount: i64) -> String {
    shortened(amount, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

fn shortened(mut amount: i64, base: i64, suffixes: &[&str]) -> String {
    let mut at = 0;
    while amount != 0 && amount % base == 0 && at + 1 < suffixes.len() {
        amount /= base;
        at += 1;
    }
    format!("{amount}{}", suffixes[at])
}

fn scaled(text: &str, factor: i128) -> Option<i64> {
    let value = parse(text)?.ceil_times(factor);
    Some(i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX }))
}

/// `digits * numerator / denominator`.
struct Rational {
    digits: i128,
    numerator: i128,
    denominator: i128,
}

impl Rational {
    fn ceil_times(&self, factor: i128) -> i128 {
        let Some(product) = self.digits.checked_mul(self.numerator).and_then(|v| v.checked_mul(factor)) else {
            return if self.digits < 0 { i128::from(i64::MIN) } else { i128::from(i64::MAX) };
        };
        product.div_euclid(self.denominator) + i128::from(product.rem_euclid(self.denominator) != 0)
    }
}

fn parse(text: &str) -> Option<Rational> {
    let text = text.trim();
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = body.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(body.len());
    let (number, suffix) = body.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || fraction.len() > 18 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let mut denominator = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let mut numerator = 1_i128;
    match suffix {
        "" => {}
        "n" => denominator *= 1_000_000_000,
        "u" => denominator *= 1_000_000,
        "m" => denominator *= 1000,
        "k" => numerator = 1000,
        "M" => numerator = 1_000_000,
        "G" => numerator = 1_000_000_000,
        "T" => numerator = 1_000_000_000_000,
        "P" => numerator = 1_000_000_000_000_000,
        "E" => numerator = 1_000_000_000_000_000_000,
        "Ki" => numerator = 1 << 10,
        "Mi" => numerator = 1 << 20,
        "Gi" => numerator = 1 << 30,
        "Ti" => numerator = 1 << 40,
        "Pi" => numerator = 1 << 50,
        "Ei" => numerator = 1 << 60,
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            if exponent.unsigned_abs() > 18 {
                return None;
            }
            let power = 10_i128.pow(exponent.unsigned_abs());
            if exponent < 0 { denominator *= power } else { numerator = power }
        }
    }
    Some(Rational { digits: if negative { -digits } else { digits }, numerator, denominator })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_numbers_rounded_up() {
        for (text, in_milli, in_whole) in [
            ("0", 0, 0),
            ("1", 1000, 1),
            ("100m", 100, 1),
            ("1500m", 1500, 2),
            ("0.5", 500, 1),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("64Mi", 67_108_864_000, 67_108_864),
            ("1k", 1_000_000, 1000),
            ("2e3", 2_000_000, 2000),
            ("1E3", 1_000_000, 1000),
            ("5n", 1, 1),
            ("-2", -2000, -2),
        ] {
            let quantity = Quantity(text.to_owned());
            assert_eq!(milli(&quantity), Some(in_milli), "{text}");
            assert_eq!(whole(&quantity), Some(in_whole), "{text}");
        }
        for text in ["", "x", "1Zi", "1.2.3", "--1", "."] {
            assert_eq!(whole(&Quantity(text.to_owned())), None, "{text}");
        }
    }

    #[test]
    fn division_rounds_up() {
        assert_eq!(divided(1_500_000, 1_000_000), 2);
        assert_eq!(divided(250, 1000), 1);
        assert_eq!(divided(250, 1), 250);
        assert_eq!(divided(5000, 0), 5);
    }

    #[test]
    fn amounts_are_written_as_short_as_they_can_be() {
        assert_eq!((binary(100 << 20), binary(1025), binary(0)), ("100Mi".into(), "1025".into(), "0".into()));
        assert_eq!((decimal(32_000), decimal(31)), ("32k".into(), "31".into()));
    }
}
