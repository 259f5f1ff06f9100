//! When the node is short of something, and for how long. Pure but for the moments it is given.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::node::Health;

/// What is watched (`pkg/kubelet/eviction/api`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// `memory.available`
    MemoryAvailable,
    /// `allocatableMemory.available`: of what all pods together may use.
    AllocatableMemory,
    /// `nodefs.available`
    NodefsAvailable,
    /// `nodefs.inodesFree`
    NodefsInodesFree,
    /// `imagefs.available`
    ImagefsAvailable,
    /// `imagefs.inodesFree`
    ImagefsInodesFree,
    /// `pid.available`
    PidAvailable,
}

const NAMES: [(&str, Signal); 7] = [
    ("memory.available", Signal::MemoryAvailable),
    ("allocatableMemory.available", Signal::AllocatableMemory),
    ("nodefs.available", Signal::NodefsAvailable),
    ("nodefs.inodesFree", Signal::NodefsInodesFree),
    ("imagefs.available", Signal::ImagefsAvailable),
    ("imagefs.inodesFree", Signal::ImagefsInodesFree),
    ("pid.available", Signal::PidAvailable),
];

impl Signal {
    /// By its name in a configuration.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.into_iter().find(|(n, _)| *n == name).map(|(_, signal)| signal)
    }

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        NAMES.into_iter().find(|(_, signal)| *signal == self).map_or("", |(name, _)| name)
    }

    /// What is reclaimed, as messages call it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable | Self::AllocatableMemory => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodesFree | Self::ImagefsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    /// The resource that pods request of it, if they do.
    pub fn requested(self) -> Option<&'static str> {
        let is_requested = !self.counts();
        is_requested.then(|| self.resource())
    }

    /// Whether it is about a file system.
    pub fn is_disk(self) -> bool {
        !matches!(self, Self::MemoryAvailable | Self::AllocatableMemory | Self::PidAvailable)
    }

    /// Whether it counts things rather than bytes.
    pub fn counts(self) -> bool {
        matches!(self, Self::NodefsInodesFree | Self::ImagefsInodesFree | Self::PidAvailable)
    }
}

/// How much is left of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Left.
    pub available: i64,
    /// All.
    pub capacity: i64,
}

/// Of which amount the node is not to fall short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Bytes or a number.
    Absolute(i64),
    /// A part of the capacity, 0 to 1.
    Part(f64),
    /// A part of the capacity, but at most so much.
    PartUpTo(f64, i64),
}

impl Limit {
    /// As an amount.
    pub fn of(self, capacity: i64) -> i64 {
        match self {
            Self::Absolute(amount) => amount,
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as upstream computes it")]
            Self::Part(part) => (capacity as f64 * part) as i64,
            Self::PartUpTo(part, most) => Self::Part(part).of(capacity).min(most),
        }
    }
}

/// One line that is not to be crossed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// What.
    pub signal: Signal,
    /// Less than this is too little.
    pub limit: Limit,
    /// For how long it may be crossed; `None` for not at all (a hard one).
    pub grace: Option<Duration>,
    /// How much more than the limit there must be again, once it was acted on.
    pub reclaim: Option<Limit>,
}

impl Threshold {
    /// Whether it is crossed.
    pub fn is_met(&self, signals: &BTreeMap<Signal, Amount>) -> bool {
        signals.get(&self.signal).is_some_and(|a| a.available < self.limit.of(a.capacity))
    }

    /// Whether less than the limit and what is to be reclaimed beyond it is left.
    pub fn is_unresolved(&self, signals: &BTreeMap<Signal, Amount>) -> bool {
        signals.get(&self.signal).is_some_and(|a| {
            let beyond = self.reclaim.map_or(0, |reclaim| reclaim.of(a.capacity));
            a.available < self.limit.of(a.capacity).saturating_add(beyond)
        })
    }
}

/// Settings of eviction.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// Hard and soft ones.
    pub thresholds: Vec<Threshold>,
    /// How long a condition stays after its cause has gone.
    pub transition: Duration,
    /// The most seconds that a soft threshold leaves a pod.
    pub max_pod_grace: u64,
}

/// With so many bytes free no disk is short.
const ENOUGH_DISK: i64 = 2 << 30;

