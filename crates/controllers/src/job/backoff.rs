//! Failed pods are replaced later and later: 10 s, 20 s, 40 s… up to 10 minutes. Pure.

use std::time::Duration;

use jiff::Timestamp;

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(600);

/// How a Job's pods ended lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    failures_since_success: u32,
    last_failure: Option<Timestamp>,
}

impl Record {
    /// After pods that ended at these times.
    pub fn after(self, succeeded: &[Timestamp], failed: &[Timestamp]) -> Self {
        let last_success = succeeded.iter().max();
        let since = |at: &&Timestamp| last_success.is_none_or(|success| *at > success);
        let counted = u32::try_from(failed.iter().filter(since).count()).unwrap_or(u32::MAX);
        let before = if last_success.is_some() { 0 } else { self.failures_since_success };
        Self {
            failures_since_success: before.saturating_add(counted),
            last_failure: self.last_failure.max(failed.iter().max().copied()),
        }
    }

    /// How long until the next pod may be made.
    pub fn left(&self, now: Timestamp) -> Duration {
        self.last_failure.map_or(Duration::ZERO, |at| left(self.failures_since_success, at, now))
    }
}

/// How long after the last of several failures another attempt has to wait.
pub fn left(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let pause = FIRST.saturating_mul(1 << (failures - 1).min(10)).min(MOST);
    let gone = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    pause.saturating_sub(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn pauses_double_up_to_ten_minutes_and_pass_with_time() {
        for (failures, seconds) in [(0, 0), (1, 10), (2, 20), (3, 40), (7, 600), (60, 600)] {
            assert_eq!(left(failures, at(0), at(0)).as_secs(), seconds);
        }
        assert_eq!(left(2, at(0), at(15)).as_secs(), 5);
        assert_eq!(left(2, at(0), at(25)).as_secs(), 0);
    }

    #[test]
    fn a_success_forgives_earlier_failures() {
        let record = Record::default().after(&[], &[at(1), at(2)]);
        assert_eq!(record.left(at(2)).as_secs(), 20);
        assert_eq!(record.after(&[at(3)], &[]).left(at(3)).as_secs(), 0);
        assert_eq!(record.after(&[at(3)], &[at(4)]).left(at(4)).as_secs(), 10);
    }
}
