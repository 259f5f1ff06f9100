//! Lengths of time as Go reads and writes them, which is how Kubernetes and Docker have them in text: `1h30m`, `2.5s`,
//! `100ms`. In nanoseconds, as Go's `time.Duration`.

/// The units, longest first, in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

/// Why a text is no length of time, in Go's words: ``time: unknown unit "x" in duration "1x"``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidDuration(String);

impl std::fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidDuration {}

/// `time.ParseDuration`: a sign, and numbers with units, or `0`.
///
/// # Errors
/// Anything else, and what does not fit.
pub fn read(text: &str) -> Result<i64, InvalidDuration> {
    let fault = |what: &str| InvalidDuration(format!("time: {what}duration {}", quoted(text)));
    let invalid = || fault("invalid ");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let known = UNITS.into_iter().find(|(name, _)| *name == unit);
        let (_, unit) = known.ok_or_else(|| match unit {
            "" => fault("missing unit in "),
            unit => fault(&format!("unknown unit {} in ", quoted(unit))),
        })?;
        let sum = whole.checked_mul(unit).and_then(|whole| total.checked_add(whole)?.checked_add(part(fraction, unit)));
        total = sum.ok_or_else(invalid)?;
        rest = after;
    }
    let signed = if negative { 0i64.checked_sub_unsigned(total) } else { i64::try_from(total).ok() };
    signed.ok_or_else(invalid)
}

/// The same, for those who have words of their own for what is none.
pub fn parse(text: &str) -> Option<i64> {
    read(text).ok()
}

/// As Go's package quotes it: what is not printable ASCII as its bytes.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='\u{7f}' => out.push(character),
            other => {
                let mut bytes = [0; 4];
                out.extend(other.encode_utf8(&mut bytes).bytes().map(|byte| format!("\\x{byte:02x}")));
            }
        }
    }
    out.push('"');
    out
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// So much of a unit as the digits behind its point say; by a float, as Go has it, whose rounding is part of the answer.
fn part(digits: &str, unit: u64) -> u64 {
    // As many digits as fit; what they leave over is less than a nanosecond.
    let fit = (0..=digits.len().min(19)).rev().find_map(|count| Some((count, digits[..count].parse::<i64>().ok()?)));
    let (count, value) = fit.unwrap_or((0, 0));
    (value as f64 * (unit as f64 / 10f64.powi(count as i32))) as u64
}

/// `time.Duration.String`: `0s`, `1.5µs`, `20ms`, `2.5s`, `1m30s`, `1h0m0s`.
pub fn format(nanoseconds: i64) -> String {
    let (sign, all) = (if nanoseconds < 0 { "-" } else { "" }, nanoseconds.unsigned_abs());
    let (seconds, minutes) = (all % 60_000_000_000, all / 60_000_000_000);
    match all {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{all}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(all, 3)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(all, 6)),
        _ => match (minutes / 60, minutes % 60) {
            (0, 0) => format!("{sign}{}s", decimal(seconds, 9)),
            (0, minutes) => format!("{sign}{minutes}m{}s", decimal(seconds, 9)),
            (hours, minutes) => format!("{sign}{hours}h{minutes}m{}s", decimal(seconds, 9)),
        },
    }
}

/// A number with its point so many digits from the right, without the zeros at its end.
fn decimal(value: u64, digits: usize) -> String {
    let unit = 10u64.pow(digits as u32);
    let fraction = format!("{:0digits$}", value % unit);
    match fraction.trim_end_matches('0') {
        "" => (value / unit).to_string(),
        fraction => format!("{}.{fraction}", value / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("+1h30m", 5_400_000_000_000),
            ("-1.5h", -5_400_000_000_000),
            ("2.5s", 2_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("100ms20us3ns", 100_020_003),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(parse(text), Some(nanoseconds), "{text}");
        }
        for text in
            ["", "-", "5", "s", ".s", "5 s", "1h ", "5d", "1.2.3s", "--5s", "9223372036854775808ns", "9999999h", "5S"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_told_in_gos_words() {
        for (text, fault) in [
            ("", r#"time: invalid duration """#),
            ("x", r#"time: invalid duration "x""#),
            ("5", r#"time: missing unit in duration "5""#),
            ("1h5", r#"time: missing unit in duration "1h5""#),
            ("1x", r#"time: unknown unit "x" in duration "1x""#),
            ("1.5d2h", r#"time: unknown unit "d" in duration "1.5d2h""#),
            ("3 s", r#"time: unknown unit " s" in duration "3 s""#),
            ("9999999h", r#"time: invalid duration "9999999h""#),
            ("1\"é", r#"time: unknown unit "\"\xc3\xa9" in duration "1\"\xc3\xa9""#),
        ] {
            assert_eq!(read(text).map_err(|fault| fault.to_string()), Err(fault.to_owned()));
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (20_000_000, "20ms"),
            (2_500_000_000, "2.5s"),
            (30_000_000_000, "30s"),
            (80_000_000_000, "1m20s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (-90_000_000_000, "-1m30s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format(nanoseconds), text);
            assert_eq!(parse(text), Some(nanoseconds), "{text}");
        }
    }
}
