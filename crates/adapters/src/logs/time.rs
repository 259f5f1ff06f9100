//! Times as logs write them. Pure: now is given, for those that leave out the year.

use jiff::{Timestamp, civil, fmt::strtime, tz::TimeZone};

/// A time in any of the ways that logs commonly write it; nothing if it is none. What names no zone is in `zone`.
#[must_use]
pub fn parse(text: &str, format: Option<&str>, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim().trim_matches(['[', ']']);
    if let Some(format) = format {
        return match format {
            "unix" => seconds(text.parse().ok()?),
            "unixms" => seconds(text.parse::<f64>().ok()? / 1e3),
            "unixns" => Timestamp::from_nanosecond(text.parse().ok()?).ok(),
            format => by(format, text, zone, now),
        };
    }
    if let Some(time) = iso(text, zone).or_else(|| number(text)) {
        return Some(time);
    }
    // nginx and apache's access logs; nginx's errors; apache's errors; Redis; Go and others; syslog.
    const FORMATS: [&str; 7] = [
        "%d/%b/%Y:%H:%M:%S %z",
        "%Y/%m/%d %H:%M:%S%.f",
        "%a %b %d %H:%M:%S%.f %Y",
        "%d %b %Y %H:%M:%S%.f",
        "%a, %d %b %Y %H:%M:%S %z",
        "%b %e %H:%M:%S%.f",
        "%d/%b/%Y:%H:%M:%S",
    ];
    FORMATS.iter().find_map(|format| by(format, text, zone, now))
}

/// RFC 3339, and its relatives: a space for the T, a comma before the fraction, no zone.
fn iso(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() < 19 || bytes[4] != b'-' || bytes[7] != b'-' || bytes[13] != b':' {
        return None;
    }
    let text = text.replacen(',', ".", 1).replacen(' ', "T", 1).replace(' ', "");
    let text = text.strip_suffix("UTC").map(|text| format!("{text}Z")).unwrap_or(text);
    // A zone of four digits lacks its colon.
    let at = text.len().checked_sub(5)?;
    let bare = text.is_char_boundary(at) && text[at..].starts_with(['+', '-']) && !text[at..].contains(':') && at > 11;
    let text = if bare { format!("{}:{}", &text[..at + 3], &text[at + 3..]) } else { text };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    civil::DateTime::strptime("%Y-%m-%dT%H:%M:%S%.f", &text).ok()?.to_zoned(zone.clone()).ok().map(|at| at.timestamp())
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, by how large it is.
fn number(text: &str) -> Option<Timestamp> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    match number {
        n if n < 1e8 => None,
        n if n < 1e11 => seconds(n),
        n if n < 1e14 => Timestamp::from_millisecond(n as i64).ok(),
        n if n < 1e17 => Timestamp::from_microsecond(n as i64).ok(),
        _ => Timestamp::from_nanosecond(text.split('.').next()?.parse().ok()?).ok(),
    }
}

fn seconds(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_microsecond((seconds * 1e6).round() as i64).ok()
}

fn by(format: &str, text: &str, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    let broken = strtime::parse(format, text).ok()?;
    if let Ok(time) = broken.to_timestamp() {
        return Some(time);
    }
    if let Ok(time) = broken.to_datetime() {
        return time.to_zoned(zone.clone()).ok().map(|at| at.timestamp());
    }
    // Without a year: the last such day, where tomorrow still counts as today in another zone.
    let today = now.to_zoned(zone.clone()).date();
    let in_year = |year: i16| {
        let date = civil::Date::new(year, broken.month()?, broken.day()?).ok()?;
        let time = broken.to_time().unwrap_or_default();
        date.to_datetime(time).to_zoned(zone.clone()).ok().map(|at| at.timestamp())
    };
    let limit = now.as_second() + 86_400;
    [today.year() + 1, today.year(), today.year() - 1]
        .into_iter()
        .filter_map(in_year)
        .find(|at| at.as_second() <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Option<String> {
        let now = "2026-01-01T00:30:00Z".parse().unwrap();
        parse(text, None, &TimeZone::UTC, now).map(|at| at.to_string())
    }

    #[test]
    fn times_are_read_as_logs_write_them() {
        for (text, expected) in [
            ("2026-03-04T05:06:07.123456789Z", "2026-03-04T05:06:07.123456789Z"),
            ("2026-03-04T05:06:07+02:00", "2026-03-04T03:06:07Z"),
            ("2026-03-04T05:06:07+0200", "2026-03-04T03:06:07Z"),
            ("2026-03-04 05:06:07,250", "2026-03-04T05:06:07.25Z"),
            ("2026-03-04 05:06:07.5 UTC", "2026-03-04T05:06:07.5Z"),
            ("[04/Mar/2026:05:06:07 -0100]", "2026-03-04T06:06:07Z"),
            ("2026/03/04 05:06:07", "2026-03-04T05:06:07Z"),
            ("Wed Mar 04 05:06:07.000250 2026", "2026-03-04T05:06:07.00025Z"),
            ("04 Mar 2026 05:06:07.089", "2026-03-04T05:06:07.089Z"),
            ("1772600767", "2026-03-04T05:06:07Z"),
            ("1772600767.5", "2026-03-04T05:06:07.5Z"),
            ("1772600767089", "2026-03-04T05:06:07.089Z"),
            ("Dec 31 23:59:59", "2025-12-31T23:59:59Z"),
            ("Jan  1 00:29:00", "2026-01-01T00:29:00Z"),
            ("Jan  1 20:00:00", "2026-01-01T20:00:00Z"),
            ("Jan  3 00:29:00", "2025-01-03T00:29:00Z"),
        ] {
            assert_eq!(told(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "12",
            "Feb 30 00:00:00",
            "ä026-03-04T05:06:07Z",
            "2026-03-04T05:06:0ä",
        ] {
            assert_eq!(told(text), None, "{text}");
        }
    }

    #[test]
    fn a_zone_and_a_format_are_obeyed() {
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = parse("2026-03-04 05:06:07", None, &zone, now).unwrap();
        assert_eq!(at.to_string(), "2026-03-04T04:06:07Z");
        let at = parse("04.03.26 05h06", Some("%d.%m.%y %Hh%M"), &TimeZone::UTC, now).unwrap();
        assert_eq!(at.to_string(), "2026-03-04T05:06:00Z");
        assert_eq!(parse("12", Some("unix"), &TimeZone::UTC, now).unwrap().as_second(), 12);
    }
}
