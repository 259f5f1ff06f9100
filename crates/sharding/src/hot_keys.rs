//! The most used keys, in bounded memory: the space-saving sketch (Metwally, Agrawal, El Abbadi, 2005).

use std::collections::HashMap;

/// Longest key that is kept whole; longer ones are told of by their beginning.
const LONGEST: usize = 128;

/// Counts the keys that come most often. A count is never too low, and too high by at most its `error`.
#[derive(Clone, Debug, Default)]
pub struct SpaceSaving {
    capacity: usize,
    counts: HashMap<Box<[u8]>, Count>,
}

/// How often a key came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// At most this often.
    pub count: u64,
    /// By how much `count` may be too high.
    pub error: u64,
}

impl SpaceSaving {
    /// A sketch of so many keys.
    #[must_use]
    pub fn new(capacity: usize) -> SpaceSaving {
        SpaceSaving { capacity, counts: HashMap::with_capacity(capacity) }
    }

    /// Counts a key `times`.
    pub fn add(&mut self, key: &[u8], times: u64) {
        if self.capacity == 0 {
            return;
        }
        let key = &key[..key.len().min(LONGEST)];
        if let Some(count) = self.counts.get_mut(key) {
            count.count += times;
            return;
        }
        let mut inherited = 0;
        if self.counts.len() >= self.capacity {
            let Some((least, count)) = self.counts.iter().min_by_key(|(_, count)| count.count) else { return };
            inherited = count.count;
            let least = least.clone();
            self.counts.remove(&least);
        }
        self.counts.insert(key.into(), Count { count: inherited + times, error: inherited });
    }

    /// Adds another sketch's counts.
    pub fn merge(&mut self, other: &SpaceSaving) {
        for (key, other) in &other.counts {
            let count = self.counts.entry(key.clone()).or_default();
            count.count += other.count;
            count.error += other.error;
        }
    }

    /// The keys, most used first.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<(&[u8], Count)> {
        let mut top: Vec<_> = self.counts.iter().map(|(key, &count)| (&**key, count)).collect();
        top.sort_by(|one, other| other.1.count.cmp(&one.1.count).then_with(|| one.0.cmp(other.0)));
        top.truncate(most);
        top
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hot_keys_are_found_among_many_cold_ones_in_bounded_memory() {
        let mut sketch = SpaceSaving::new(64);
        for round in 0u32..20_000 {
            sketch.add(format!("cold:{round}").as_bytes(), 1);
            if round % 10 == 0 {
                sketch.add(b"hot", 1);
            }
            if round % 20 == 0 {
                sketch.add(b"warm", 1);
            }
        }
        let top = sketch.top(2);
        assert_eq!([top[0].0, top[1].0], [b"hot".as_slice(), b"warm"]);
        let (hot, true_count) = (top[0].1, 2000);
        assert!(hot.count >= true_count && hot.count - hot.error <= true_count, "{hot:?}");
        assert!(sketch.counts.len() <= 64);
    }

    #[test]
    fn sketches_of_several_loops_become_one() {
        let (mut one, mut other) = (SpaceSaving::new(4), SpaceSaving::new(4));
        one.add(b"a", 3);
        other.add(b"a", 4);
        other.add(b"b", 5);
        one.merge(&other);
        assert_eq!(one.top(1), [(b"a".as_slice(), Count { count: 7, error: 0 })]);
    }
}
