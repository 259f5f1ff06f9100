//! Pods that wait for a node: those to be tried now, those resting after a failure, and those that wait for
//! the cluster to change. Time is passed in.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{counts, pod::PodInfo, unschedulable::Blocks};

/// Rest after the first failed attempt; doubles with each, up to the last.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(10);
/// However little seems to have changed, a pod is tried again after this long.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The scheduling queue.
#[derive(Default)]
pub(crate) struct Queue {
    /// By UID.
    waiting: HashMap<Arc<str>, Waiting>,
    /// To be tried now: highest priority first, then who came first.
    active: BTreeSet<(i64, u64, Arc<str>)>,
    /// To be tried at a time, if nothing happens before.
    timed: BTreeSet<(Instant, u64, Arc<str>)>,
    /// Those that wait for the cluster to change.
    blocked: HashSet<Arc<str>>,
    arrivals: u64,
}

struct Waiting {
    pod: Arc<PodInfo>,
    arrival: u64,
    came: Instant,
    attempts: u32,
    state: State,
}

enum State {
    Active,
    /// Taken out to be placed; back in with `failed` or `blocked`, or gone.
    Trying,
    /// After an error, until then.
    Resting(Instant),
    /// Until the cluster changes in one of these ways, but not before `rested`; at the latest at `until`.
    Blocked {
        blocks: Blocks,
        rested: Instant,
        until: Instant,
    },
}

impl Queue {
    /// Takes in a pod, or what has become of one that is here. A change of a blocked pod itself (but not
    /// of its status) is a reason to try again.
    pub fn put(&mut self, pod: Arc<PodInfo>, changed: bool, now: Instant) {
        let uid = pod.uid.clone();
        let Some(waiting) = self.waiting.get_mut(&uid) else {
            self.arrivals += 1;
            let waiting = Waiting { pod, arrival: self.arrivals, came: now, attempts: 0, state: State::Trying };
            self.waiting.insert(uid.clone(), waiting);
            self.activate(&uid, "PodAdd");
            return;
        };
        let reorder = waiting.pod.priority != pod.priority && matches!(waiting.state, State::Active);
        if reorder {
            self.active.remove(&waiting.key());
        }
        waiting.pod = pod;
        let blocked = matches!(waiting.state, State::Blocked { .. });
        if reorder {
            self.set_aside(&uid, |_| State::Active);
        } else if changed && blocked {
            self.activate(&uid, "PodUpdate");
        }
    }

    /// A pod is gone or has its node.
    pub fn remove(&mut self, uid: &str) {
        let Some(waiting) = self.waiting.remove(uid) else { return };
        self.forget_place(&waiting);
    }

    /// The pod as it was last put.
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.waiting.get(uid).map(|w| &w.pod)
    }

    /// How often a pod was tried, and since when it waits.
    pub fn history(&self, uid: &str) -> Option<(u32, Instant)> {
        self.waiting.get(uid).map(|w| (w.attempts, w.came))
    }

    /// How many are to be tried now, rest, and wait for the cluster to change.
    pub fn lengths(&self) -> (usize, usize, usize) {
        (self.active.len(), self.timed.len() - self.blocked.len(), self.blocked.len())
    }

    /// UIDs of all pods that wait.
    pub fn uids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.waiting.keys()
    }

    /// Takes the next pod to be tried.
    pub fn next(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.wake(now);
        let (.., uid) = self.active.pop_first()?;
        let waiting = self.waiting.get_mut(&uid).expect("what is active waits");
        waiting.state = State::Trying;
        waiting.attempts += 1;
        Some(waiting.pod.clone())
    }

    /// Whether there is one to be tried.
    pub fn is_ready(&self, now: Instant) -> bool {
        !self.active.is_empty() || self.timed.first().is_some_and(|(at, ..)| *at <= now)
    }

    /// When a resting pod is due.
    pub fn due(&self) -> Option<Instant> {
        self.timed.first().map(|(at, ..)| *at)
    }

    /// The attempt failed for reasons outside of the pod and the nodes: try again after a rest.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        let rest = |attempts| State::Resting(now + rest(attempts));
        counts::queued("ScheduleAttemptFailure", "backoff");
        self.set_aside(uid, rest);
    }

    /// No node would do: wait for the cluster to change.
    pub fn blocked(&mut self, uid: &str, blocks: Blocks, now: Instant) {
        let wait = |attempts| State::Blocked { blocks, rested: now + rest(attempts), until: now + LONGEST_WAIT };
        counts::queued("ScheduleAttemptFailure", "unschedulable");
        self.set_aside(uid, wait);
    }

    /// The cluster has changed: those that it may help are tried again, once they have rested.
    /// `event` is upstream's name of the change.
    pub fn lift(&mut self, now: Instant, event: &str, helps: impl Fn(Blocks) -> bool) {
        let mut helped = Vec::new();
        for uid in &self.blocked {
            if let Some(State::Blocked { blocks, rested, .. }) = self.waiting.get(uid).map(|w| &w.state)
                && helps(*blocks)
            {
                helped.push((uid.clone(), *rested));
            }
        }
        for (uid, rested) in helped {
            if rested <= now {
                self.activate(&uid, event);
            } else {
                counts::queued(event, "backoff");
                self.set_aside(&uid, |_| State::Resting(rested));
            }
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Some((at, _, uid)) = self.timed.first()
            && *at <= now
        {
            let uid = uid.clone();
            let event = if self.blocked.contains(&uid) { "UnschedulableTimeout" } else { "BackoffComplete" };
            self.activate(&uid, event);
        }
    }

    fn activate(&mut self, uid: &str, event: &str) {
        counts::queued(event, "active");
        self.set_aside(uid, |_| State::Active);
    }

    fn set_aside(&mut self, uid: &str, state: impl FnOnce(u32) -> State) {
        let Some((uid, mut waiting)) = self.waiting.remove_entry(uid) else { return };
        self.forget_place(&waiting);
        waiting.state = state(waiting.attempts);
        match waiting.state {
            State::Active => _ = self.active.insert(waiting.key()),
            State::Trying => {}
            State::Resting(at) => _ = self.timed.insert((at, waiting.arrival, uid.clone())),
            State::Blocked { until: at, .. } => {
                self.timed.insert((at, waiting.arrival, uid.clone()));
                self.blocked.insert(uid.clone());
            }
        }
        self.waiting.insert(uid, waiting);
    }

    fn forget_place(&mut self, waiting: &Waiting) {
        match waiting.state {
            State::Active => _ = self.active.remove(&waiting.key()),
            State::Trying => {}
            State::Resting(at) | State::Blocked { until: at, .. } => {
                self.timed.remove(&(at, waiting.arrival, waiting.pod.uid.clone()));
                self.blocked.remove(&waiting.pod.uid);
            }
        }
    }
}

