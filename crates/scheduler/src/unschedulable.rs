//! Why a pod can't be placed, in upstream's words.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    filter::{Filters, Refusal, fit},
    pod::PodInfo,
    snapshot::{NodeChange, Snapshot},
    volumes::Obstacle,
};

/// The verdict over all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unschedulable {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many nodes were refused for each reason; a node that lacks several resources counts for each.
    pub reasons: BTreeMap<Arc<str>, usize>,
    /// On how many of them evicting pods could not help.
    pub unresolvable: usize,
    /// What became of the attempt to make room by evicting others.
    pub preemption: Preemption,
    /// Why none of them was even asked.
    nowhere: Option<Arc<str>>,
    pub(crate) blocks: Blocks,
    /// The nodes where evicting pods could help.
    pub(crate) resolvable: Vec<Arc<str>>,
}

/// The last words of the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// Room is being made: nothing to add.
    Underway,
    /// The pod may not push others out; why.
    NotEligible(&'static str),
    /// It found nobody to push out; the reasons of the nodes that were considered, with their number.
    Unhelpful(BTreeMap<Arc<str>, usize>),
}

/// What has to change for another try to make sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub node_taints: bool,
    pub node_labels: bool,
    /// Resources or ports are taken.
    pub room: bool,
    /// Where other pods are.
    pub pods: bool,
    /// Claims, volumes or classes.
    pub volumes: bool,
}

impl Unschedulable {
    /// Asks each node for its reason.
    pub(crate) fn diagnose(pod: &PodInfo, filters: &Filters<'_>, snapshot: &Snapshot) -> Self {
        if let Some(why) = filters.nowhere() {
            return Self {
                nodes: snapshot.len(),
                reasons: BTreeMap::from([(why.into(), snapshot.len())]),
                unresolvable: snapshot.len(),
                nowhere: Some(why.into()),
                preemption: Preemption::Unhelpful(BTreeMap::new()),
                blocks: Blocks { volumes: true, ..Blocks::default() },
                resolvable: Vec::new(),
            };
        }
        let mut reasons: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut counts: Vec<(Refusal, usize)> = Vec::new();
        let mut lacking = [0; 64];
        let mut unresolvable = 0;
        let mut resolvable = Vec::new();
        for node in snapshot.nodes() {
            let Some(refusal) = filters.refusal(node) else { continue };
            if refusal.is_unresolvable(pod, node) {
                unresolvable += 1;
            } else {
                resolvable.push(node.name.clone());
            }
            match counts.iter_mut().find(|(r, _)| *r == refusal) {
                Some((_, count)) => *count += 1,
                None => counts.push((refusal, 1)),
            }
            if refusal == Refusal::Fit {
                let mut bits = filters.lacking(node);
                while bits != 0 {
                    lacking[bits.trailing_zeros() as usize] += 1;
                    bits &= bits - 1;
                }
            }
        }
        for (bit, count) in lacking.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            reasons.insert(fit::words(pod, bit), count);
        }
        let mut blocks = Blocks::default();
        for (refusal, count) in counts {
            blocks.note(refusal);
            if refusal != Refusal::Fit {
                *reasons.entry(refusal.words().into()).or_default() += count;
            }
        }
        let (nowhere, preemption) = (None, Preemption::Unhelpful(BTreeMap::new()));
        Self { nodes: snapshot.len(), reasons, unresolvable, nowhere, preemption, blocks, resolvable }
    }
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, unresolvable, .. } = self;
        if *nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        match &self.nowhere {
            Some(why) => write!(f, "0/{nodes} nodes are available: {why}.")?,
            None => {
                let reasons = histogram(self.reasons.iter().map(|(r, n)| (&**r, *n)));
                write!(f, "0/{nodes} nodes are available: {reasons}.")?;
            }
        }
        // The dynamic resources plugin has its say before preemption.
        const BEFORE: &str = " no new claims to deallocate, preemption: ";
        match &self.preemption {
            Preemption::Underway => Ok(()),
            Preemption::NotEligible(why) => write!(f, "{BEFORE}not eligible due to {why}."),
            Preemption::Unhelpful(considered) => {
                let hopeless = ("Preemption is not helpful for scheduling", *unresolvable);
                let considered = considered.iter().map(|(r, n)| (&**r, *n)).chain([hopeless]);
                write!(f, "{BEFORE}0/{nodes} nodes are available: {}.", histogram(considered))
            }
        }
    }
}

/// `1 that, 2 this`: sorted as text, as upstream does.
fn histogram<'a>(counts: impl Iterator<Item = (&'a str, usize)>) -> String {
    let mut words: Vec<_> = counts.filter(|(_, n)| *n > 0).map(|(reason, n)| format!("{n} {reason}")).collect();
    words.sort();
    words.join(", ")
}

impl Blocks {
    fn note(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Unschedulable | Refusal::Taint => self.node_taints = true,
            Refusal::NodeName => {}
            Refusal::NodeAffinity => self.node_labels = true,
            Refusal::Ports | Refusal::Fit => self.room = true,
            Refusal::Volumes(Obstacle::Disk | Obstacle::InUse | Obstacle::TooMany) => {
                (self.room, self.volumes) = (true, true)
            }
            Refusal::Volumes(_) => (self.volumes, self.node_labels) = (true, true),
            Refusal::SpreadLabel | Refusal::Spread => (self.pods, self.node_labels) = (true, true),
            Refusal::Affinity | Refusal::AntiAffinity | Refusal::ExistingAntiAffinity => {
                (self.pods, self.node_labels) = (true, true);
            }
        }
    }

    /// Whether a changed node may have become fit for the pod.
    pub fn lifted_by_node(self, change: NodeChange) -> bool {
        change.added
            || (change.taints && (self.node_taints || self.pods))
            || (change.labels && (self.node_labels || self.pods))
            || (change.allocatable && self.room)
    }

    /// Whether the pod may find its place now that a claim, a volume or a class has changed.
    pub fn lifted_by_volumes(self) -> bool {
        self.volumes
    }

    /// Whether the pod may find its place now that another pod came.
    pub fn lifted_by_arrival(self) -> bool {
        self.pods
    }

    /// Whether the pod may find its place now that another pod left.
    pub fn lifted_by_departure(self) -> bool {
        self.pods || self.room
    }
}
