//! The thresholds of a probe. Pure.

/// One try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Success,
    /// It passed, though something is odd: what.
    Warning(String),
    /// It failed: why.
    Failure(String),
    /// It could not be tried: why. Counts for nothing, as upstream has it.
    Unknown(String),
}

/// What follows from a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    Same,
    /// From now on it passes, or not.
    Now(bool),
}

/// Counts tries of the same outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    passes: Option<bool>,
    last: bool,
    run: u32,
    success_threshold: u32,
    failure_threshold: u32,
}

impl State {
    /// Thresholds below 1 count as 1. `passes` is the verdict so far: readiness begins with `Some(false)`, liveness
    /// with `Some(true)`, startup with `None` (either verdict is news).
    pub fn new(success_threshold: i32, failure_threshold: i32, passes: Option<bool>) -> Self {
        let at_least_one = |n: i32| n.max(1).unsigned_abs();
        Self {
            passes,
            last: false,
            run: 0,
            success_threshold: at_least_one(success_threshold),
            failure_threshold: at_least_one(failure_threshold),
        }
    }

    /// Counts one try.
    pub fn count(&mut self, outcome: &Outcome) -> Verdict {
        let success = match outcome {
            Outcome::Success | Outcome::Warning(_) => true,
            Outcome::Failure(_) => false,
            Outcome::Unknown(_) => return Verdict::Same,
        };
        if success == self.last {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = success;
            self.run = 1;
        }
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        if self.run < threshold || self.passes == Some(success) {
            return Verdict::Same;
        }
        self.passes = Some(success);
        Verdict::Now(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_change_at_their_thresholds() {
        let fail = Outcome::Failure(String::new());
        let unknown = Outcome::Unknown(String::new());
        let mut readiness = State::new(2, 3, Some(false));
        assert_eq!(readiness.count(&Outcome::Success), Verdict::Same);
        assert_eq!(readiness.count(&fail), Verdict::Same);
        assert_eq!(readiness.count(&Outcome::Success), Verdict::Same);
        assert_eq!(readiness.count(&unknown), Verdict::Same);
        assert_eq!(readiness.count(&Outcome::Success), Verdict::Now(true));
        assert_eq!(readiness.count(&Outcome::Success), Verdict::Same);
        assert_eq!(
            [&fail, &fail, &fail].map(|o| readiness.count(o)),
            [Verdict::Same, Verdict::Same, Verdict::Now(false)]
        );
        let mut liveness = State::new(1, 1, Some(true));
        assert_eq!(liveness.count(&fail), Verdict::Now(false));
        let mut odd = State::new(1, 1, Some(false));
        assert_eq!(odd.count(&Outcome::Warning(String::new())), Verdict::Now(true));
        let mut startup = State::new(1, 2, None);
        assert_eq!(startup.count(&fail), Verdict::Same);
        assert_eq!(startup.count(&fail), Verdict::Now(false));
    }
}
