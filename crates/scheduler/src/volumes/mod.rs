//! Claims, volumes and classes as the scheduler knows them, and what a placement needs of them: a pod goes only where
//! its volumes can be had, and is bound once they are.

mod capacity;
mod disk;
mod kept;
mod wait;
mod zone;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use claims::{SELECTED_NODE, annotation, is_bound, volume_name, waits_for_consumer};
use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim, PodSpec},
        storage::v1::{CSINode, StorageClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use capacity::Capacities;
pub(crate) use disk::{Disk, disks_of};
pub(crate) use kept::{Kept, Name};
pub(crate) use wait::{Progress, Wait, Waiting};

use crate::{node::NodeInfo, pod::PodInfo};

/// A claim that a pod mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimUse {
    pub name: String,
    /// Made from the pod's own template.
    pub ephemeral: bool,
}

/// The claims of a pod.
pub(crate) fn claims_of(meta: &ObjectMeta, spec: &PodSpec) -> Vec<ClaimUse> {
    let pod = meta.name.as_deref().unwrap_or_default();
    let volumes = spec.volumes.iter().flatten();
    volumes
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(ClaimUse { name: claim.claim_name.clone(), ephemeral: false }),
            (None, Some(_)) => Some(ClaimUse { name: format!("{pod}-{}", volume.name), ephemeral: true }),
            _ => None,
        })
        .collect()
}

/// All of the cluster's.
#[derive(Clone, Default)]
pub(crate) struct Volumes {
    pub claims: Kept<PersistentVolumeClaim>,
    pub volumes: Kept<PersistentVolume>,
    pub classes: Kept<StorageClass>,
    /// Volumes that were chosen for a claim (by UID), though they do not say so yet.
    chosen: HashMap<String, String>,
    /// What each node's CSI drivers can have.
    pub limits: Kept<CSINode>,
    /// How much room they have told of.
    pub capacities: Capacities,
    /// How many placed pods use a claim.
    users: HashMap<Name, usize>,
    /// The same by node.
    on_nodes: HashMap<Arc<str>, HashMap<Name, usize>>,
}

fn csi_of(volume: &PersistentVolume) -> Option<(&str, &str)> {
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    Some((&csi.driver, &csi.volume_handle))
}

/// What a pod's claims ask of a node.
pub(crate) struct Demand<'a> {
    all: &'a Volumes,
    bound: Vec<Option<&'a PersistentVolume>>,
    delayed: Vec<&'a PersistentVolumeClaim>,
    /// A claim that only one pod may use is used.
    in_use: bool,
}

/// Why a node will not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Obstacle {
    /// A pod of the node has a disk that this one names.
    Disk,
    InUse,
    TooMany,
    NoVolume,
    NodeConflict,
    NothingToBind,
    NoSpace,
    /// The volume's labels name another zone or region.
    Zone,
}

/// What has to be written before a pod can be bound.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Volumes that were found for claims.
    pub matched: Vec<(PersistentVolume, PersistentVolumeClaim)>,
    /// Claims whose volumes are to be made for the node.
    pub provisioned: Vec<PersistentVolumeClaim>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.matched.is_empty() && self.provisioned.is_empty()
    }

    /// The claims that have to be bound.
    pub fn claims(&self) -> impl Iterator<Item = &PersistentVolumeClaim> {
        self.matched.iter().map(|(_, claim)| claim).chain(&self.provisioned)
    }
}

impl Volumes {
    /// Whether all lists have been seen.
    pub fn known(&self) -> bool {
        self.claims.known()
            && self.volumes.known()
            && self.classes.known()
            && self.limits.known()
            && self.capacities.known()
    }

