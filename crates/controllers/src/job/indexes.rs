//! Sets of completion indexes, written as upstream does: `1,3-5,7`. Pure.

use std::{collections::BTreeSet, fmt};

/// A set of completion indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// Reads `1,3-5,7`; what is not below `completions` is left out, and so is what makes no sense.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(from), Ok(to)) = (from.parse::<i32>(), to.parse::<i32>()) {
                set.extend(from.max(0)..=to.min(completions - 1));
            }
        }
        Self(set)
    }

    pub fn has(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    /// Whether it was not there yet.
    pub fn insert(&mut self, index: i32) -> bool {
        self.0.insert(index)
    }

    pub fn len(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of these are in the other set.
    pub fn common(&self, other: &Self) -> i32 {
        i32::try_from(self.0.intersection(&other.0).count()).unwrap_or(i32::MAX)
    }

    /// The first `count` indexes below `completions` that are in none of the sets.
    pub fn first_outside(sets: &[&Self], completions: i32, count: usize) -> Vec<i32> {
        (0..completions).filter(|index| !sets.iter().any(|s| s.has(*index))).take(count).collect()
    }
}

impl FromIterator<i32> for Indexes {
    fn from_iter<T: IntoIterator<Item = i32>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(i32, i32)> = Vec::new();
        for index in &self.0 {
            match runs.last_mut() {
                Some((_, end)) if *end + 1 == *index => *end = *index,
                _ => runs.push((*index, *index)),
            }
        }
        for (i, (from, to)) in runs.into_iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match to - from {
                0 => write!(f, "{from}")?,
                1 => write!(f, "{from},{to}")?,
                _ => write!(f, "{from}-{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_in_runs_and_read_back() {
        for (all, text) in
            [(vec![], ""), (vec![3], "3"), (vec![0, 1], "0,1"), (vec![0, 1, 2, 4, 6, 7, 8, 9], "0-2,4,6-9")]
        {
            let set: Indexes = all.iter().copied().collect();
            assert_eq!(set.to_string(), text);
            assert_eq!(Indexes::parse(text, 100), set);
        }
        assert_eq!(Indexes::parse("0-9", 3).to_string(), "0-2");
    }

    #[test]
    fn the_first_free_indexes_come_first() {
        let (a, b) = (Indexes::parse("0,1", 9), Indexes::parse("3", 9));
        assert_eq!(Indexes::first_outside(&[&a, &b], 6, 2), [2, 4]);
    }
}
