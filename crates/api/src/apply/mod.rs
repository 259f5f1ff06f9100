//! Who owns which field: `metadata.managedFields` on every write, and server-side apply.
//!
//! The rules are those of upstream's field manager and structured-merge-diff: a set of field paths per
//! manager, where an update takes what it changes, an apply takes what it says, and an apply that would
//! change what another manager owns is a conflict unless forced.
//!
//! Entries of another version of the same kind are read as if they were of the present one.

mod compare;
mod create;
mod element;
mod entries;
mod fieldset;
mod managers;
mod merge;
mod owned;
mod prune;
mod server_side;
mod walk;
mod zero;

pub use compare::{Comparison, compare};
pub use create::{fields_of_new, manage_create};
pub use element::PathElement;
pub use entries::Operation;
pub use fieldset::{FieldSet, ParseFieldsError, Path};
pub use managers::{Manager, manage_update, manager_name, validate_manager_name};
pub use owned::{field_set, validate};
pub use server_side::{ApplyError, Conflict, check, server_side_apply};

/// Where `kubectl apply` without `--server-side` keeps what it applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