    /// A pod takes its place, or (`-1`) leaves it.
    pub fn count(&mut self, pod: &PodInfo, node: &Arc<str>, by: isize) {
        if pod.claims.is_empty() {
            return;
        }
        let on_node = self.on_nodes.entry(node.clone()).or_default();
        for claim in &pod.claims {
            let name = (pod.namespace.to_string(), claim.name.clone());
            for users in [&mut self.users, &mut *on_node] {
                let count = users.entry(name.clone()).or_default();
                *count = count.saturating_add_signed(by);
                if *count == 0 {
                    users.remove(&name);
                }
            }
        }
        if on_node.is_empty() {
            self.on_nodes.remove(node);
        }
    }

    /// Driver and handle of the volume of a claim, if it is a CSI one.
    fn csi(&self, claim: &Name) -> Option<(&str, &str)> {
        let claim = self.claims.get(claim).filter(|claim| is_bound(claim))?;
        csi_of(self.volumes.get(&(String::new(), volume_name(claim).to_owned()))?)
    }

    /// Whether a driver would have more volumes on the node than it can have there, with these and as many more.
    fn exceeds(&self, node: &str, bound: &[Option<&PersistentVolume>], delayed: &[&PersistentVolumeClaim]) -> bool {
        let Some(drivers) = self.limits.get(&(String::new(), node.to_owned())).map(|node| &node.spec.drivers) else {
            return false;
        };
        let used = || self.on_nodes.get(node).into_iter().flat_map(|users| users.keys()).filter_map(|c| self.csi(c));
        drivers.iter().any(|driver| {
            let Some(most) = driver.allocatable.as_ref().and_then(|a| a.count) else { return false };
            let of_driver = |(name, handle): (&'_ str, &str)| (name == driver.name).then(|| handle.to_owned());
            let mut handles: BTreeSet<String> = used().filter_map(of_driver).collect();
            let before = handles.len();
            handles.extend(bound.iter().flatten().filter_map(|v| csi_of(v)).filter_map(of_driver));
            let made =
                |claim: &&&PersistentVolumeClaim| self.class(claim).is_some_and(|c| c.provisioner == driver.name);
            let after = handles.len() + delayed.iter().filter(made).count();
            after > before && after > usize::try_from(most).unwrap_or_default()
        })
    }

    /// What the pod asks for; the reason if no node at all will do, in upstream's words.
    pub fn demand(&self, pod: &PodInfo) -> Result<Option<Demand<'_>>, String> {
        if pod.claims.is_empty() {
            return Ok(None);
        }
        let mut demand = Demand { all: self, bound: Vec::new(), delayed: Vec::new(), in_use: false };
        let mut immediate = false;
        for wanted in &pod.claims {
            let name = &wanted.name;
            let key = (pod.namespace.to_string(), name.clone());
            let Some(claim) = self.claims.get(&key) else {
                return Err(match wanted.ephemeral {
                    true => {
                        format!(
                            "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                        )
                    }
                    false => format!("persistentvolumeclaim \"{name}\" not found"),
                });
            };
            let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
            if phase == Some("Lost") {
                let volume = volume_name(claim);
                return Err(format!(
                    "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
                ));
            }
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            let owned = || claim.metadata.owner_references.iter().flatten().any(|o| *o.uid == *pod.uid);
            if wanted.ephemeral && !owned() {
                let (namespace, pod) = (&pod.namespace, &pod.name);
                return Err(format!(
                    "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
                ));
            }
            let exclusive =
                claim.spec.iter().flat_map(|s| s.access_modes.iter().flatten()).any(|m| m == "ReadWriteOncePod");
            demand.in_use |= exclusive && self.users.contains_key(&key);
            if is_bound(claim) {
                demand.bound.push(self.volumes.get(&(String::new(), volume_name(claim).to_owned())));
            } else if volume_name(claim).is_empty() && self.class(claim).is_some_and(waits_for_consumer) {
                demand.delayed.push(claim);
            } else {
                immediate = true;
            }
        }
        if immediate {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        // The largest volumes are looked for last, so that small claims do not take them.
        demand.delayed.sort_by_key(|claim| claims::requested(claim));
        Ok(Some(demand))
    }

    /// What has to be done for a pod that goes to the node.
    pub fn plan(&self, pod: &PodInfo, node: &NodeInfo) -> Plan {
        self.demand(pod).ok().flatten().and_then(|demand| demand.on(node).ok()).unwrap_or_default()
    }

    /// The volumes of a plan are spoken for until they say so themselves.
    pub fn choose(&mut self, plan: &Plan) {
        for (volume, claim) in &plan.matched {
            let name = volume.metadata.name.clone().unwrap_or_default();
            self.chosen.insert(name, claim.metadata.uid.clone().unwrap_or_default());
        }
    }

    /// A plan is done with, one way or the other.
    pub fn forget(&mut self, plan: &Plan) {
        for (volume, _) in &plan.matched {
            self.chosen.remove(volume.metadata.name.as_deref().unwrap_or_default());
        }
    }

    fn class(&self, claim: &PersistentVolumeClaim) -> Option<&StorageClass> {
        self.classes.get(&(String::new(), claims::class_of(claim).to_owned()))
    }
}

impl Demand<'_> {
    /// `None` if the pod's volumes can be had there.
    pub fn obstacle(&self, node: &NodeInfo) -> Option<Obstacle> {
        if self.in_use {
            return Some(Obstacle::InUse);
        }
        if self.all.exceeds(&node.name, &self.bound, &self.delayed) {
            return Some(Obstacle::TooMany);
        }
        for volume in &self.bound {
            match volume {
                None => return Some(Obstacle::NoVolume),
                Some(volume) if !claims::reaches(volume, &node.name, &node.labels) => {
                    return Some(Obstacle::NodeConflict);
                }
                Some(_) => {}
            }
        }
        if let Err(obstacle) = self.on(node) {
            return Some(obstacle);
        }
        self.bound.iter().flatten().any(|volume| !zone::reaches(volume, node)).then_some(Obstacle::Zone)
    }

    /// What would have to be done there, or why it can't be.
    fn on(&self, node: &NodeInfo) -> Result<Plan, Obstacle> {
        let mut plan = Plan::default();
        let mut taken = BTreeSet::new();
        for claim in &self.delayed {
            if let Some(selected) = annotation(claim, SELECTED_NODE) {
                if *selected != *node.name {
                    return Err(Obstacle::NothingToBind);
                }
                plan.provisioned.push(PersistentVolumeClaim::clone(claim));
                continue;
            }
            let place = claims::Node { name: &node.name, labels: &node.labels };
            let is_taken = |name: &str| {
                taken.contains(name)
                    || self.all.chosen.get(name).is_some_and(|uid| Some(uid) != claim.metadata.uid.as_ref())
            };
            match claims::choose(claim, self.all.volumes.all(), Some(place), true, is_taken) {
                Some(volume) => {
                    taken.insert(volume.metadata.name.as_deref().unwrap_or_default());
                    plan.matched.push((volume.clone(), PersistentVolumeClaim::clone(claim)));
                }
                None => match self.all.class(claim).filter(|class| may_provision(class, node)) {
                    None => return Err(Obstacle::NothingToBind),
                    Some(class) if !self.all.capacities.suffice(claim, class, node) => return Err(Obstacle::NoSpace),
                    Some(_) => plan.provisioned.push(PersistentVolumeClaim::clone(claim)),
                },
            }
        }
        Ok(plan)
    }
}

fn may_provision(class: &StorageClass, node: &NodeInfo) -> bool {
    if class.provisioner.is_empty() || class.provisioner == claims::NO_PROVISIONER {
        return false;
    }
    let Some(topologies) = class.allowed_topologies.as_ref().filter(|t| !t.is_empty()) else { return true };
    topologies.iter().any(|term| {
        let mut labels = term.match_label_expressions.iter().flatten();
        labels.all(|r| node.label(&r.key).is_some_and(|value| r.values.iter().any(|v| v == value)))
    })
}
