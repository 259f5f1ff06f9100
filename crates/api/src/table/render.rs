//! From objects to a `meta.k8s.io/v1 Table`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::pod;
use crate::resource::{Column, Resource};

/// What a row carries of its object (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// A `PartialObjectMetadata`: the default.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; `None` for a value that upstream refuses.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// The metadata of a table: the list's, or that of the one object shown.
#[derive(Clone, Default)]
pub struct Header<'a> {
    /// The list's (or object's) resourceVersion; empty if unknown.
    pub resource_version: &'a str,
    /// Where the list goes on; empty if it does not.
    pub continue_token: &'a str,
    /// How many objects follow, if known.
    pub remaining: Option<u64>,
    /// Leaves the column definitions out, as all but the first event of a watch do.
    pub without_columns: bool,
    /// The columns if not those of the resource (a subresource's).
    pub columns: Option<&'static [Column]>,
}

/// The table of these objects.
pub fn render<'a>(
    resource: &Resource,
    objects: impl IntoIterator<Item = &'a Value>,
    include: IncludeObject,
    header: &Header<'_>,
    now: Timestamp,
) -> Value {
    let mut metadata = Map::new();
    if !header.resource_version.is_empty() {
        metadata.insert("resourceVersion".to_owned(), header.resource_version.into());
    }
    if !header.continue_token.is_empty() {
        metadata.insert("continue".to_owned(), header.continue_token.into());
    }
    if let Some(remaining) = header.remaining {
        metadata.insert("remainingItemCount".to_owned(), remaining.into());
    }
    let columns = header.columns.unwrap_or(resource.columns);
    let definitions = if header.without_columns { Value::Null } else { definitions(columns) };
    let rows: Vec<Value> = objects.into_iter().map(|o| row_of(resource, columns, o, include, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

/// The `columnDefinitions`.
pub fn definitions(columns: &[Column]) -> Value {
    columns
        .iter()
        .map(|c| {
            json!({
                "name": c.name,
                "type": c.r#type,
                "format": c.format,
                "description": c.description,
                "priority": c.priority,
            })
        })
        .collect()
}

/// One row.
pub fn row(resource: &Resource, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    row_of(resource, resource.columns, object, include, now)
}

/// The metadata that a row carries: all but `managedFields`, which no printer looks at and which would be most of the
/// answer. (Upstream sends it along.)
fn shown_metadata(object: &Value) -> Value {
    let metadata = object.get("metadata").and_then(Value::as_object);
    let shown = metadata.into_iter().flatten().filter(|(field, _)| *field != "managedFields");
    shown.map(|(field, value)| (field.clone(), value.clone())).collect()
}

fn row_of(resource: &Resource, columns: &[Column], object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let cells: Vec<Value> = columns.iter().map(|c| (c.cell)(object, now)).collect();
    let mut row = Map::with_capacity(3);
    row.insert("cells".to_owned(), Value::Array(cells));
    if resource.group.is_empty()
        && resource.kind == "Pod"
        && let Some(condition) = pod::row_condition(object)
    {
        row.insert("conditions".to_owned(), Value::Array(vec![condition]));
    }
    let shown = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": shown_metadata(object),
        }),
        IncludeObject::Object => object.clone(),
    };
    row.insert("object".to_owned(), shown);
    Value::Object(row)
}
