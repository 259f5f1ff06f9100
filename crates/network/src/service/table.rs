//! The Services' rules, kept in step with the kernel.

use crate::NetworkError;
use crate::service::{ServiceId, ServiceRules};

/// The Services' rules of one node. Cheap to clone; all clones are one. Methods block for well under a millisecond
/// each (`replace_all`: about 50 µs a Service); one change is one kernel transaction.
#[derive(Clone)]
pub struct ServiceTable {}

impl ServiceTable {
    /// Puts `rules` in force for `id`, or with `None` removes them. Only what differs is sent to the kernel.
    /// On an error the earlier rules stay in force, apart from what a full resynchronization repairs.
    pub fn apply(&self, id: &ServiceId, rules: Option<ServiceRules>) -> Result<(), NetworkError> {
        let _ = (id, rules);
        todo!()
    }

    /// Replaces all rules by these in one transaction. For the start, once all Services and EndpointSlices are known;
    /// established connections go on.
    pub fn replace_all(&self, all: impl IntoIterator<Item = (ServiceId, ServiceRules)>) -> Result<(), NetworkError> {
        let _ = all.into_iter().count();
        todo!()
    }

    /// Waits until the connections of all endpoints deleted so far are cut (a background thread does it).
    pub fn settle(&self) {
        todo!()
    }
}