impl Waiting {
    fn key(&self) -> (i64, u64, Arc<str>) {
        (-i64::from(self.pod.priority), self.arrival, self.pod.uid.clone())
    }
}

fn rest(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(10);
    (FIRST_REST * (1 << doublings)).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, priority: i32) -> Arc<PodInfo> {
        let pod = serde_json::json!({"metadata": {"name": uid, "uid": uid}, "spec": {"containers": [], "priority": priority}});
        Arc::new(PodInfo::new(&serde_json::from_value(pod).expect("a pod")))
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.next(now).map(|p| p.uid.to_string())
    }

    const ROOM: Blocks = Blocks { room: true, node_taints: false, node_labels: false, pods: false, volumes: false };

    #[test]
    fn higher_priority_goes_first_then_who_came_first() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (uid, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.put(pod(uid, priority), false, now);
        }
        queue.put(pod("c", 9), true, now);
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, now)).collect();
        assert_eq!(order, ["c", "b", "d", "a"]);
    }

    #[test]
    fn rests_double_from_one_to_ten_seconds() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.put(pod("a", 0), false, now);
        for seconds in [1, 2, 4, 8, 10, 10] {
            assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
            queue.failed("a", now);
            assert_eq!(queue.due(), Some(now + Duration::from_secs(seconds)));
            assert!(!queue.is_ready(now + Duration::from_millis(seconds * 1000 - 1)));
            now += Duration::from_secs(seconds);
            assert!(queue.is_ready(now));
        }
    }

    #[test]
    fn a_blocked_pod_is_tried_again_when_something_helps_but_not_before_it_has_rested() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.put(pod("a", 0), false, now);
        next(&mut queue, now);
        queue.blocked("a", ROOM, now);
        queue.lift(now, "NodeAdd", |b| b.node_labels);
        assert_eq!(queue.due(), Some(now + LONGEST_WAIT));
        queue.lift(now, "NodeAdd", |b| b.room);
        assert_eq!(next(&mut queue, now), None);
        assert_eq!(next(&mut queue, now + FIRST_REST).as_deref(), Some("a"));
        queue.blocked("a", ROOM, now);
        queue.lift(now + LONGEST_REST, "NodeAdd", |b| b.room);
        assert_eq!(next(&mut queue, now + LONGEST_REST).as_deref(), Some("a"));
    }

    #[test]
    fn a_blocked_pod_that_is_changed_is_tried_at_once_and_a_removed_one_never() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.put(pod("a", 0), false, now);
        next(&mut queue, now);
        queue.blocked("a", ROOM, now);
        queue.put(pod("a", 0), false, now);
        assert_eq!(next(&mut queue, now), None);
        queue.put(pod("a", 0), true, now);
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
        queue.failed("a", now);
        queue.remove("a");
        assert_eq!(next(&mut queue, now + LONGEST_WAIT), None);
        assert_eq!((queue.due(), queue.uids().count()), (None, 0));
    }
}
