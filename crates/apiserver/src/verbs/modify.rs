//! What every change of an existing object has in common: read, change, admit, prepare, validate, compare
//! and swap; again if someone else was faster and the client did not insist on a version.

use std::sync::Arc;

use api::{
    status::{Cause, Status},
    strategy::{addresses, metadata},
};
use jiff::Timestamp;
use serde_json::Value;
use store::{Change, Compare, Txn};

use crate::{
    admission::{self, Attributes, Operation},
    allocate,
    cache::Cached,
    call::{Call, Reply},
    encode,
    failure::Outcome,
    managed,
    query::WriteOptions,
    version,
};

/// Upstream's number for patches.
const ATTEMPTS: usize = 16;

/// Which part of the object a change may touch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status.
    Main,
    /// The status.
    Status,
    /// What the caller changed; it has checked that itself (binding, scale, finalize …).
    Exact,
    /// The same, and a change of the spec counts (`metadata.generation`).
    Counted,
}

/// A change of the object named in the path.
pub(crate) struct Modify<'m> {
    pub part: Part,
    pub options: &'m WriteOptions,
    pub author: managed::Author,
    /// The change is worked out from the present state, so that it may be tried again on a newer one.
    pub retries: bool,
    /// Versionless updates are allowed whatever the strategy says.
    pub unconditional: bool,
}

/// Applies `change` (old object in the served version → new one).
pub(crate) async fn modify<F>(call: &Call<'_>, how: &Modify<'_>, mut change: F) -> Outcome<Reply>
where
    F: FnMut(&Value) -> Outcome<Value> + Send,
{
    call.server.cache.fresh().await;
    let mut old = call.kind.get(&call.key()).ok_or_else(|| call.not_found())?;
    for _ in 0..ATTEMPTS {
        match attempt(call, how, &old, &mut change).await? {
            Step::Done(reply) => return Ok(reply),
            Step::Gone => return Err(call.not_found()),
            Step::Again => {}
            Step::Newer(newer, pinned) => {
                if pinned || !how.retries {
                    return Err(call.conflict());
                }
                old = newer;
            }
        }
    }
    Err(call.conflict())
}

enum Step {
    Done(Reply),
    /// Deleted meanwhile.
    Gone,
    /// Changed meanwhile; the flag says that the client insisted on the old version.
    Newer(Arc<Cached>, bool),
    /// Something beside the object was in the way.
    Again,
}

async fn attempt<F>(call: &Call<'_>, how: &Modify<'_>, stored: &Arc<Cached>, change: &mut F) -> Outcome<Step>
where
    F: FnMut(&Value) -> Outcome<Value> + Send,
{
    let resource = call.resource;
    let strategy = &resource.strategy;
    let old = call.server.trees.take(resource, stored);
    let mut new = change(&old)?;
    let pinned = check_identity(call, how, &mut new, &old)?;
    let now = Timestamp::now();
    metadata::prepare_update(&mut new, &old);
    match how.part {
        Part::Main => {
            (strategy.default)(&mut new);
            (strategy.prepare_update)(&mut new, &old);
        }
        Part::Status => (strategy.prepare_status_update)(&mut new, &old),
        Part::Exact => {}
        Part::Counted if new["spec"] != old["spec"] => {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            new["metadata"]["generation"] = (generation + 1).into();
        }
        Part::Counted => {}
    }
    managed::updated(call, &mut new, &old, how, now);
    let attributes = Attributes {
        server: call.server,
        operation: Operation::Update,
        resource,
        subresource: &call.path.subresource,
        namespace: &call.path.namespace,
        name: &call.path.name,
        user: &call.user,
        old: Some(&old),
        warnings: &call.warnings,
    };
    admission::admit(&attributes, &mut new)?;
    let plan = allocate::plan(call, Some(&mut new), Some(&old)).await?;
    let mut faults = metadata::validate_update(&new, &old);
    match how.part {
        Part::Main => faults.extend((strategy.validate_update)(&new, &old)),
        Part::Status => faults.extend((strategy.validate_status_update)(&new, &old)),
        Part::Exact | Part::Counted => {}
    }
    faults.extend(addresses::faults(resource.group, resource.kind, &new, Some(&old)));
    if !faults.is_empty() {
        return Err(Status::invalid(resource.group, resource.kind, &call.path.name, faults));
    }
    if how.part == Part::Main {
        call.warn_of(&new, Some(&old));
    }
    let compare = Compare { key: stored.key.clone(), mod_revision: stored.revision };
    if deletes(&new, resource) {
        return finish_delete(call, how, &new, &old, compare).await;
    }
    if managed::same(&new, &old) {
        return Ok(Step::Done(Reply::Stored { code: 200, bytes: stored.bytes.clone() }));
    }
    if how.options.dry_run {
        return Ok(Step::Done(Reply::Tree { code: 200, tree: new }));
    }
    version::to_stored(resource, &mut new);
    let value = encode::encode(&new);
    let mut txn = Txn { compares: vec![compare], changes: vec![Change::Put(stored.key.clone(), value.clone())] };
    plan.extend(&mut txn);
    match call.txn(txn).await? {
        store::Outcome::Committed(revision) => {
            call.server.trees.keep(resource, &stored.key, revision, value.bytes.len(), new);
            Ok(Step::Done(Reply::Stored { code: 200, bytes: encode::stamped(&value, revision) }))
        }
        store::Outcome::Conflict(found) => {
            let step = newer(&found, stored.revision, pinned);
            if matches!(step, Step::Again) {
                plan.check_refusal(call, &call.path.name, &found[1..])?;
            }
            Ok(step)
        }
    }
}

