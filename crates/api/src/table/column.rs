//! Columns that many kinds share, and how columns are written down.

use jiff::Timestamp;
use serde_json::Value;

use super::{age::since, cell::at};
use crate::resource::Column;

type Cell = fn(&Value, Timestamp) -> Value;

/// A column of text that is always shown.
pub(super) const fn text(name: &'static str, description: &'static str, cell: Cell) -> Column {
    Column { name, r#type: "string", format: "", description, priority: 0, path: "", cell }
}

/// A column of whole numbers that is always shown.
pub(super) const fn integer(name: &'static str, description: &'static str, cell: Cell) -> Column {
    Column { name, r#type: "integer", format: "", description, priority: 0, path: "", cell }
}

/// A column of truths that is always shown.
pub(super) const fn boolean(name: &'static str, description: &'static str, cell: Cell) -> Column {
    Column { name, r#type: "boolean", format: "", description, priority: 0, path: "", cell }
}

/// A column of text for wide output.
pub(super) const fn wide(name: &'static str, description: &'static str, cell: Cell) -> Column {
    Column { name, r#type: "string", format: "", description, priority: 1, path: "", cell }
}

pub(super) const NAME: Column = Column {
    name: "Name",
    r#type: "string",
    format: "name",
    description: "Name of the object, unique for its kind within a namespace.",
    priority: 0,
    path: "",
    cell: name,
};

pub(super) const AGE: Column = text("Age", "Time since the object was created.", age);

const CREATED_AT: Column = Column {
    name: "Created At",
    r#type: "date",
    format: "",
    description: "Time at which the object was created.",
    priority: 0,
    path: "",
    cell: |object, _| at(object, "/metadata/creationTimestamp").cloned().unwrap_or(Value::Null),
};

/// What upstream shows of kinds that have no columns of their own.
pub(super) const PLAIN: &[Column] = &[NAME, CREATED_AT];

pub(super) fn name(object: &Value, _: Timestamp) -> Value {
    super::cell::text_at(object, "/metadata/name").into()
}

/// The name of a class, and whether one of these annotations makes it the one for objects that name none.
pub(super) fn name_of_class(object: &Value, annotations: &[&str]) -> Value {
    let name = super::cell::text_at(object, "/metadata/name");
    let given = at(object, "/metadata/annotations");
    let is_default = |key: &&str| given.is_some_and(|given| given[*key] == "true");
    if annotations.iter().any(is_default) { format!("{name} (default)").into() } else { name.into() }
}

pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    since(at(object, "/metadata/creationTimestamp"), now).into()
}