impl Default for Eviction {
    /// Upstream's, but on large disks, of which a tenth is not too little.
    fn default() -> Self {
        let hard = |signal, limit| Threshold { signal, limit, grace: None, reclaim: None };
        Self {
            thresholds: vec![
                hard(Signal::MemoryAvailable, Limit::Absolute(100 << 20)),
                hard(Signal::NodefsAvailable, Limit::PartUpTo(0.10, ENOUGH_DISK)),
                hard(Signal::NodefsInodesFree, Limit::Part(0.05)),
                hard(Signal::ImagefsAvailable, Limit::PartUpTo(0.15, ENOUGH_DISK)),
                hard(Signal::ImagefsInodesFree, Limit::Part(0.05)),
            ],
            transition: Duration::from_secs(300),
            max_pod_grace: 0,
        }
    }
}

impl Eviction {
    /// What holds for the machine's memory then holds for what pods may use of it, too.
    pub fn watch_allocatable(&mut self) {
        let hard = self.thresholds.iter().find(|t| t.signal == Signal::MemoryAvailable && t.grace.is_none());
        let given = self.thresholds.iter().any(|t| t.signal == Signal::AllocatableMemory);
        let added = hard.filter(|_| !given).map(|t| Threshold { signal: Signal::AllocatableMemory, ..*t });
        self.thresholds.extend(added);
    }

    /// What the hard threshold of a signal keeps from pods.
    pub fn reserved(&self, signal: Signal, capacity: i64) -> i64 {
        let hard = self.thresholds.iter().find(|t| t.signal == signal && t.grace.is_none());
        hard.map_or(0, |t| t.limit.of(capacity))
    }
}

/// A threshold that is to be acted on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Met {
    /// Which.
    pub threshold: Threshold,
    /// What.
    pub signal: Signal,
    /// The line as an amount.
    pub limit: i64,
    /// What is left.
    pub available: i64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The node's conditions.
    pub health: Health,
    /// What to reclaim, the most pressing one.
    pub act_on: Option<Met>,
}

/// What was seen before.
#[derive(Debug, Default)]
pub struct State {
    /// Which were acted on, signal and whether it is a soft one: they hold until enough is reclaimed.
    acted_on: Vec<(Signal, bool)>,
    since: Vec<(Signal, bool, Instant)>,
    last_seen: [Option<Instant>; 3],
}

