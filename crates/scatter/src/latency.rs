//! What a leaf's answers take: percentiles over the last few thousand calls. Pure.

use std::time::Duration;

/// Buckets for each doubling: the error is under 10 %.
const PER_OCTAVE: f64 = 8.0;
/// From 1 µs to 268 s.
const BUCKETS: usize = 28 * 8;
/// Under so many calls nothing is known.
const ENOUGH: u32 = 20;
/// After so many calls the older half is forgotten.
const WINDOW: u32 = 2048;

/// A histogram that forgets.
#[derive(Clone)]
pub struct Latencies {
    current: Box<[u32; BUCKETS]>,
    before: Box<[u32; BUCKETS]>,
    in_current: u32,
    in_before: u32,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { current: Box::new([0; BUCKETS]), before: Box::new([0; BUCKETS]), in_current: 0, in_before: 0 }
    }
}

impl Latencies {
    /// Adds what one call took, or, for one that was given up, at least took.
    pub fn record(&mut self, took: Duration) {
        if self.in_current == WINDOW {
            std::mem::swap(&mut self.current, &mut self.before);
            self.current.fill(0);
            self.in_before = std::mem::take(&mut self.in_current);
        }
        self.current[bucket(took)] += 1;
        self.in_current += 1;
    }

    /// The time within which `percentile` of a hundred calls were answered; nothing before enough is known.
    #[must_use]
    pub fn percentile(&self, percentile: f64) -> Option<Duration> {
        let total = self.in_current + self.in_before;
        if total < ENOUGH {
            return None;
        }
        let rank = (f64::from(total) * percentile / 100.0).ceil();
        let mut below = 0;
        for at in 0..BUCKETS {
            below += self.current[at] + self.before[at];
            if f64::from(below) >= rank {
                return Some(upper(at));
            }
        }
        Some(upper(BUCKETS - 1))
    }
}

fn bucket(took: Duration) -> usize {
    let micros = (took.as_nanos() as f64 / 1000.0).max(1.0);
    ((micros.log2() * PER_OCTAVE) as usize).min(BUCKETS - 1)
}

fn upper(bucket: usize) -> Duration {
    Duration::from_nanos((((bucket + 1) as f64 / PER_OCTAVE).exp2() * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_tenth() {
        let mut latencies = Latencies::default();
        for millis in 1..=1000 {
            latencies.record(Duration::from_millis(millis));
        }
        for percentile in [50.0, 95.0, 99.0] {
            let told = latencies.percentile(percentile).unwrap().as_secs_f64() * 1000.0;
            let exact = percentile * 10.0;
            assert!(told >= exact && told <= exact * 1.1, "p{percentile}: {told} for {exact}");
        }
    }

    #[test]
    fn nothing_is_told_before_enough_is_known() {
        let mut latencies = Latencies::default();
        for _ in 0..ENOUGH - 1 {
            latencies.record(Duration::from_millis(1));
        }
        assert_eq!(latencies.percentile(95.0), None);
        latencies.record(Duration::MAX);
        assert!(latencies.percentile(95.0).is_some());
    }

    #[test]
    fn what_a_leaf_took_long_ago_is_forgotten() {
        let mut latencies = Latencies::default();
        (0..WINDOW).for_each(|_| latencies.record(Duration::from_secs(5)));
        (0..2 * WINDOW).for_each(|_| latencies.record(Duration::from_millis(1)));
        assert!(latencies.percentile(99.0).unwrap() < Duration::from_millis(2));
    }
}
