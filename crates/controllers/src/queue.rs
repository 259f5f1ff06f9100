//! A work queue: each key is worked on by one worker at a time, a key added while it is worked on comes again,
//! a failed key comes again later and later.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use kube::{Resource, ResourceExt};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{Error, counts::OfQueue};

/// Names an object of a known kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Empty for objects of the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Of an object.
    pub fn of(object: &impl Resource) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// Of a name in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    /// In `ready`, or to come again after its present run; since when.
    dirty: HashMap<Key, Instant>,
    running: HashSet<Key>,
    /// When each key comes again, by time and by key: one time a key, the earliest.
    later: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
    /// What counts, once someone works here, and how many keys came before.
    counts: Option<OfQueue>,
    uncounted: usize,
}

impl State {
    fn put_off(&mut self, key: Key, at: Instant) {
        match self.due.get(&key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                self.later.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.due.insert(key.clone(), at);
        self.later.insert((at, key));
    }

    /// Whether it was not to be worked on before.
    fn mark(&mut self, key: &Key, now: Instant) -> bool {
        if self.dirty.contains_key(key) {
            return false;
        }
        self.dirty.insert(key.clone(), now);
        match self.counts {
            Some(counts) => counts.added(1, self.dirty.len()),
            None => self.uncounted += 1,
        }
        true
    }

    /// Moves what is due to the ready.
    fn promote(&mut self, now: Instant) {
        while let Some((at, _)) = self.later.first()
            && *at <= now
            && let Some((_, key)) = self.later.pop_first()
        {
            self.due.remove(&key);
            if self.mark(&key, now) && !self.running.contains(&key) {
                self.ready.push_back(key);
            }
        }
    }
}

/// The queue. Cheap to clone.
#[derive(Clone, Default)]
pub struct Queue {
    state: Arc<Mutex<State>>,
    wake: Arc<Notify>,
}

impl Queue {
    /// To be worked on as soon as may be.
    pub fn add(&self, key: Key) {
        let mut state = self.state.lock();
        if state.mark(&key, Instant::now()) && !state.running.contains(&key) {
            state.ready.push_back(key);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// To be worked on after a while, unless it is to come sooner anyway: each run sees for itself when the next
    /// is due.
    pub fn add_after(&self, key: Key, delay: Duration) {
        self.state.lock().put_off(key, Instant::now() + delay);
        self.wake.notify_one();
    }

    /// Runs `reconcile` on keys as they come, up to `workers` at a time, forever.
    pub async fn work<F, Fut>(self, name: &'static str, workers: usize, reconcile: F)
    where
        F: Fn(Key) -> Fut,
        Fut: Future<Output = Result<(), Error>>,
    {
        use futures::{StreamExt, stream::FuturesUnordered};
        let counts = OfQueue::of(name);
        {
            let mut state = self.state.lock();
            state.counts = Some(counts);
            counts.added(std::mem::take(&mut state.uncounted), state.dirty.len());
        }
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                key = self.next(), if running.len() < workers => {
                    let result = reconcile(key.clone());
                    running.push(async move {
                        let begin = Instant::now();
                        let result = result.await;
                        counts.worked(begin.elapsed(), result.is_err());
                        (key, result)
                    });
                }
                Some((key, result)) = running.next(), if !running.is_empty() => self.done(name, key, result),
            }
        }
    }

    async fn next(&self) -> Key {
        loop {
            let due = {
                let mut state = self.state.lock();
                let now = Instant::now();
                state.promote(now);
                if let Some(key) = state.ready.pop_front() {
                    let since = state.dirty.remove(&key).unwrap_or(now);
                    if let Some(counts) = state.counts {
                        counts.taken(now.duration_since(since), state.dirty.len());
                    }
                    state.running.insert(key.clone());
                    return key;
                }
                state.later.first().map(|(at, _)| *at)
            };
            match due {
                Some(at) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    fn done(&self, name: &'static str, key: Key, result: Result<(), Error>) {
        let mut state = self.state.lock();
        state.running.remove(&key);
        match result {
            Ok(()) => {
                state.failures.remove(&key);
            }
            Err(error) => {
                let failures = state.failures.entry(key.clone()).or_insert(0);
                let delay = match error {
                    // Nothing is wrong, and what is waited for mostly says so itself.
                    Error::NotYet(_) => backoff(*failures).min(NOT_YET),
                    _ => backoff(*failures),
                };
                *failures = failures.saturating_add(1);
                if error.is_conflict() || matches!(error, Error::NotYet(_)) {
                    tracing::debug!(controller = name, %key, %error, "again");
                } else {
                    tracing::warn!(controller = name, %key, %error, "will be tried again in {delay:?}");
                }
                state.put_off(key.clone(), Instant::now() + delay);
            }
        }
        if state.dirty.contains_key(&key) {
            state.ready.push_back(key);
        }
        drop(state);
        self.wake.notify_one();
    }
}

/// When to look again at what the cache does not show yet, should no event tell that it does.
pub const UNSETTLED: Duration = Duration::from_secs(10);

/// The longest pause of a key that waits for something under way.
const NOT_YET: Duration = Duration::from_secs(15);

/// 5 ms doubling to one minute.
fn backoff(failures: u32) -> Duration {
    Duration::from_millis(5 << failures.min(14)).min(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("n", name)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_is_worked_on_once() {
        let queue = Queue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("a"));
        assert!(queue.state.lock().ready.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_it_is_worked_on_comes_again_afterwards() {
        let queue = Queue::default();
        queue.add(key("a"));
        let first = queue.next().await;
        queue.add(key("a"));
        assert!(queue.state.lock().ready.is_empty());
        queue.done("t", first, Ok(()));
        assert_eq!(queue.next().await, key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_key_comes_again_later_and_later() {
        let queue = Queue::default();
        queue.add(key("a"));
        for millis in [5, 10, 20, 40] {
            let one = queue.next().await;
            let before = Instant::now();
            queue.done("t", one, Err(Error::NotYet("so")));
            let again = queue.next().await;
            assert_eq!(before.elapsed().as_millis(), millis);
            queue.state.lock().running.remove(&again);
            queue.state.lock().ready.push_back(again);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_times_for_a_key_the_earlier_one_counts() {
        let queue = Queue::default();
        let before = Instant::now();
        for seconds in [9, 3, 6] {
            queue.add_after(key("a"), Duration::from_secs(seconds));
        }
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(before.elapsed().as_secs(), 3);
        assert!(queue.state.lock().later.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_key_waits_for_its_time() {
        let queue = Queue::default();
        let before = Instant::now();
        queue.add_after(key("a"), Duration::from_secs(7));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(before.elapsed().as_secs(), 7);
    }
}
