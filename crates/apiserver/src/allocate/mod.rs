//! What is written in the same transaction as an object, so that requests at the same time can't both have it:
//! addresses and ports that only one Service may have (each a key of its own in the store), and what is used of quotas.

mod quota;
mod service;

use std::sync::Arc;

use api::{
    resource::Resource,
    status::{Cause, Status},
};
use serde_json::Value;
use store::{Change, Compare, Entry, Txn};

pub(crate) use quota::QuotaLocks;

use crate::{call::Call, failure::Outcome};

/// What a write takes and gives back beside the object itself.
#[derive(Default)]
pub(crate) struct Plan {
    takes: Vec<Take>,
    gives: Vec<Arc<str>>,
    owner: String,
    quotas: quota::Charges,
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
        self.quotas.extend(txn);
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

/// Whether objects of this kind are given what they did not ask for by name.
pub(crate) fn draws(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "services"
}

/// The plan of a create (`old` is none), an update or a delete (`new` is none). Fills in what is drawn.
pub(crate) async fn plan(call: &Call<'_>, mut new: Option<&mut Value>, old: Option<&Value>) -> Outcome<Plan> {
    let mut plan =
        if draws(call.resource) { service::plan(call, new.as_deref_mut(), old).await? } else { Plan::default() };
    if let Some(new) = new {
        plan.quotas = quota::charge(call, new, old).await?;
    }
    Ok(plan)
}
