//! Under load the writer waits a moment for more: every commit costs the disk and the processor about the same, however
//! many transactions share it (PostgreSQL's `commit_delay` and `commit_siblings`, with numbers that find themselves).

use std::time::Duration;

/// Groups smaller than this are of clients that wait for each answer: nobody is to wait for more of those.
const LOAD: usize = 6;
/// How long the first of a group waits for the others at most.
pub(super) const PATIENCE: Duration = Duration::from_millis(2);

/// How many transactions the writer waits for.
#[derive(Debug, Default)]
pub(super) struct Gather {
    wanted: usize,
}

impl Gather {
    /// So many are worth waiting for; 0 if none are.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// A group of `count` was taken: of more next time if it was complete, of fewer if it was not.
    pub fn took(&mut self, count: usize) {
        self.wanted = match count {
            ..LOAD => 0,
            _ if count >= self.wanted => count + count / 4 + 1,
            _ => count * 3 / 4,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_each_answer_is_not_kept_waiting() {
        let mut gather = Gather::default();
        for count in [1, 2, 5, 0, 3] {
            gather.took(count);
            assert_eq!(gather.wanted(), 0);
        }
    }

    #[test]
    fn groups_grow_under_load_and_settle_at_what_there_is() {
        let mut gather = Gather::default();
        // Thirty-two clients that each have one request under way.
        let mut waited_in_vain = 0;
        gather.took(8);
        for _ in 0..30 {
            let wanted = gather.wanted();
            assert!((LOAD..=41).contains(&wanted), "{wanted}");
            waited_in_vain += usize::from(wanted > 32);
            gather.took(wanted.min(32));
        }
        assert!((1..=12).contains(&waited_in_vain), "{waited_in_vain} of 30 groups");
        gather.took(3);
        assert_eq!(gather.wanted(), 0);
    }
}
