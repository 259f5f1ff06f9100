//! The kubelet's backoff for crashing containers and failing pulls: nothing the first time, then 10 s,
//! doubling up to 5 min, forgotten after 10 min of peace.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The first delay.
pub const INITIAL: SignedDuration = SignedDuration::from_secs(10);
/// The longest delay.
pub const MAX: SignedDuration = SignedDuration::from_secs(300);

/// The delay in force for one container or image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    entry: Option<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    delay_seconds: i64,
    updated: Timestamp,
}

impl Backoff {
    /// When what failed at `failed_at` may be tried again, if that is later than `now`.
    pub fn hold(&self, failed_at: Timestamp, now: Timestamp) -> Option<Hold> {
        let entry = self.entry.filter(|e| !expired(e, failed_at))?;
        let delay = SignedDuration::from_secs(entry.delay_seconds);
        let until = failed_at.checked_add(delay).ok()?;
        (until > now).then_some(Hold { until, delay })
    }

    /// Counts a new try after a failure at `failed_at`: the next failure waits longer.
    pub fn advance(&mut self, failed_at: Timestamp, now: Timestamp) {
        let delay_seconds = match self.entry {
            Some(e) if !expired(&e, failed_at) => (e.delay_seconds * 2).min(MAX.as_secs()),
            _ => INITIAL.as_secs(),
        };
        self.entry = Some(Entry { delay_seconds, updated: now });
    }
}

/// A try that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Until then.
    pub until: Timestamp,
    /// The whole delay, as messages show it.
    pub delay: SignedDuration,
}

fn expired(entry: &Entry, at: Timestamp) -> bool {
    at.duration_since(entry.updated) > MAX * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).expect("in range")
    }

    #[test]
    fn delays_double_to_five_minutes_and_are_forgotten_after_ten_of_peace() {
        let mut backoff = Backoff::default();
        let mut now = 0;
        assert_eq!(backoff.hold(at(now), at(now)), None, "the first restart is immediate");
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoff.advance(at(now), at(now));
            now += 1;
            let hold = backoff.hold(at(now), at(now)).expect("a hold");
            assert_eq!((hold.delay.as_secs(), hold.until), (expected, at(now + expected)));
            now += expected;
            assert_eq!(backoff.hold(at(now - expected), at(now)), None, "its time is over");
        }
        let later = now + 601;
        assert_eq!(backoff.hold(at(later), at(later)), None);
        backoff.advance(at(later), at(later));
        assert_eq!(backoff.hold(at(later), at(later)).map(|h| h.delay.as_secs()), Some(10));
    }
}
