//! DELETE of one object and of a collection: grace periods, finalizers, propagation, preconditions.

use std::sync::Arc;

use api::{
    resource::Resource,
    status::{Cause, Status},
};
use futures::future::{BoxFuture, FutureExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::{Change, Compare, Txn};

use crate::{
    admission::{self, Attributes, Operation},
    allocate,
    cache::Cached,
    call::{Call, Reply},
    decode, encode,
    failure::Outcome,
    query::ListOptions,
    verbs::{create::rfc3339, list},
    version,
};

const ATTEMPTS: usize = 16;
/// Members of a collection that are deleted at a time.
const TOGETHER: usize = 64;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Kinds whose delete answers with the object rather than a `Status` (upstream's `ReturnDeletedObject`).
const RETURNS_OBJECT: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "services"),
    ("", "serviceaccounts"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "volumeattributesclasses"),
];

/// Kinds whose dependents stay if a delete does not say what becomes of them (upstream's
/// `DefaultGarbageCollectionPolicy`).
const ORPHANS: &[(&str, &str)] = &[("", "replicationcontrollers"), ("batch", "jobs")];
/// Upstream's words to those who delete a Job and do not say.
const PODS_STAY: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to \
    remove them or set propagationPolicy=Orphan to suppress this warning";

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    /// Seconds; `None` leaves it to the kind.
    pub grace: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    pub propagation: Option<String>,
    /// The deprecated form of `propagation`.
    pub orphan: Option<bool>,
    /// Only an object with that uid.
    pub uid: Option<String>,
    /// Only that version.
    pub resource_version: Option<String>,
    /// Do everything but store.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// From the body if there is one, else from the query.
    pub fn parse(call: &Call<'_>) -> Outcome<DeleteOptions> {
        let options = if call.body.is_empty() {
            DeleteOptions {
                grace: call.query.number("gracePeriodSeconds")?,
                propagation: call.query.first("propagationPolicy").filter(|p| !p.is_empty()).map(str::to_owned),
                orphan: call.query.optional_flag("orphanDependents"),
                dry_run: call.query.all("dryRun").any(|v| v == "All"),
                ..DeleteOptions::default()
            }
        } else {
            let tree = decode::document(call, "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")?;
            DeleteOptions::of_tree(&tree, call)?
        };
        options.check()?;
        let unsaid = options.propagation.is_none() && options.orphan.is_none();
        if unsaid && (call.resource.group, call.resource.plural) == ("batch", "jobs") {
            call.warn(PODS_STAY);
        }
        Ok(options)
    }

    pub fn of_tree(tree: &Value, call: &Call<'_>) -> Outcome<DeleteOptions> {
        if tree.get("kind").is_some_and(|kind| kind != "DeleteOptions") {
            let kind = tree["kind"].as_str().unwrap_or("");
            return Err(Status::bad_request(format!("decoded object cannot be converted to DeleteOptions: {kind}")));
        }
        let text = |pointer: &str| tree.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Ok(DeleteOptions {
            grace: tree["gracePeriodSeconds"].as_i64(),
            propagation: text("/propagationPolicy"),
            orphan: tree["orphanDependents"].as_bool(),
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run: tree["dryRun"].as_array().is_some_and(|d| d.iter().any(|v| v == "All"))
                || call.query.all("dryRun").any(|v| v == "All"),
        })
    }

    fn check(&self) -> Outcome<()> {
        let mut faults = Vec::new();
        if self.propagation.is_some() && self.orphan.is_some() {
            faults.push(Cause::invalid(
                "propagationPolicy",
                self.propagation.as_deref().unwrap_or(""),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        if let Some(policy) =
            self.propagation.as_deref().filter(|p| !matches!(*p, "Background" | "Foreground" | "Orphan"))
        {
            faults.push(Cause::not_supported(
                "propagationPolicy",
                policy,
                &["Foreground", "Background", "Orphan", "nil"],
            ));
        }
        if faults.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", faults)) }
    }

    /// The finalizers for the garbage collector, given those that are there.
    fn finalizers(&self, resource: &Resource, present: &[Value]) -> Vec<Value> {
        let has = |name: &str| present.iter().any(|f| f == name);
        let policy = self.propagation.as_deref();
        let unsaid = || has(ORPHAN) || (ORPHANS.contains(&(resource.group, resource.plural)) && !has(FOREGROUND));
        let orphan = self.orphan.unwrap_or_else(|| policy.map_or_else(unsaid, |p| p == "Orphan"));
        let foreground = self.orphan.is_none() && policy.map_or(has(FOREGROUND), |p| p == "Foreground");
        let mut finalizers: Vec<Value> = present.iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).cloned().collect();
        if orphan {
            finalizers.push(ORPHAN.into());
        }
        if foreground {
            finalizers.push(FOREGROUND.into());
        }
        finalizers
    }
}

/// DELETE of the object named in the path.
pub(crate) async fn delete(call: &Call<'_>) -> Outcome<Reply> {
    let options = DeleteOptions::parse(call)?;
    call.server.cache.fresh().await;
    delete_named(call, &call.path.name, &call.key(), &options).await
}

/// DELETE of the collection: each object of the list that the query asks for as if it were deleted alone.
pub(crate) async fn delete_collection(call: &Call<'_>) -> Outcome<Reply> {
    let options = DeleteOptions::parse(call)?;
    let page = list::page(call, &ListOptions::parse(&call.query)?).await?;
    // Several at a time, so that they share the store's commits.
    for chunk in page.objects.chunks(TOGETHER) {
        let deletes = chunk.iter().map(|object| delete_member(call, object, &options));
        futures::future::try_join_all(deletes).await?;
    }
    Ok(Reply::List(page))
}

/// One of a collection; it may be gone already.
fn delete_member<'f>(call: &'f Call<'_>, object: &'f Cached, options: &'f DeleteOptions) -> BoxFuture<'f, Outcome<()>> {
    async move {
        match delete_named(call, call.kind.name_of(&object.key), &object.key, options).await {
            Ok(_) => Ok(()),
            Err(status) if status.reason == "NotFound" => Ok(()),
            Err(status) => Err(status),
        }
    }
    .boxed()
}

/// Deletes one object, or begins to.
pub(crate) async fn delete_named(
    call: &Call<'_>,
    name: &str,
    key: &Arc<str>,
    options: &DeleteOptions,
) -> Outcome<Reply> {
    let resource = call.resource;
    let not_found = || Status::not_found(resource.group, resource.plural, name);
    let mut stored = call.kind.get(key).ok_or_else(not_found)?;
    for _ in 0..ATTEMPTS {
        let old = version::served_tree(resource, &stored);
        check_preconditions(resource, name, options, &old)?;
        let attributes = Attributes {
            server: call.server,
            operation: Operation::Delete,
            resource,
            subresource: "",
            namespace: call.kind.namespace_of(key),
            name,
            user: &call.user,
            old: Some(&old),
            warnings: &call.warnings,
        };
        admission::admit(&attributes, &mut Value::Null)?;
        let (reply, change, plan) = match decide(resource, &old, options, Timestamp::now()) {
            Step::Pending => return Ok(Reply::Stored { code: 200, bytes: stored.bytes.clone() }),
            Step::Mark(mut marked) => {
                if options.dry_run {
                    return Ok(Reply::Tree { code: 200, tree: marked });
                }
                version::to_stored(resource, &mut marked);
                (None, Some(encode::encode(&marked)), None)
            }
            Step::Remove(last) => {
                let reply = answer(resource, name, last);
                if options.dry_run {
                    return Ok(reply);
                }
                (Some(reply), None, Some(allocate::plan(call, None, Some(&old)).await?))
            }
        };
        let mut txn = Txn {
            compares: vec![Compare { key: key.clone(), mod_revision: stored.revision }],
            changes: vec![match &change {
                Some(value) => Change::Put(key.clone(), value.clone()),
                None => Change::Delete(key.clone()),
            }],
        };
        if let Some(plan) = plan {
            plan.extend(&mut txn);
        }
        match call.txn(txn).await? {
            store::Outcome::Committed(revision) => {
                return Ok(match (reply, change) {
                    (Some(reply), _) => reply,
                    (None, Some(value)) => {
                        let code = if options.orphan == Some(false) { 202 } else { 200 };
                        Reply::Stored { code, bytes: encode::stamped(&value, revision) }
                    }
                    (None, None) => Reply::Status(Status::success(resource.group, resource.plural, name, "")),
                });
            }
            store::Outcome::Conflict(found) => {
                let entry = found.into_iter().next().flatten().ok_or_else(not_found)?;
                stored = Arc::new(Cached::new(entry.key, entry.value, entry.mod_revision));
            }
        }
    }
    Err(Status::conflict(resource.group, resource.plural, name))
}

pub(crate) fn check_preconditions(
    resource: &Resource,
    name: &str,
    options: &DeleteOptions,
    old: &Value,
) -> Outcome<()> {
    let present = |field: &str| old["metadata"][field].as_str().unwrap_or("");
    // Upstream names the kind here, where other conflicts name the resource.
    let refuse = |why: String| Err(Status::conflict_because(resource.group, resource.kind, name, &why));
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != present("uid")) {
        return refuse(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({}). \
             The object might have been deleted and then recreated",
            present("uid")
        ));
    }
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != present("resourceVersion")) {
        return refuse(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            present("resourceVersion")
        ));
    }
    Ok(())
}

