//! ResourceQuotas: a write that takes from a quota changes its `status.used` in the same transaction, so that requests
//! at the same time can't overshoot together. What is given back is counted by the quota controller.
//!
//! Upstream: `pkg/quota/v1` and `apiserver/pkg/admission/plugin/resourcequota`.

use std::{collections::HashMap, sync::Arc};

use api::quota::{self, Amounts};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::{Change, Compare, Revision, Txn};
use tokio::sync::OwnedMutexGuard;

use crate::{admission::Operation, cache::Cached, call::Call, encode, failure::Outcome};
use api::status::Status;

/// One writer at a time charges the quotas of a namespace: without it many creates at once would mostly undo each
/// other's work.
#[derive(Default)]
pub(crate) struct QuotaLocks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl QuotaLocks {
    async fn lock(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.0.lock();
            // Namespaces that nobody writes to are forgotten.
            all.retain(|name, lock| name == namespace || Arc::strong_count(lock) > 1);
            all.entry(namespace.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// Changes of quotas that belong to one write.
#[derive(Default)]
pub(super) struct Charges {
    all: Vec<Charge>,
    /// Held until the write is done.
    _turn: Option<OwnedMutexGuard<()>>,
}

struct Charge {
    key: Arc<str>,
    revision: Revision,
    value: store::Value,
}

impl Charges {
    pub fn extend(&self, txn: &mut Txn) {
        for charge in &self.all {
            txn.compares.push(Compare { key: charge.key.clone(), mod_revision: charge.revision });
            txn.changes.push(Change::Put(charge.key.clone(), charge.value.clone()));
        }
    }
}

/// What a create (`old` is none) or an update takes from the quotas of its namespace; 403 if one has not enough left.
pub(super) async fn charge(call: &Call<'_>, new: &Value, old: Option<&Value>) -> Outcome<Charges> {
    let namespace = call.path.namespace.as_str();
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    if namespace.is_empty() || !is_charged(call, operation) || quotas_of(call).is_empty() {
        return Ok(Charges::default());
    }
    let turn = call.server.quotas.lock(namespace).await;
    // The one before may have charged a moment ago.
    call.server.cache.fresh().await;
    let now = Timestamp::now();
    let (group, plural) = (call.resource.group, call.resource.plural);
    let mut takes = quota::usage(group, plural, new, now);
    if let Some(old) = old {
        let before = quota::usage(group, plural, old, now);
        takes.iter_mut().for_each(|(name, amount)| {
            if let Some(before) = before.get(name) {
                amount.sub(before);
            }
        });
    }
    let name = new["metadata"]["name"].as_str().unwrap_or("");
    let refuse = |why: String| Status::forbidden(group, plural, name, why);
    let mut all = Vec::new();
    for stored in quotas_of(call) {
        let mut tree = stored.parse();
        if !quota::covers(&tree["spec"], group, plural, new) {
            continue;
        }
        if let Some(charged) = take(&mut tree, &takes, (group, plural) == ("", "pods"), new).map_err(refuse)? {
            tree["status"]["used"] = charged;
            all.push(Charge { key: stored.key.clone(), revision: stored.revision, value: encode::encode(&tree) });
        }
    }
    Ok(Charges { all, _turn: Some(turn) })
}

/// Objects are counted when they are made; a few kinds take more or less later.
fn is_charged(call: &Call<'_>, operation: Operation) -> bool {
    let subresource = call.path.subresource.as_str();
    match (call.resource.group, call.resource.plural) {
        ("" | "events.k8s.io", "events") => false,
        ("", "pods") => subresource == "resize" || (operation == Operation::Create && subresource.is_empty()),
        ("", "services" | "persistentvolumeclaims") => subresource.is_empty(),
        _ => operation == Operation::Create && subresource.is_empty(),
    }
}

fn quotas_of(call: &Call<'_>) -> Vec<Arc<Cached>> {
    call.server.cache.kind("resourcequotas").snapshot(&call.path.namespace, None, 0, |_| true).objects
}

/// The quota's new `used`; `None` if it is not about what is taken. The error is why it is refused.
fn take(tree: &mut Value, takes: &Amounts, is_pod: bool, object: &Value) -> Result<Option<Value>, String> {
    let name = tree["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let (hard, mut used) = (quota::read(&tree["status"]["hard"]), quota::read(&tree["status"]["used"]));
    let takes: Amounts =
        takes.iter().filter(|(name, _)| hard.contains_key(*name)).map(|(n, a)| (n.clone(), a.clone())).collect();
    if is_pod && let Some(missing) = quota::missing(&hard, object) {
        return Err(format!("failed quota: {name}: must specify {missing}"));
    }
    let unknown: Vec<&str> = takes.keys().filter(|name| !used.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(format!("status unknown for quota: {name}, resources: {}", unknown.join(",")));
    }
    if takes.values().all(|amount| amount.is_zero()) {
        return Ok(None);
    }
    let mut exceeded = [Amounts::new(), Amounts::new(), Amounts::new()];
    for (resource, amount) in &takes {
        let before = used[resource].clone();
        let mut after = before.clone();
        after.add(amount);
        if amount.signum() > 0 && after > hard[resource] {
            for (list, amount) in exceeded.iter_mut().zip([amount, &before, &hard[resource]]) {
                list.insert(resource.clone(), amount.clone());
            }
        }
        used.insert(resource.clone(), after);
    }
    let [requested, had, limited] = exceeded.each_ref().map(quota::shown);
    if !requested.is_empty() {
        return Err(format!("exceeded quota: {name}, requested: {requested}, used: {had}, limited: {limited}"));
    }
    let used: serde_json::Map<String, Value> =
        used.into_iter().map(|(name, amount)| (name, json!(amount.to_string()))).collect();
    Ok(Some(Value::Object(used)))
}
