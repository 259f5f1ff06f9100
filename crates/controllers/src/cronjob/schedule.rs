//! Cron schedules as upstream reads them (`robfig/cron` v3 `ParseStandard`): five fields in a time zone, or a
//! descriptor. Pure.
//!
//! Wall-clock times that a change of clocks skips are skipped; those that it repeats come twice.

use jiff::{SignedDuration, Timestamp, ToSpan, Zoned, civil::Weekday, tz::TimeZone};

/// No schedule is looked for further ahead (29 February on a Monday takes up to 28 years, but upstream gives up
/// after five).
const HORIZON: SignedDuration = SignedDuration::from_hours(5 * 366 * 24);

/// A schedule that can be asked for its next time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At wall-clock times.
    Fields(Fields, TimeZone),
    /// At a fixed distance.
    Every(SignedDuration),
}

/// Sets of allowed values as bits, and whether a day field says "any".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

/// Why a schedule can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads a schedule. A `TZ=` or `CRON_TZ=` in front takes precedence over `zone`.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, ParseError> {
        let (zone, text) = match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            Some(rest) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let zone = TimeZone::get(name).map_err(|e| ParseError(format!("provided bad location {name}: {e}")))?;
                (zone, rest.trim())
            }
            None => (zone, text.trim()),
        };
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => match other.strip_prefix("@every ") {
                Some(duration) => return every(duration),
                None => other,
            },
        };
        Ok(Self::Fields(Fields::parse(fields)?, zone))
    }

    /// The first time after `after`; `None` if there is none in sight.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(pause) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*pause).ok()
            }
            Self::Fields(fields, zone) => fields.next(after, zone),
        }
    }
}

fn every(text: &str) -> Result<Schedule, ParseError> {
    let pause = go_duration::read(text)
        .map(SignedDuration::from_nanos)
        .map_err(|e| ParseError(format!("failed to parse duration @every {text}: {e}")))?;
    Ok(Schedule::Every(SignedDuration::from_secs(pause.as_secs().max(1))))
}

impl Fields {
    fn parse(text: &str) -> Result<Self, ParseError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(ParseError(format!(
                "expected exactly 5 fields, found {}: [{}]",
                fields.len(),
                fields.join(" ")
            )));
        };
        let (days, any_day) = field(days, 1, 31, &[])?;
        let (weekdays, any_weekday) = field(weekdays, 0, 6, &WEEKDAYS)?;
        Ok(Self {
            minutes: field(minutes, 0, 59, &[])?.0,
            hours: field(hours, 0, 23, &[])?.0,
            days,
            months: field(months, 1, 12, &MONTHS)?.0,
            weekdays,
            any_day,
            any_weekday,
        })
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let has = |set: u64, value: i8| set & (1 << value) != 0;
        let seconds = after.as_second().div_euclid(60) + 1;
        let mut at: Zoned = Timestamp::from_second(seconds * 60).ok()?.to_zoned(zone.clone());
        let end = after.checked_add(HORIZON).ok()?;
        while at.timestamp() <= end {
            if !has(self.months, at.month()) {
                at = at.first_of_month().ok()?.checked_add(1.month()).ok()?.start_of_day().ok()?;
            } else if !self.has_day(&at) {
                at = at.tomorrow().ok()?.start_of_day().ok()?;
            } else if !has(self.hours, at.hour()) {
                let left = 60 - i64::from(at.minute());
                at = at.checked_add(SignedDuration::from_mins(left)).ok()?;
            } else if !has(self.minutes, at.minute()) {
                at = at.checked_add(SignedDuration::from_mins(1)).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }

    /// With both day fields given either is enough.
    fn has_day(&self, at: &Zoned) -> bool {
        let day = self.days & (1 << at.day()) != 0;
        let weekday = self.weekdays & (1 << Weekday::to_sunday_zero_offset(at.weekday())) != 0;
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

/// A field's values, and whether it says "any".
fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Result<(u64, bool), ParseError> {
    let (mut set, mut any) = (0, false);
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (bits, star) = range(part, least, most, names)?;
        set |= bits;
        any |= star;
    }
    Ok((set, any))
}

fn range(text: &str, least: u32, most: u32, names: &[&str]) -> Result<(u64, bool), ParseError> {
    let fault = |what: &str| ParseError(format!("{what}: {text}"));
    let number = |word: &str| -> Result<u32, ParseError> {
        if let Some(index) = names.iter().position(|n| n.eq_ignore_ascii_case(word)) {
            return Ok(least + index as u32);
        }
        word.parse().map_err(|_| ParseError(format!("failed to parse int from {word}: {text}")))
    };
    let (span, step) = match text.split_once('/') {
        Some((span, step)) => (span, Some(number(step)?)),
        None => (text, None),
    };
    let (from, to, star) = match span.split_once('-') {
        _ if matches!(span, "*" | "?") => (least, most, step.is_none_or(|s| s <= 1)),
        Some((from, to)) => (number(from)?, number(to)?, false),
        // `N/step` goes to the end.
        None if step.is_some() => (number(span)?, most, false),
        None => (number(span)?, number(span)?, false),
    };
    let step = step.unwrap_or(1);
    if from < least {
        return Err(fault(&format!("beginning of range ({from}) below minimum ({least})")));
    }
    if to > most {
        return Err(fault(&format!("end of range ({to}) above maximum ({most})")));
    }
    if from > to {
        return Err(fault(&format!("beginning of range ({from}) beyond end of range ({to})")));
    }
    if step == 0 {
        return Err(fault("step of range should be a positive number"));
    }
    Ok(((from..=to).step_by(step as usize).fold(0, |set, value| set | 1 << value), star))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: &str, after: &str) -> Option<String> {
        let schedule = Schedule::parse(schedule, TimeZone::get(zone).unwrap()).unwrap();
        schedule.next(after.parse().unwrap()).map(|t| t.to_string())
    }

    #[test]
    fn schedules_name_their_next_time() {
        for (schedule, zone, after, expected) in [
            ("* * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "UTC", "2026-01-01T00:14:59Z", "2026-01-01T00:15:00Z"),
            ("0 3 * * *", "UTC", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"),
            ("0 0 1 * *", "UTC", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
            ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 12 * * mon-fri", "UTC", "2026-01-02T12:00:00Z", "2026-01-05T12:00:00Z"),
            ("0 0 13 * fri", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("5/20 0 * jan,jul *", "UTC", "2026-01-31T00:45:00Z", "2026-07-01T00:05:00Z"),
            ("@hourly", "UTC", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z"),
            ("@every 90s", "UTC", "2026-01-01T00:00:00.5Z", "2026-01-01T00:01:30Z"),
            ("0 9 * * *", "America/New_York", "2026-01-01T00:00:00Z", "2026-01-01T14:00:00Z"),
            ("0 9 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-01T03:30:00Z"),
            ("TZ=Europe/Berlin 0 9 * * *", "UTC", "2026-07-01T00:00:00Z", "2026-07-01T07:00:00Z"),
            // The hour that the clocks skip, and the one that they repeat.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
        ] {
            assert_eq!(next(schedule, zone, after).as_deref(), Some(expected), "{schedule} in {zone}");
        }
        assert_eq!(next("59 23 31 2 *", "UTC", "2026-01-01T00:00:00Z"), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "* * * * 7",
            "x * * * *",
            "@never",
            "@every x",
        ] {
            assert!(Schedule::parse(text, TimeZone::UTC).is_err(), "{text}");
        }
    }
}
