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
    last: usize,
}

impl Gather {
    /// So many are worth waiting for; 0 if none are.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// A group of `count` was taken. The next may have twice as many; if it had as many as the one before, these are
    /// all the clients there are, each of whom waits for its answer: no more will come.
    pub fn took(&mut self, count: usize) {
        self.wanted = match count {
            ..LOAD => 0,
            _ if count == self.last => count,
            _ => count * 2,
        };
        self.last = count;
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
    fn groups_grow_under_load_until_all_clients_are_in_them() {
        let mut gather = Gather::default();
        // Thirty-two clients that each have one request under way.
        let mut waited_in_vain = 0;
        gather.took(8);
        for _ in 0..30 {
            let wanted = gather.wanted();
            waited_in_vain += usize::from(wanted > 32);
            gather.took(wanted.clamp(LOAD, 32));
        }
        assert_eq!((gather.wanted(), waited_in_vain), (32, 1));
        gather.took(3);
        assert_eq!(gather.wanted(), 0);
    }
}
