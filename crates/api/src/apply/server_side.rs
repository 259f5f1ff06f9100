//! Server-side apply: a configuration is merged, what it no longer says is pruned, and what others own is
//! a conflict.

use serde_json::{Map, Value};

use super::{
    LAST_APPLIED,
    compare::{compare, compare_whole},
    entries::{self, Entry, Operation},
    fieldset::{FieldSet, Path},
    managers::{Manager, disown, take},
    merge::{fresh, merge},
    owned::{field_set, validate},
    prune::prune,
    walk::Node,
};
use crate::{
    schema::Type,
    status::{Cause, Details, Status},
};

/// A field that the configuration would change and another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As messages name it, for instance `"kubectl-edit" using apps/v1`.
    pub manager: String,
    /// For instance `.spec.replicas`.
    pub field: String,
    path: Path,
}

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Other managers own what it would change. Forcing helps. 409 Conflict.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// It may not stand in a configuration. 400 Bad Request.
    #[error("{0}")]
    BadRequest(String),
    /// It does not fit the schema. 500 upstream, without a reason.
    #[error("{0}")]
    Schema(String),
}

impl ApplyError {
    /// The answer to the client.
    pub fn to_status(&self) -> Status {
        let (code, reason, details) = match self {
            Self::Conflicts(conflicts) => {
                let causes = conflicts.iter().map(|c| Cause {
                    reason: "FieldManagerConflict".to_owned(),
                    message: format!("conflict with {}", c.manager),
                    field: c.field.clone(),
                });
                (409, "Conflict", Some(Box::new(Details { causes: causes.collect(), ..Details::default() })))
            }
            Self::BadRequest(_) => (400, "BadRequest", None),
            Self::Schema(_) => (500, "", None),
        };
        Status { code, reason: reason.to_owned(), message: self.to_string(), details, ..Status::default() }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field);
    }
    let mut lines = Vec::new();
    let mut managers: Vec<&str> = conflicts.iter().map(|c| c.manager.as_str()).collect();
    managers.dedup();
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        lines.extend(conflicts.iter().filter(|c| c.manager == manager).map(|c| format!("- {}", c.field)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Applies a configuration, which must bear apiVersion, kind and name. Gives the new object with its managed
/// fields; defaulting and validation are the caller's, and so is asking for another version than the live
/// object's. `None` creates it. An apply that changes neither values nor ownership gives the live object as
/// it was, time stamps included.
pub fn server_side_apply(
    of: &'static Type,
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    if entries::raw_of(applied).is_some() {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));
    }
    check(of, applied)?;
    let mut object = apply_or_upgrade(of, live, applied, manager, force)?;
    if manager.name == "kubectl" && last_applied(&object).is_some() {
        // kubectl that applied on the client before: keep what it would read in step.
        if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.insert(LAST_APPLIED.to_owned(), Value::String(as_last_applied(applied)));
        }
    }
    Ok(object)
}

/// Whether a configuration fits its type: fields that it does not have, values of a wrong form, repeated items.
///
/// # Errors
/// [`ApplyError::Schema`] with all that does not.
pub fn check(of: &'static Type, applied: &Value) -> Result<(), ApplyError> {
    let faults = validate(of, applied);
    let text = match &faults[..] {
        [] => return Ok(()),
        [only] => only.clone(),
        _ => format!("errors:\n  {}", faults.join("\n  ")),
    };
    Err(ApplyError::Schema(format!("failed to create typed patch object ({}): {text}", identity(applied))))
}

/// `namespace/name; group/version, Kind=kind`.
fn identity(object: &Value) -> String {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let api_version = text("/apiVersion");
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{}/{}; {slash}{api_version}, Kind={}", text("/metadata/namespace"), text("/metadata/name"), text("/kind"))
}

