//! How often something was asked for of late, roughly and in little memory: a count-min sketch that forgets (TinyLFU).

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

const ROWS: usize = 4;

/// Counters that requests are counted with.
pub(super) struct Sketch {
    counters: Box<[AtomicU8]>,
    hasher: RandomState,
    counted: AtomicUsize,
    /// After so many requests all counters are halved.
    period: usize,
}

impl Sketch {
    /// For about so many different things.
    pub(super) fn new(things: usize) -> Self {
        let width = things.clamp(1 << 10, 1 << 18).next_power_of_two();
        Self {
            counters: (0..width * ROWS).map(|_| AtomicU8::new(0)).collect(),
            hasher: RandomState::new(),
            counted: AtomicUsize::new(0),
            period: width * 10,
        }
    }

    /// It was asked for. Returns how often that was by now.
    pub(super) fn count(&self, key: &[u8]) -> u8 {
        let mut least = u8::MAX;
        for at in self.places(key) {
            let counter = &self.counters[at];
            let seen = counter.load(Ordering::Relaxed).saturating_add(1);
            counter.store(seen, Ordering::Relaxed);
            least = least.min(seen);
        }
        if self.counted.fetch_add(1, Ordering::Relaxed) + 1 == self.period {
            self.counted.store(0, Ordering::Relaxed);
            for counter in &self.counters {
                counter.store(counter.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
        }
        least
    }

    /// How often it was asked for; sometimes too high, never too low but for what was forgotten.
    pub(super) fn estimate(&self, key: &[u8]) -> u8 {
        self.places(key).map(|at| self.counters[at].load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    fn places(&self, key: &[u8]) -> impl Iterator<Item = usize> + use<> {
        let hash = self.hasher.hash_one(key);
        let width = self.counters.len() / ROWS;
        let (one, other) = (hash as usize, (hash >> 32) as usize | 1);
        (0..ROWS).map(move |row| row * width + (one.wrapping_add(other.wrapping_mul(row)) & (width - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_often_stands_out_and_is_forgotten_in_time() {
        let sketch = Sketch::new(1);
        for _ in 0..20 {
            sketch.count(b"often");
        }
        sketch.count(b"once");
        assert!(sketch.estimate(b"often") >= 20);
        assert!((1..20).contains(&sketch.estimate(b"once")));
        for i in 0..10 * (1 << 10) {
            sketch.count(format!("other {i}").as_bytes());
        }
        // Halved at least once; others may share its counters.
        assert!(sketch.estimate(b"often") < 40);
        for _ in 0..600 {
            sketch.count(b"always");
        }
        assert_eq!(sketch.estimate(b"always"), u8::MAX);
    }
}
