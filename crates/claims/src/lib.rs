//! Which volume does for which claim: the words on PersistentVolumes and PersistentVolumeClaims that the binder, the
//! scheduler, the provisioner and the node agent share, and the choice of a volume. Pure.
//!
//! The rules are upstream's (`component-helpers/storage/volume`).

mod choice;
mod class;
mod node;
mod selector;

pub use choice::{Node, choose, is_bound_to, modes_fit, requested, same_mode, size, unsuitable};
pub use class::{LOCAL_PROVISIONER, NO_PROVISIONER, waits_for_consumer};
pub use node::reaches;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};

/// On a claim: it was bound to its volume completely.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or a volume: its half of the binding was made by a controller, which may take it back.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: the provisioner that made it, and that removes it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: the provisioner that is to make its volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// Its earlier name, which older provisioners read.
pub const STORAGE_PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On a claim: the node that its first consumer goes to.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// An earlier way to name the class.
const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";
/// The finalizer of a claim that a pod may use.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// The finalizer of a VolumeAttributesClass that claims and volumes may name.
pub const ATTRIBUTES_PROTECTION: &str = "kubernetes.io/vac-protection";
/// The finalizer of a volume that a claim may use.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

/// The class that a claim asks for; empty for none.
pub fn class_of(claim: &PersistentVolumeClaim) -> &str {
    let annotated = claim.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_BETA));
    let named = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_ref());
    annotated.or(named).map(String::as_str).unwrap_or_default()
}

/// The class of a volume; empty for none.
pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let annotated = volume.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_BETA));
    let named = volume.spec.as_ref().and_then(|s| s.storage_class_name.as_ref());
    annotated.or(named).map(String::as_str).unwrap_or_default()
}

/// An annotation of a claim.
pub fn annotation<'a>(claim: &'a PersistentVolumeClaim, name: &str) -> Option<&'a str> {
    claim.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// An annotation of a volume.
pub fn volume_annotation<'a>(volume: &'a PersistentVolume, name: &str) -> Option<&'a str> {
    volume.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The volume that a claim names; empty for none.
pub fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default()
}

/// The claim that a volume names.
pub fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// The phase of a volume.
pub fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether the binding of a claim has been completed: both sides name each other.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && annotation(claim, BIND_COMPLETED).is_some()
}
