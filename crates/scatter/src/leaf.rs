//! One shard: its replicas, what their answers take, and a question put to the shard as a whole.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use http_ends::Names;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::{
    budget::Budget,
    config::{self, Hedge},
    latency::Latencies,
    replica::{Load, choose},
};

/// Names are asked for anew after this long, when the leaf is asked something.
const NAMES_HOLD: Duration = Duration::from_secs(5);

/// Why a leaf is missing from a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Its time was over.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// So many calls are under way already.
    #[error("{0} calls are under way already")]
    Limit(usize),
    /// No replica has an address.
    #[error("{0}")]
    NoReplica(String),
    /// A connection could not be made; nothing was sent.
    #[error("{0}")]
    Connect(String),
    /// The exchange broke, or the answer was not JSON or not of the shape that is merged.
    #[error("{0}")]
    Broken(String),
    /// The leaf says that it failed, or that the request is wrong.
    #[error("status {0}")]
    Status(u16, Value),
}

impl Failure {
    /// One word for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Deadline(_) => "Deadline",
            Self::Limit(_) => "Limit",
            Self::NoReplica(_) => "NoReplica",
            Self::Connect(_) => "Connect",
            Self::Broken(_) => "Broken",
            Self::Status(..) => "Status",
        }
    }

    /// Whether the request itself is at fault, so that asking again is of no use.
    #[must_use]
    pub fn is_the_request(&self) -> bool {
        matches!(self, Self::Status(400..=499, _))
    }
}

/// How one replica is asked; a test puts something else than HTTP here.
pub trait Ask: Send + Sync {
    /// What a call carries.
    type Call: Sync;
    /// Asks one replica, and gives up by itself when `time` is over.
    fn ask(
        &self,
        replica: SocketAddr,
        call: &Self::Call,
        time: Duration,
    ) -> impl Future<Output = Result<Value, Failure>> + Send;
}

/// What all questions of a root share.
pub struct Rules {
    /// When a slow leaf is asked a second time.
    pub hedge: Hedge,
    /// What that may cost, over all leaves.
    pub budget: Mutex<Budget>,
    /// Calls at once to one leaf.
    pub per_leaf: usize,
}

/// How a question came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// A second request was made because the first was slow.
    pub hedged: bool,
    /// A second request was made because the first failed.
    pub retried: bool,
    /// The second request brought the answer.
    pub second_won: bool,
    /// A second request was due, and its budget was used up.
    pub unpaid: bool,
}

/// One shard.
pub struct Leaf {
    /// Its name.
    pub name: String,
    /// `host:port` of each replica as configured.
    pub configured: Vec<String>,
    replicas: Mutex<Known>,
    refreshing: AtomicBool,
    latencies: Mutex<Latencies>,
    in_hand: AtomicUsize,
    began: Instant,
}

#[derive(Default)]
struct Known {
    replicas: Vec<(SocketAddr, Load)>,
    at: Option<Instant>,
    trouble: Option<String>,
}

impl Leaf {
    /// A leaf of which nothing is known yet.
    #[must_use]
    pub fn new(leaf: &config::Leaf) -> Self {
        Self {
            name: leaf.name.clone(),
            configured: leaf.replicas.clone(),
            replicas: Mutex::default(),
            refreshing: AtomicBool::new(false),
            latencies: Mutex::default(),
            in_hand: AtomicUsize::new(0),
            began: Instant::now(),
        }
    }

