//! Making room: which less important pods have to go so that a pod finds its place
//! (upstream's `DefaultPreemption`).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::{
    filter::{Filters, Refusal, fit},
    pod::PodInfo,
    schedule::scramble,
    selector::Selector,
    snapshot::Snapshot,
    unschedulable::{Preemption, Unschedulable},
};

/// Nodes on which the search is carried through: this share of all, but at least so many.
const CANDIDATES_PERCENT: usize = 10;
const CANDIDATES_AT_LEAST: usize = 100;

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// A disruption budget, as far as it protects pods from being pushed out.
#[derive(Clone, Debug)]
pub struct Budget {
    namespace: String,
    name: String,
    selector: Selector,
    /// `status.disruptionsAllowed`.
    allowed: i32,
    /// Pods whose disruption is counted already.
    disrupted: BTreeSet<String>,
}

/// Who has to go, and where.
#[derive(Clone, Debug)]
pub struct Victims {
    /// The node that is cleared.
    pub node: Arc<str>,
    /// Pods to be evicted, the most important first.
    pub pods: Vec<Arc<PodInfo>>,
    /// Less important pods that counted on the same room, and no longer may.
    pub disappointed: Vec<Arc<PodInfo>>,
    /// How many of the evictions are more than a budget allows.
    violations: usize,
}

impl Budget {
    /// Reads one; `None` if it selects nothing.
    pub fn new(budget: &PodDisruptionBudget) -> Option<Self> {
        let selector = Selector::of_labels(budget.spec.as_ref()?.selector.as_ref());
        let status = budget.status.clone().unwrap_or_default();
        Some(Self {
            namespace: budget.metadata.namespace.clone()?,
            name: budget.metadata.name.clone()?,
            selector,
            allowed: status.disruptions_allowed.unwrap_or(0),
            disrupted: status.disrupted_pods.unwrap_or_default().into_keys().collect(),
        })
    }

    /// Whether it is read from this object.
    pub(crate) fn is_of(&self, budget: &PodDisruptionBudget) -> bool {
        let meta = &budget.metadata;
        meta.namespace.as_ref() == Some(&self.namespace) && meta.name.as_ref() == Some(&self.name)
    }

    fn protects(&self, pod: &PodInfo) -> bool {
        *self.namespace == *pod.namespace && self.selector.matches(&pod.labels) && !self.disrupted.contains(&*pod.name)
    }
}

/// Finds the least harm that makes room for a pod that no node would take. The snapshot is changed while
/// the search tries things out, and is as before when it ends. `refused` is the verdict over this snapshot.
///
/// # Errors
/// Why there is none.
pub fn preempt(
    pod: &PodInfo,
    refused: &Unschedulable,
    snapshot: &mut Snapshot,
    budgets: &[Budget],
    turn: u64,
) -> Result<Victims, Preemption> {
    if pod.never_preempts {
        return Err(Preemption::NotEligible("preemptionPolicy=Never"));
    }
    if room_is_being_made(pod, snapshot) {
        return Err(Preemption::NotEligible("terminating pod on the nominated node"));
    }
    if refused.resolvable.is_empty() {
        return Err(Preemption::Unhelpful(BTreeMap::new()));
    }
    if snapshot.lowest_priority().is_none_or(|lowest| lowest >= pod.priority) {
        return Err(Preemption::Unhelpful(BTreeMap::from([(NO_VICTIMS.into(), refused.resolvable.len())])));
    }
    let mut candidates = refused.resolvable.clone();
    let wanted = (snapshot.len() * CANDIDATES_PERCENT / 100).max(CANDIDATES_AT_LEAST);
    let start = (scramble(turn) % (candidates.len() as u64).max(1)) as usize;
    candidates.rotate_left(start);
    let mut found: Vec<Victims> = Vec::new();
    let mut reasons: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for node in candidates {
        match victims_on(&node, pod, snapshot, budgets) {
            Ok(victims) => found.push(victims),
            Err(words) => words.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1),
        }
        let harmless = found.iter().any(|victims| victims.violations == 0);
        if harmless && found.len() >= wanted {
            break;
        }
    }
    found.into_iter().min_by_key(harm).ok_or(Preemption::Unhelpful(reasons))
}

