//! Times as Docker writes and reads them.

use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};

/// Go's zero time: never.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 with nanoseconds.
pub(crate) fn text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// Now, as text.
pub(crate) fn now() -> String {
    text(Timestamp::now())
}

/// The engine's times.
pub(crate) fn from_system(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A time that was written by [`text`]; `None` for [`NEVER`].
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    if text.is_empty() || text == NEVER {
        return None;
    }
    text.parse().ok()
}

/// Seconds of the epoch of such a text; 0 for never.
pub(crate) fn unix(text: &str) -> i64 {
    parse(text).map_or(0, Timestamp::as_second)
}

/// A query's `since` and `until`: seconds of the epoch with a fraction, or RFC 3339.
pub(crate) fn query(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Some((seconds, fraction)) = text.split_once('.')
        && let (Ok(seconds), true) = (seconds.parse::<i64>(), fraction.bytes().all(|b| b.is_ascii_digit()))
    {
        let nanoseconds: i32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        return Timestamp::new(seconds, nanoseconds).ok();
    }
    match text.parse::<i64>() {
        Ok(seconds) => Timestamp::from_second(seconds).ok(),
        Err(_) => text.parse().ok().or_else(|| {
            let ago = duration(text)?;
            Timestamp::now().checked_sub(ago).ok()
        }),
    }
}

/// Go's durations: `1h30m`, `10s`, `250ms`.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    go_duration::parse(text).map(SignedDuration::from_nanos)
}

/// A duration as Go writes it: `1m30s`, `2.5s`, `20ms`.
pub(crate) fn go(duration: Duration) -> String {
    go_duration::format(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// Docker's `HumanDuration`: how long ago, in words.
pub(crate) fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_queries_are_seconds_dates_or_durations() {
        assert_eq!(query("1700000000.5").unwrap().as_millisecond(), 1_700_000_000_500);
        assert_eq!(query("1700000000").unwrap().as_second(), 1_700_000_000);
        assert_eq!(query("2024-01-01T00:00:00Z").unwrap().as_second(), 1_704_067_200);
        assert!(query("10m").unwrap() < Timestamp::now());
        assert!(query("yesterday").is_none());
    }

    #[test]
    fn durations_read_as_dockers() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (7200, "2 hours"),
            (86400 * 3, "3 days"),
        ] {
            assert_eq!(human(seconds), words);
        }
    }
}