    /// Its replicas' addresses, as far as they are known.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas.lock().replicas.iter().map(|(address, _)| *address).collect()
    }

    /// The time within which so many of a hundred calls were answered.
    #[must_use]
    pub fn percentile(&self, percentile: f64) -> Option<Duration> {
        self.latencies.lock().percentile(percentile)
    }

    /// Calls under way.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::Relaxed)
    }

    /// Learns the replicas' addresses if that is due: the first time before going on, later beside the work.
    pub async fn refresh(self: &Arc<Self>, names: &Names) {
        let at = self.replicas.lock().at;
        let fixed = self.configured.iter().all(|replica| replica.parse::<SocketAddr>().is_ok());
        match at {
            None => self.learn_replicas(names).await,
            Some(at) if !fixed && at.elapsed() >= NAMES_HOLD && !self.refreshing.swap(true, Ordering::AcqRel) => {
                let (leaf, names) = (self.clone(), names.clone());
                tokio::spawn(async move {
                    leaf.learn_replicas(&names).await;
                    leaf.refreshing.store(false, Ordering::Release);
                });
            }
            Some(_) => {}
        }
    }

    async fn learn_replicas(&self, names: &Names) {
        let (mut found, mut trouble) = (Vec::new(), None);
        for replica in &self.configured {
            let Some((host, port)) = config::split(replica) else { continue };
            match names.addresses(host).await {
                Ok(addresses) => found.extend(addresses.into_iter().map(|address| SocketAddr::new(address, port))),
                Err(error) => trouble = Some(error.to_string()),
            }
        }
        self.set_replicas(&found, trouble);
    }

    /// Sets the replicas; those known already keep what was learnt of them. Without any, the old ones stay: a name server
    /// that fails must not take a leaf away.
    pub fn set_replicas(&self, found: &[SocketAddr], trouble: Option<String>) {
        let mut known = self.replicas.lock();
        // A question before anything is found asks again.
        if found.is_empty() {
            tracing::warn!(leaf = self.name, reason = trouble.as_deref(), "no replica of the leaf has an address");
            known.trouble = trouble;
            if !known.replicas.is_empty() {
                known.at = Some(Instant::now());
            }
            return;
        }
        let mut next: Vec<(SocketAddr, Load)> = Vec::with_capacity(found.len());
        for address in found {
            if next.iter().all(|(there, _)| there != address) {
                let load = known.replicas.iter().find(|(there, _)| there == address).map(|(_, load)| *load);
                next.push((*address, load.unwrap_or_default()));
            }
        }
        *known = Known { replicas: next, at: Some(Instant::now()), trouble };
    }

    /// Puts a question to the leaf: to a replica, and to another if the first fails or is slow.
    ///
    /// # Errors
    /// When no replica answered in time.
    pub async fn ask<A: Ask>(
        &self,
        asker: &A,
        call: &A::Call,
        repeatable: bool,
        deadline: Instant,
        rules: &Rules,
    ) -> (Result<Value, Failure>, Course) {
        let mut course = Course::default();
        let Some(_slot) = Slot::take(&self.in_hand, rules.per_leaf) else {
            return (Err(Failure::Limit(rules.per_leaf)), course);
        };
        let began = Instant::now();
        let time = deadline.saturating_duration_since(began);
        let Some(first) = self.choose(None) else {
            let trouble = self.replicas.lock().trouble.clone();
            return (Err(Failure::NoReplica(trouble.unwrap_or_else(|| "no replica is known".into()))), course);
        };
        rules.budget.lock().earn();
        let hedge_after = (repeatable && rules.hedge.enabled)
            .then(|| self.percentile(rules.hedge.percentile))
            .flatten()
            .map(|after| after.max(rules.hedge.least_wait.0));
        let mut hedge_at = hedge_after.map(|after| began + after).filter(|at| *at < deadline);
        let mut attempts = FuturesUnordered::new();
        attempts.push(self.attempt(asker, call, first, deadline, false));
        let mut last;
        let outcome = loop {
            let due = hedge_at;
            tokio::select! {
                biased;
                Some((second, answer)) = attempts.next() => match answer {
                    Ok(value) => {
                        course.second_won = second;
                        break Ok(value);
                    }
                    Err(failure) => {
                        hedge_at = None;
                        let used = course.hedged || course.retried;
                        let safe = matches!(failure, Failure::Connect(_)) || repeatable;
                        let again = !used && safe && !failure.is_the_request() && Instant::now() < deadline;
                        last = failure;
                        // Where nothing was sent, the second try is no extra load.
                        let free = matches!(last, Failure::Connect(_));
                        if again && self.replicas.lock().replicas.len() > 1 && (free || rules.budget.lock().pay()) {
                            course.retried = true;
                            if let Some(other) = self.choose(Some(first)) {
                                attempts.push(self.attempt(asker, call, other, deadline, true));
                            }
                        }
                        if attempts.is_empty() {
                            break Err(last);
                        }
                    }
                },
                () = sleep_until(due.unwrap_or(deadline)), if due.is_some() => {
                    hedge_at = None;
                    if rules.budget.lock().pay() {
                        course.hedged = true;
                        if let Some(other) = self.choose(Some(first)) {
                            attempts.push(self.attempt(asker, call, other, deadline, true));
                        }
                    } else {
                        course.unpaid = true;
                    }
                }
                () = sleep_until(deadline) => break Err(Failure::Deadline(time)),
            }
        };
        drop(attempts);
        // What the first request took, or at least took: the second one's speed says nothing of when to make one.
        if outcome.is_ok() || matches!(outcome, Err(Failure::Deadline(_))) {
            self.latencies.lock().record(began.elapsed());
        }
        (outcome, course)
    }

    fn choose(&self, not: Option<SocketAddr>) -> Option<SocketAddr> {
        let known = self.replicas.lock();
        let loads: Vec<Load> = known.replicas.iter().map(|(_, load)| *load).collect();
        let not = not.and_then(|not| known.replicas.iter().position(|(address, _)| *address == not));
        let at = choose(&loads, not, self.began.elapsed(), rand::random())?;
        Some(known.replicas[at].0)
    }

    async fn attempt<A: Ask>(
        &self,
        asker: &A,
        call: &A::Call,
        replica: SocketAddr,
        deadline: Instant,
        second: bool,
    ) -> (bool, Result<Value, Failure>) {
        let began = Instant::now();
        let time = deadline.saturating_duration_since(began);
        let mut hold = Hold { leaf: self, replica, began, ended: false };
        self.with_load(replica, Load::begin);
        let answer = asker.ask(replica, call, time).await;
        hold.ended = true;
        let now = self.began.elapsed();
        let took = match &answer {
            Err(failure) if !failure.is_the_request() => time,
            _ => began.elapsed(),
        };
        self.with_load(replica, |load| {
            load.end();
            load.learn(took, now);
        });
        (second, answer)
    }

    fn with_load(&self, replica: SocketAddr, change: impl FnOnce(&mut Load)) {
        let mut known = self.replicas.lock();
        if let Some((_, load)) = known.replicas.iter_mut().find(|(address, _)| *address == replica) {
            change(load);
        }
    }
}

/// An attempt that is given up has at least taken this long.
struct Hold<'a> {
    leaf: &'a Leaf,
    replica: SocketAddr,
    began: Instant,
    ended: bool,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let (took, now) = (self.began.elapsed(), self.leaf.began.elapsed());
            self.leaf.with_load(self.replica, |load| {
                load.end();
                if took.as_secs_f64() > load.cost(now) {
                    load.learn(took, now);
                }
            });
        }
    }
}

/// One of so many at once.
pub(crate) struct Slot<'a>(&'a AtomicUsize);

impl<'a> Slot<'a> {
    pub(crate) fn take(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now < most).then_some(now + 1)).ok()?;
        Some(Self(count))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
