//! CPU used per second, from one question to the next: what is measured only when someone asks has no other past.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// Questions closer together than this get the same answer.
const SHORTEST: SignedDuration = SignedDuration::from_secs(1);
/// What was measured longer ago says nothing of now.
const LONGEST: SignedDuration = SignedDuration::from_secs(120);

/// What was measured last, by what it is of.
#[derive(Default)]
pub struct Rates(Mutex<HashMap<String, Measured>>);

#[derive(Clone, Copy)]
struct Measured {
    at: Timestamp,
    nanoseconds: u64,
    rate: Option<u64>,
}

impl Rates {
    /// Billionths of a CPU that `of` used since it was asked for last; `None` at the first time.
    pub(super) fn of(&self, of: &str, at: Timestamp, nanoseconds: u64) -> Option<u64> {
        let mut all = self.0.lock();
        let before = all.get(of).copied().filter(|before| at.duration_since(before.at) < LONGEST);
        if let Some(before) = before.filter(|before| at.duration_since(before.at) < SHORTEST) {
            return before.rate;
        }
        let rate = before.and_then(|before| {
            let used = u128::from(nanoseconds.checked_sub(before.nanoseconds)?) * 1_000_000_000;
            u64::try_from(used / u128::try_from(at.duration_since(before.at).as_nanos()).ok()?).ok()
        });
        all.retain(|_, measured| at.duration_since(measured.at) < LONGEST);
        all.insert(of.to_owned(), Measured { at, nanoseconds, rate });
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_was_used_since_the_last_question() {
        let rates = Rates::default();
        let at = |millis: i64| Timestamp::from_millisecond(millis).expect("in range");
        assert_eq!(rates.of("c", at(0), 500), None, "nothing to compare with");
        assert_eq!(rates.of("c", at(400), 900), None, "too soon");
        assert_eq!(rates.of("c", at(2000), 1_000_000_500), Some(500_000_000), "half a CPU");
        assert_eq!(rates.of("c", at(2100), 1_900_000_500), Some(500_000_000), "too soon for another");
        assert_eq!(rates.of("c", at(4000), 7), None, "it began anew");
        assert_eq!(rates.of("c", at(5000), 1_000_000_007), Some(1_000_000_000));
        assert_eq!(rates.of("c", at(200_000), 1_000_000_007), None, "that was long ago");
    }
}
