//! What tests of parsers share that are fed with harm: the same chance in every run, and mutations of a corpus.

use std::path::Path;

/// Mutates each file of the corpus so often.
const ROUNDS: usize = 300;

/// The same sequence in every run (SplitMix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Changes, removes, inserts and cuts off a few bytes. `bytes_that_mean_much` are inserted among others.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>, bytes_that_mean_much: &[u8]) {
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 if at < bytes.len() => bytes[at] = self.next() as u8,
                1 => drop(bytes.drain(at..(at + self.below(20)).min(bytes.len()))),
                2 if !bytes_that_mean_much.is_empty() => {
                    bytes.insert(at, bytes_that_mean_much[self.below(bytes_that_mean_much.len())]);
                }
                3 if self.below(4) == 0 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, self.next() as u8),
            }
        }
    }
}

/// Every file of `tests/corpus`, mutated many times. `prepare` sees each as it is and says what of it is mutated.
pub fn each_mutation(
    directory: &str,
    seed: u64,
    bytes_that_mean_much: &[u8],
    prepare: impl Fn(Vec<u8>) -> Vec<u8>,
    mut try_it: impl FnMut(Vec<u8>),
) {
    let mut chance = Chance(seed);
    let mut seen = 0;
    for file in std::fs::read_dir(Path::new(directory).join("tests/corpus")).unwrap() {
        let original = prepare(std::fs::read(file.unwrap().path()).unwrap());
        for _ in 0..ROUNDS {
            let mut bytes = original.clone();
            chance.mutate(&mut bytes, bytes_that_mean_much);
            try_it(bytes);
            seen += 1;
        }
    }
    assert!(seen >= ROUNDS, "there is a corpus");
}
