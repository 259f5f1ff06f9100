//! Ages as kubectl shows them.

use jiff::Timestamp;
use serde_json::Value;

/// Two to three significant figures: `45s`, `2m30s`, `5h`, `5d23h`, `2y10d`. Up to a second in the future
/// counts as now; beyond it is `<invalid>`.
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let pair = |big: i64, big_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit}{small}{small_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 2 * MINUTE => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE => pair(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        _ if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < 8 * HOUR => pair(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        _ if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 8 * DAY => pair(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => pair(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// The age of a time as JSON has it; `<unknown>` if there is none.
pub fn since(time: Option<&Value>, now: Timestamp) -> String {
    match parse(time) {
        Some(then) => human_duration(seconds_between(then, now)),
        None => "<unknown>".to_owned(),
    }
}

/// A time as JSON has it.
pub(super) fn parse(time: Option<&Value>) -> Option<Timestamp> {
    time?.as_str()?.parse().ok()
}

/// Whole seconds, cut towards zero.
pub(super) fn seconds_between(then: Timestamp, now: Timestamp) -> i64 {
    (now.as_millisecond() - then.as_millisecond()) / 1000
}
