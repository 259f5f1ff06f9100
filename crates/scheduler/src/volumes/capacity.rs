//! How much room drivers have told of (`CSIStorageCapacity`, KEP-1472): a volume is made only where there is enough.

use api::quantity::Quantity;
use k8s_openapi::api::{
    core::v1::PersistentVolumeClaim,
    storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass},
};

use super::Kept;
use crate::{node::NodeInfo, selector::Selector};

/// What drivers have said, and which of them say it.
#[derive(Clone, Default)]
pub(crate) struct Capacities {
    pub drivers: Kept<CSIDriver>,
    pub told: Kept<CSIStorageCapacity>,
}

impl Capacities {
    pub fn known(&self) -> bool {
        self.drivers.known() && self.told.known()
    }

    /// Whether a volume for the claim may be made for the node: its driver does not tell, or tells of enough there.
    pub fn suffice(&self, claim: &PersistentVolumeClaim, class: &StorageClass, node: &NodeInfo) -> bool {
        let driver = self.drivers.get(&(String::new(), class.provisioner.clone()));
        if driver.is_none_or(|driver| driver.spec.storage_capacity != Some(true)) {
            return true;
        }
        let Some(wanted) = claims::requested(claim) else { return true };
        self.told.all().any(|told| {
            Some(&told.storage_class_name) == class.metadata.name.as_ref()
                && holds(told, &wanted)
                && Selector::of_labels(told.node_topology.as_ref()).matches(&node.labels)
        })
    }
}

/// The largest volume counts where it is known, else all the room there is.
fn holds(told: &CSIStorageCapacity, wanted: &Quantity) -> bool {
    let most = told.maximum_volume_size.as_ref().or(told.capacity.as_ref());
    most.and_then(|most| most.0.parse::<Quantity>().ok()).is_some_and(|most| most >= *wanted)
}