/// What a delete does next.
#[derive(Debug, PartialEq)]
enum Step {
    /// It is under way already and nothing changes.
    Pending,
    /// The object stays for now, marked like this.
    Mark(Value),
    /// The object goes; this is how it was last seen.
    Remove(Value),
}

/// `rest.BeforeDelete` and `Store.Delete` as one decision.
fn decide(resource: &Resource, old: &Value, options: &DeleteOptions, now: Timestamp) -> Step {
    let mut new = old.clone();
    let metadata = &old["metadata"];
    let present = metadata["finalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let held_by_spec =
        resource.kind == "Namespace" && old["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    let marked = metadata["deletionTimestamp"].as_str();
    // `Some` when the kind (or an earlier delete) gives the object time to end.
    let mut grace = None;
    if let Some(since) = marked {
        match (metadata["deletionGracePeriodSeconds"].as_i64(), options.grace) {
            (None, _) => {}
            (Some(0), _) if !present.is_empty() || held_by_spec => return Step::Pending,
            (Some(0), _) => {}
            (Some(running), Some(asked)) if asked < running => {
                let end: Timestamp = since.parse().unwrap_or(now);
                new["metadata"]["deletionTimestamp"] = rfc3339(end - SignedDuration::from_secs(running - asked)).into();
                new["metadata"]["deletionGracePeriodSeconds"] = asked.into();
                grace = Some(asked);
            }
            (Some(_), _) => return Step::Pending,
        }
    } else if resource.strategy.grace.is_some() {
        // Only pods end gracefully.
        let seconds = api::strategy::pod::deletion_grace(old, options.grace);
        new["metadata"]["deletionTimestamp"] = rfc3339(now + SignedDuration::from_secs(seconds)).into();
        new["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
        if let Some(generation) = metadata["generation"].as_i64().filter(|g| *g > 0) {
            new["metadata"]["generation"] = (generation + 1).into();
        }
        grace = Some(seconds);
    }
    let finalizers = options.finalizers(resource, present);
    if finalizers.as_slice() != present {
        if finalizers.is_empty() {
            if let Some(metadata) = new["metadata"].as_object_mut() {
                metadata.shift_remove("finalizers");
            }
        } else {
            new["metadata"]["finalizers"] = Value::Array(finalizers.clone());
        }
    }
    let held = !finalizers.is_empty() || held_by_spec;
    if !held && grace.is_none_or(|seconds| seconds <= 0) {
        return Step::Remove(new);
    }
    if grace.is_none() && new["metadata"]["deletionTimestamp"].is_null() {
        new["metadata"]["deletionTimestamp"] = rfc3339(now).into();
        new["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        if let Some(generation) = metadata["generation"].as_i64().filter(|g| *g > 0) {
            new["metadata"]["generation"] = (generation + 1).into();
        }
    }
    if resource.kind == "Namespace" {
        if let Some(metadata) = new["metadata"].as_object_mut() {
            metadata.shift_remove("deletionGracePeriodSeconds");
        }
        new["status"]["phase"] = "Terminating".into();
    }
    if new == *old { Step::Pending } else { Step::Mark(new) }
}

fn answer(resource: &Resource, name: &str, last: Value) -> Reply {
    if RETURNS_OBJECT.contains(&(resource.group, resource.plural)) {
        return Reply::Tree { code: 200, tree: last };
    }
    let uid = last["metadata"]["uid"].as_str().unwrap_or("");
    Reply::Status(Status::success(resource.group, resource.plural, name, uid))
}