impl State {
    /// Decides by what is measured now.
    pub fn decide(&mut self, settings: &Eviction, signals: &BTreeMap<Signal, Amount>, now: Instant) -> Verdict {
        let key = |t: &Threshold| (t.signal, t.grace.is_some());
        let holds = |t: &&Threshold| t.is_met(signals) || self.acted_on.contains(&key(t)) && t.is_unresolved(signals);
        let met: Vec<&Threshold> = settings.thresholds.iter().filter(holds).collect();
        self.since.retain(|(signal, soft, _)| met.iter().any(|t| key(t) == (*signal, *soft)));
        for threshold in &met {
            let (signal, soft) = key(threshold);
            if !self.since.iter().any(|(s, f, _)| (*s, *f) == (signal, soft)) {
                self.since.push((signal, soft, now));
            }
            let condition = match signal {
                Signal::MemoryAvailable | Signal::AllocatableMemory => 0,
                Signal::PidAvailable => 2,
                _ => 1,
            };
            self.last_seen[condition] = Some(now);
        }
        let holds =
            |i: usize| self.last_seen[i].is_some_and(|at| now.duration_since(at) < settings.transition || at == now);
        let health =
            Health { memory_pressure: holds(0), disk_pressure: holds(1), pid_pressure: holds(2), not_ready: None };
        let due = |t: &&&Threshold| {
            let since = self.since.iter().find(|(s, f, _)| (*s, *f) == key(t)).map_or(now, |(.., at)| *at);
            t.grace.is_none_or(|grace| now.duration_since(since) >= grace)
        };
        let due: Vec<&Threshold> = met.iter().filter(due).copied().collect();
        self.acted_on = due.iter().map(|t| key(t)).collect();
        // Memory first, hard before soft.
        let act_on = due.iter().min_by_key(|t| (t.signal, t.grace.is_some())).and_then(|t| {
            let amount = signals.get(&t.signal)?;
            let (limit, available) = (t.limit.of(amount.capacity), amount.available);
            Some(Met { threshold: **t, signal: t.signal, limit, available })
        });
        Verdict { health, act_on }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(memory: i64, disk: i64) -> BTreeMap<Signal, Amount> {
        BTreeMap::from([
            (Signal::MemoryAvailable, Amount { available: memory << 20, capacity: 1000 << 20 }),
            (Signal::NodefsAvailable, Amount { available: disk, capacity: 1000 }),
        ])
    }

    #[tokio::test]
    async fn a_hard_threshold_is_acted_on_at_once_and_memory_first() {
        let (mut state, settings, now) = (State::default(), Eviction::default(), Instant::now());
        assert_eq!(
            state.decide(&settings, &signals(100, 100), now),
            Verdict { health: Health::default(), act_on: None }
        );
        let verdict = state.decide(&settings, &signals(99, 99), now);
        assert!(verdict.health.memory_pressure && verdict.health.disk_pressure && !verdict.health.pid_pressure);
        let met = verdict.act_on.expect("something");
        assert_eq!((met.signal, met.limit, met.available), (Signal::MemoryAvailable, 100 << 20, 99 << 20));
        let met = state.decide(&settings, &signals(500, 99), now).act_on.expect("something");
        assert_eq!((met.signal, met.limit, met.available), (Signal::NodefsAvailable, 100, 99));
    }

    #[tokio::test]
    async fn what_pods_may_use_is_watched_as_the_machine_is() {
        let mut settings = Eviction::default();
        settings.watch_allocatable();
        settings.watch_allocatable();
        let allocatable: Vec<_> =
            settings.thresholds.iter().filter(|t| t.signal == Signal::AllocatableMemory).map(|t| t.limit).collect();
        assert_eq!(allocatable, [Limit::Absolute(100 << 20)]);
        let mut signals = signals(500, 500);
        signals.insert(Signal::AllocatableMemory, Amount { available: 99 << 20, capacity: 300 << 20 });
        let verdict = State::default().decide(&settings, &signals, Instant::now());
        let met = verdict.act_on.expect("something");
        assert!(verdict.health.memory_pressure && !met.signal.is_disk());
        assert_eq!(
            (met.signal.resource(), met.signal.requested(), met.available),
            ("memory", Some("memory"), 99 << 20)
        );
    }

    #[tokio::test]
    async fn a_condition_stays_for_a_while_after_its_cause() {
        let (mut state, settings, now) = (State::default(), Eviction::default(), Instant::now());
        state.decide(&settings, &signals(1, 500), now);
        let later = |state: &mut State, seconds| {
            state.decide(&settings, &signals(500, 500), now + Duration::from_secs(seconds)).health.memory_pressure
        };
        assert!(later(&mut state, 299));
        assert!(!later(&mut state, 300));
    }

    #[tokio::test]
    async fn a_threshold_that_was_acted_on_holds_until_enough_is_reclaimed() {
        let limit = Limit::Absolute(100);
        let reclaim = Some(Limit::Part(0.05));
        let disk = Threshold { signal: Signal::NodefsAvailable, limit, grace: None, reclaim };
        let settings = Eviction { thresholds: vec![disk], ..Eviction::default() };
        let (mut state, now) = (State::default(), Instant::now());
        let mut act = |disk| state.decide(&settings, &signals(500, disk), now).act_on.is_some();
        assert!(!act(149), "it was never crossed");
        assert!(act(99) && act(149), "50 more are to be reclaimed");
        assert!(!act(150) && !act(149), "it is over");
    }

    #[tokio::test]
    async fn a_soft_threshold_waits_for_its_time_without_a_break() {
        let soft = Threshold {
            signal: Signal::MemoryAvailable,
            limit: Limit::Part(0.5),
            grace: Some(Duration::from_secs(60)),
            reclaim: None,
        };
        let settings = Eviction { thresholds: vec![soft], ..Eviction::default() };
        let (mut state, now) = (State::default(), Instant::now());
        let mut act = |memory, seconds| {
            state.decide(&settings, &signals(memory, 500), now + Duration::from_secs(seconds)).act_on.is_some()
        };
        assert!(!act(400, 0) && !act(400, 59));
        assert!(!act(600, 60), "it is over");
        assert!(!act(400, 61) && act(400, 121));
    }
}