/// Whether the pod's own earlier eviction of others is still under way.
fn room_is_being_made(pod: &PodInfo, snapshot: &Snapshot) -> bool {
    let node = snapshot.nomination(&pod.uid).cloned().or_else(|| pod.nominated.clone());
    node.is_some_and(|node| {
        snapshot.pods_on(&node).any(|other| other.terminating && other.preempted && other.priority < pod.priority)
    })
}

/// Whom the pod would push off a node; else why that would not help.
fn victims_on(
    node: &Arc<str>,
    pod: &PodInfo,
    snapshot: &mut Snapshot,
    budgets: &[Budget],
) -> Result<Victims, Vec<Arc<str>>> {
    let mut lower: Vec<Arc<PodInfo>> =
        snapshot.pods_on(node).filter(|other| other.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return Err(vec![NO_VICTIMS.into()]);
    }
    lower.sort_by_key(|other| importance(other));
    lower.iter().for_each(|other| snapshot.remove_pod(&other.uid));
    let verdict = match refusal(node, pod, snapshot) {
        None => Ok(reprieve(node, pod, snapshot, budgets, &lower)),
        Some(words) => Err(words),
    };
    for other in lower {
        snapshot.assume(other, node);
    }
    let (pods, violations) = verdict?;
    let disappointed = snapshot.nominated_on(node).filter(|other| other.priority < pod.priority).cloned().collect();
    Ok(Victims { node: node.clone(), pods, disappointed, violations })
}

/// Brings back, one by one, all that need not go: those that a budget protects first, then the more important.
fn reprieve(
    node: &Arc<str>,
    pod: &PodInfo,
    snapshot: &mut Snapshot,
    budgets: &[Budget],
    lower: &[Arc<PodInfo>],
) -> (Vec<Arc<PodInfo>>, usize) {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    let (protected, free): (Vec<_>, Vec<_>) = lower.iter().cloned().partition(|other| {
        let mut violated = false;
        for (_, allowed) in budgets.iter().zip(&mut allowed).filter(|(budget, _)| budget.protects(other)) {
            *allowed -= 1;
            violated |= *allowed < 0;
        }
        violated
    });
    let mut victims = Vec::new();
    let mut violations = 0;
    for (others, is_protected) in [(protected, true), (free, false)] {
        for other in others {
            snapshot.assume(other.clone(), node);
            if refusal(node, pod, snapshot).is_some() {
                snapshot.remove_pod(&other.uid);
                violations += usize::from(is_protected);
                victims.push(other);
            }
        }
    }
    victims.sort_by_key(|other| importance(other));
    (victims, violations)
}

/// Why the node would not take the pod as things are; `None`: it would.
fn refusal(node: &str, pod: &PodInfo, snapshot: &Snapshot) -> Option<Vec<Arc<str>>> {
    let filters = Filters::new(pod, snapshot);
    let node = &snapshot.nodes()[snapshot.index_of(node)?];
    let refusal = filters.refusal(node)?;
    if refusal != Refusal::Fit {
        return Some(vec![refusal.words().into()]);
    }
    let bits = filters.lacking(node);
    Some((0..64).filter(|bit| bits & (1 << bit) != 0).map(|bit| fit::words(pod, bit)).collect())
}

/// Sorts the more important first: by priority, then by who runs longer.
fn importance(pod: &PodInfo) -> (Reverse<i32>, jiff::Timestamp, Arc<str>) {
    (Reverse(pod.priority), pod.started.unwrap_or(jiff::Timestamp::MAX), pod.uid.clone())
}

/// What upstream compares, in its order: violated budgets, the highest priority among the victims, the sum of their
/// priorities, their number, and how long the most important of them have run (the youngest are preferred).
fn harm(victims: &Victims) -> (usize, i32, i64, usize, Reverse<jiff::Timestamp>) {
    let highest = victims.pods.iter().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
    // Each counts, even those of negative priority.
    let sum = victims.pods.iter().map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1).sum();
    let first_started = victims.pods.iter().filter(|pod| pod.priority == highest).filter_map(|pod| pod.started).min();
    (victims.violations, highest, sum, victims.pods.len(), Reverse(first_started.unwrap_or(jiff::Timestamp::MAX)))
}