/// What to do after a conflict, by the present state of the object (the first compare).
fn newer(found: &[Option<store::Entry>], revision: u64, pinned: bool) -> Step {
    match found.first() {
        Some(Some(entry)) if entry.mod_revision == revision => Step::Again,
        Some(Some(entry)) => {
            Step::Newer(Arc::new(Cached::new(entry.key.clone(), entry.value.clone(), entry.mod_revision)), pinned)
        }
        _ => Step::Gone,
    }
}

/// Version and uid that the client insists on; fills in the version where it may. Returns whether it insisted.
fn check_identity(call: &Call<'_>, how: &Modify<'_>, new: &mut Value, old: &Value) -> Outcome<bool> {
    let resource = call.resource;
    let text = |tree: &Value, field: &str| tree["metadata"][field].as_str().unwrap_or("").to_owned();
    let (uid, old_uid) = (text(new, "uid"), text(old, "uid"));
    if !uid.is_empty() && uid != old_uid {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}");
        return Err(Status::conflict_because(resource.group, resource.plural, &call.path.name, &why));
    }
    let (asked, present) = (text(new, "resourceVersion"), text(old, "resourceVersion"));
    let pinned = !asked.is_empty() && asked != "0";
    if pinned && asked != present {
        return Err(call.conflict());
    }
    if !pinned {
        if !resource.strategy.unconditional_update && !how.unconditional {
            let fault = Cause::invalid("metadata.resourceVersion", "", "must be specified for an update");
            return Err(Status::invalid(resource.group, resource.kind, &call.path.name, vec![fault]));
        }
        if !new["metadata"].is_object() {
            new["metadata"] = serde_json::json!({});
        }
        new["metadata"]["resourceVersion"] = present.into();
    }
    // A patch starts from the present version, so the version alone says nothing about what the client wanted.
    Ok(pinned && !how.retries)
}

/// Whether the last finalizer of an object that is to go has gone (`ShouldDeleteDuringUpdate`).
fn deletes(new: &Value, resource: &api::resource::Resource) -> bool {
    let metadata = &new["metadata"];
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let grace = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let namespace_done = resource.kind != "Namespace" || empty(&new["spec"]["finalizers"]);
    metadata["deletionTimestamp"].is_string() && grace == 0 && empty(&metadata["finalizers"]) && namespace_done
}

async fn finish_delete(call: &Call<'_>, how: &Modify<'_>, new: &Value, old: &Value, compare: Compare) -> Outcome<Step> {
    let reply = Reply::Tree { code: 200, tree: new.clone() };
    if how.options.dry_run {
        return Ok(Step::Done(reply));
    }
    let (key, revision) = (compare.key.clone(), compare.mod_revision);
    let mut txn = Txn { compares: vec![compare], changes: vec![Change::Delete(key)] };
    allocate::plan(call, None, Some(old)).await?.extend(&mut txn);
    match call.txn(txn).await? {
        store::Outcome::Committed(_) => Ok(Step::Done(reply)),
        store::Outcome::Conflict(found) => Ok(newer(&found, revision, false)),
    }
}
