//! How many second requests may be made: a share of the first ones, whatever happens. Pure.

/// Second requests that may be saved up for a bad moment.
const MOST_SAVED: u64 = 10 * ONE;
/// One request, in millionths.
const ONE: u64 = 1_000_000;

/// A budget of second requests. Its unit is a millionth of a request.
#[derive(Clone, Debug)]
pub struct Budget {
    earned_by_each: u64,
    saved: u64,
}

impl Budget {
    /// A budget of so many second requests for a hundred first ones.
    #[must_use]
    pub fn percent(percent: f64) -> Self {
        Self { earned_by_each: (percent.clamp(0.0, 100.0) * ONE as f64 / 100.0) as u64, saved: 0 }
    }

    /// A first request earns a part of a second one.
    pub fn earn(&mut self) {
        self.saved = (self.saved + self.earned_by_each).min(MOST_SAVED);
    }

    /// Pays for a second request, if it can.
    pub fn pay(&mut self) -> bool {
        let paid = self.saved.checked_sub(ONE);
        self.saved = paid.unwrap_or(self.saved);
        paid.is_some()
    }

    /// Gives back what was paid for a request that was not made.
    pub fn refund(&mut self) {
        self.saved = (self.saved + ONE).min(MOST_SAVED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_requests_never_exceed_their_share_however_eager() {
        let mut budget = Budget::percent(5.0);
        let mut second = 0;
        for first in 1..=100_000 {
            budget.earn();
            second += u32::from(budget.pay());
            assert!(f64::from(second) <= 0.05 * f64::from(first), "{second} of {first}");
        }
        assert_eq!(second, 5000);
    }

    #[test]
    fn a_quiet_time_saves_up_for_ten_at_most() {
        let mut budget = Budget::percent(5.0);
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.pay()).count(), 10);
    }

    #[test]
    fn without_a_share_there_is_none() {
        let mut budget = Budget::percent(0.0);
        (0..10_000).for_each(|_| budget.earn());
        assert!(!budget.pay());
    }
}
