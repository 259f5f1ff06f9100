//! Token bucket and sliding window, as pure deciders: what was counted and the time come in, the decision and what is counted go out.

use crate::config::Algorithm;

/// The numbers of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// How it is counted.
    pub algorithm: Algorithm,
    /// Requests …
    pub requests: u64,
    /// … in so many milliseconds.
    pub per_millis: u64,
    /// Token bucket: its size.
    pub burst: u64,
}

/// What was counted of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Token bucket: tokens spent. Sliding window: requests of this window.
    spent: f64,
    /// Sliding window: requests of the window before.
    before: f64,
    /// When that was true. Sliding window: when this window began.
    at: u64,
}

/// Whether one more is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// It is.
    pub allowed: bool,
    /// How many more would be.
    pub remaining: u64,
    /// Milliseconds until one is; 0 if one is now.
    pub retry_millis: u64,
    /// Milliseconds until the limit is whole again.
    pub reset_millis: u64,
}

/// Counts one request at a time in milliseconds. A refused one costs nothing.
pub fn take(counted: &mut Counted, numbers: Numbers, now: u64) -> Decision {
    match numbers.algorithm {
        Algorithm::TokenBucket => bucket(counted, numbers, now),
        Algorithm::SlidingWindow => window(counted, numbers, now),
    }
}

fn bucket(counted: &mut Counted, numbers: Numbers, now: u64) -> Decision {
    let rate = numbers.requests as f64 / numbers.per_millis as f64;
    let size = numbers.burst as f64;
    let elapsed = now.saturating_sub(counted.at) as f64;
    let mut spent = (counted.spent - elapsed * rate).max(0.0);
    counted.at = now;
    // What adding and taking fractions loses must not cost a request.
    let allowed = spent + 1.0 <= size + 1e-9;
    if allowed {
        spent += 1.0;
    }
    counted.spent = spent;
    let until = |tokens: f64| if rate > 0.0 { (tokens / rate).ceil().max(0.0) as u64 } else { numbers.per_millis };
    Decision {
        allowed,
        remaining: (size - spent + 1e-9).floor().max(0.0) as u64,
        retry_millis: if spent + 1.0 <= size + 1e-9 { 0 } else { until(spent + 1.0 - size) },
        reset_millis: until(spent),
    }
}

fn window(counted: &mut Counted, numbers: Numbers, now: u64) -> Decision {
    let per = numbers.per_millis;
    let begun = now - now % per;
    if counted.at != begun {
        counted.before = if counted.at + per == begun { counted.spent } else { 0.0 };
        counted.spent = 0.0;
        counted.at = begun;
    }
    let left = (per - (now - begun)) as f64 / per as f64;
    let weighed = counted.before * left + counted.spent;
    let limit = numbers.requests as f64;
    let allowed = weighed + 1.0 <= limit + 1e-9;
    if allowed {
        counted.spent += 1.0;
    }
    let weighed = counted.before * left + counted.spent;
    let end = per - (now - begun);
    let retry = if weighed + 1.0 <= limit + 1e-9 {
        0
    } else if counted.before > 0.0 && counted.spent + 1.0 <= limit {
        // So much of the window before must have left.
        let needed = (limit - 1.0 - counted.spent) / counted.before;
        (end as f64 - needed * per as f64).ceil().clamp(1.0, end as f64) as u64
    } else if limit < 1.0 {
        end + per
    } else {
        // In the next window these are the window before.
        let share = ((limit - 1.0) / counted.spent.max(1.0)).min(1.0);
        end + ((1.0 - share) * per as f64).ceil() as u64
    };
    Decision {
        allowed,
        remaining: (limit - weighed + 1e-9).floor().max(0.0) as u64,
        retry_millis: retry,
        reset_millis: if counted.spent > 0.0 { end + per } else { end },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(algorithm: Algorithm, requests: u64, burst: u64) -> Numbers {
        Numbers { algorithm, requests, per_millis: 1000, burst }
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let ten = numbers(Algorithm::TokenBucket, 10, 5);
        let mut counted = Counted::default();
        let allowed = (0..8).filter(|_| take(&mut counted, ten, 5000).allowed).count();
        assert_eq!(allowed, 5);
        let refused = take(&mut counted, ten, 5000);
        assert_eq!(
            (refused.allowed, refused.remaining, refused.retry_millis, refused.reset_millis),
            (false, 0, 100, 500)
        );
        assert!(!take(&mut counted, ten, 5099).allowed && take(&mut counted, ten, 5100).allowed);
        let minute = (0..60_000).filter(|ms| take(&mut counted, ten, 10_000 + ms).allowed).count();
        assert!((600..=606).contains(&minute), "{minute}");
    }

    #[test]
    fn a_window_never_lets_more_through_than_its_number_and_weighs_the_one_before() {
        let ten = numbers(Algorithm::SlidingWindow, 10, 0);
        let mut counted = Counted::default();
        assert_eq!((0..20).filter(|_| take(&mut counted, ten, 5900).allowed).count(), 10);
        assert_eq!((0..20).filter(|_| take(&mut counted, ten, 6000).allowed).count(), 0, "a new window is no amnesty");
        assert_eq!((0..20).filter(|_| take(&mut counted, ten, 6500).allowed).count(), 5);
        assert_eq!((0..20).filter(|_| take(&mut counted, ten, 9000).allowed).count(), 10);
    }

    #[test]
    fn whoever_waits_as_long_as_told_is_let_through() {
        for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow] {
            for (requests, burst) in [(1, 1), (3, 1), (7, 20), (100, 10)] {
                let numbers = numbers(algorithm, requests, burst);
                let (mut counted, mut now) = (Counted::default(), 12_345);
                for step in 0..500u64 {
                    let decision = take(&mut counted, numbers, now);
                    if !decision.allowed {
                        now += decision.retry_millis;
                        assert!(
                            take(&mut counted, numbers, now).allowed,
                            "{algorithm:?} {requests} {burst} step {step}"
                        );
                    }
                    now += step % 3;
                }
            }
        }
    }
}
