//! Addresses and ports that only one Service may have. Each is a key of its own in the store, written in the
//! same transaction as the Service, so that two Services can't get the same one.

mod service;

use std::sync::Arc;

use api::status::{Cause, Status};
use serde_json::Value;
use store::{Change, Compare, Entry, Txn};

use crate::{call::Call, failure::Outcome};

/// What a write of a Service takes and gives back.
#[derive(Default)]
pub(crate) struct Plan {
    takes: Vec<Take>,
    gives: Vec<Arc<str>>,
    owner: String,
}

struct Take {
    key: Arc<str>,
    /// What to say if someone else has it; `None` if it was drawn and another one will do.
    refusal: Option<Cause>,
}

impl Plan {
    /// Adds the compares and changes to the transaction, after those that are there.
    pub fn extend(&self, txn: &mut Txn) {
        for take in &self.takes {
            txn.compares.push(Compare { key: take.key.clone(), mod_revision: 0 });
            let value = store::Value { bytes: self.owner.clone().into(), stamp_at: None };
            txn.changes.push(Change::Put(take.key.clone(), value));
        }
        txn.changes.extend(self.gives.iter().map(|key| Change::Delete(key.clone())));
    }

    /// After a conflict: fails if something that was asked for by name is taken. `found` are the entries of
    /// the plan's own compares.
    pub fn check_refusal(&self, call: &Call<'_>, name: &str, found: &[Option<Entry>]) -> Outcome<()> {
        let refused = self.takes.iter().zip(found).filter(|(_, found)| found.is_some());
        let causes: Vec<Cause> = refused.filter_map(|(take, _)| take.refusal.clone()).collect();
        if causes.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(call.resource.group, call.resource.kind, name, causes))
    }
}

/// The plan of a create (`old` is none), an update or a delete (`new` is none). Fills in what is drawn.
pub(crate) async fn plan(call: &Call<'_>, new: Option<&mut Value>, old: Option<&Value>) -> Outcome<Plan> {
    if !call.resource.group.is_empty() || call.resource.plural != "services" {
        return Ok(Plan::default());
    }
    service::plan(call, new, old).await
}