/// Conflicts with fields that kubectl itself applied on the client are none for kubectl on the server.
fn apply_or_upgrade(
    of: &'static Type,
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let conflicts = match apply(of, live, applied, manager, force) {
        Err(ApplyError::Conflicts(conflicts)) if manager.name == "kubectl" => conflicts,
        other => return other,
    };
    let Some(allowed) = live.and_then(|live| allowed_by_last_applied(of, live, manager.api_version)) else {
        return Err(ApplyError::Conflicts(conflicts));
    };
    let rest: Vec<_> = conflicts.into_iter().filter(|c| !allowed.contains(&c.path)).collect();
    if rest.is_empty() { apply(of, live, applied, manager, true) } else { Err(ApplyError::Conflicts(rest)) }
}

fn last_applied(object: &Value) -> Option<&str> {
    let text = object.get("metadata")?.get("annotations")?.get(LAST_APPLIED)?.as_str()?;
    Some(text).filter(|t| !t.is_empty())
}

/// What the annotation says and the live object still has.
fn allowed_by_last_applied(of: &'static Type, live: &Value, api_version: &str) -> Option<FieldSet> {
    let last: Value = serde_json::from_str(last_applied(live)?).ok()?;
    if last.get("apiVersion")?.as_str()? != api_version || !validate(of, &last).is_empty() {
        return None;
    }
    let change = compare_whole(of, &last, live);
    Some(field_set(of, &last).difference(&change.modified).difference(&change.added).difference(&change.removed))
}

/// The configuration as the annotation holds it: keys sorted, without the annotation itself, with a newline.
fn as_last_applied(applied: &Value) -> String {
    let mut applied = applied.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.shift_remove(LAST_APPLIED);
    }
    applied.sort_all_objects();
    let mut text = applied.to_string();
    text.push('\n');
    text
}

fn apply(
    of: &'static Type,
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let root = Node::Struct(of);
    let mut managers = live.and_then(entries::raw_of).and_then(entries::read).unwrap_or_default();
    let mut before = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    entries::set_raw(&mut before, None);
    if managers.is_empty() && live.is_some() {
        // Untracked so far: what is there belongs to somebody.
        let untracked = Manager { name: "before-first-apply", ..*manager };
        take(&mut managers, &compare(of, None, &before, manager.subresource), &untracked);
    }

    let merged = match live {
        Some(_) => merge(root, &before, applied).unwrap_or_else(|| before.clone()),
        None => fresh(root, applied),
    };
    let said = field_set(of, applied);
    let mut mine = manager.entry(Operation::Apply, entries::without_unowned(said.clone(), manager.subresource));
    let at = managers.iter().position(|e| e.is_same_manager(&mine));
    let previous = at.map(|at| managers.remove(at));
    mine.time = previous.as_ref().and_then(|p| p.time.clone());

    // The name and its like, which nobody owns, must not be pruned either.
    let mut all = managers.clone();
    all.push(Entry { set: said, ..mine.clone() });
    let nothing = FieldSet::default();
    let merged = prune(of, merged, &all, previous.as_ref().map_or(&nothing, |p| &p.set));

    let change = compare(of, live.map(|_| &before), &merged, manager.subresource);
    let touched = change.added.union(&change.modified);
    let conflicts = conflicts_of(&mut managers, &touched);
    if !conflicts.is_empty() && !force {
        return Err(ApplyError::Conflicts(conflicts));
    }
    let mut managers = disown(managers, &change);
    let same_claim = previous.as_ref().is_some_and(|p| p.set == mine.set && p.api_version == mine.api_version);
    if live.is_none() || !change.is_empty() || !same_claim {
        mine.time = Some(manager.time());
    }
    if !mine.set.is_empty() {
        managers.push(mine);
    }
    let mut object = merged;
    entries::write(&mut object, managers);
    Ok(object)
}

/// Ordered by manager, then by path.
fn conflicts_of(managers: &mut [Entry], touched: &FieldSet) -> Vec<Conflict> {
    managers.sort_by(|a, b| {
        (&a.manager, a.operation, &a.api_version, &a.subresource).cmp(&(
            &b.manager,
            b.operation,
            &b.api_version,
            &b.subresource,
        ))
    });
    let mut conflicts = Vec::new();
    for entry in managers {
        for path in entry.set.intersection(touched).paths() {
            let field = path.iter().map(ToString::to_string).collect();
            conflicts.push(Conflict { manager: entry.shown(), field, path });
        }
    }
    conflicts
}
