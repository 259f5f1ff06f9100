//! What was counted of each key, in bounded memory: the longest unused leave first.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::count::{self, Counted, Decision, Numbers};

const SHARDS: usize = 16;

pub(crate) struct Keys {
    shards: [Mutex<Shard>; SHARDS],
    most: usize,
}

#[derive(Default)]
struct Shard {
    counts: HashMap<u64, (Counted, u64)>,
    /// Keys by the time of a use; only the entry of the latest use counts.
    uses: VecDeque<(u64, u64)>,
    clock: u64,
}

impl Keys {
    pub(crate) fn new(most: usize) -> Self {
        Self { shards: Default::default(), most: (most / SHARDS).max(1) }
    }

    pub(crate) fn take(&self, key: u64, numbers: Numbers, now: u64) -> Decision {
        let mut shard = self.shards[key as usize % SHARDS].lock();
        shard.clock += 1;
        let used = shard.clock;
        let entry = shard.counts.entry(key).or_default();
        entry.1 = used;
        let decision = count::take(&mut entry.0, numbers, now);
        shard.uses.push_back((key, used));
        while shard.counts.len() > self.most || shard.uses.len() > 2 * self.most + 64 {
            let Some((oldest, at)) = shard.uses.pop_front() else { break };
            match shard.counts.get(&oldest) {
                Some((_, latest)) if *latest == at && shard.counts.len() > self.most => {
                    shard.counts.remove(&oldest);
                }
                Some((_, latest)) if *latest == at => shard.uses.push_back((oldest, at)),
                _ => {}
            }
        }
        decision
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().counts.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Algorithm;

    #[test]
    fn memory_is_bounded_and_who_is_active_is_remembered() {
        let keys = Keys::new(160);
        let numbers = Numbers { algorithm: Algorithm::TokenBucket, requests: 1, per_millis: 1_000_000, burst: 1 };
        assert!(keys.take(7, numbers, 1).allowed);
        for key in 0..100_000 {
            keys.take(key * 31 + 8, numbers, 1);
            assert!(!keys.take(7, numbers, 1).allowed, "key 7 is forgotten at {key}");
        }
        assert!(keys.len() <= 160, "{}", keys.len());
        assert!(keys.shards.iter().all(|s| s.lock().uses.len() <= 128));
    }
}
