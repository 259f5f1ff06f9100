//! What the catalogue knows of one kind in one version. A kind is one of these entries, never a handler.

use std::borrow::Cow;

use serde_json::Value;

use crate::{
    schema::{Shape, Type},
    status::Cause,
};

/// One resource of one group and version.
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    /// For instance `v1`.
    pub version: &'static str,
    /// For instance `v1` or `apps/v1`.
    pub api_version: &'static str,
    /// For instance `Pod`.
    pub kind: &'static str,
    /// For instance `pods`.
    pub plural: &'static str,
    /// For instance `pod`.
    pub singular: &'static str,
    /// For instance `po`.
    pub short_names: &'static [&'static str],
    /// For instance `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// As in discovery: create, delete, deletecollection, get, list, patch, update, watch.
    pub verbs: &'static [&'static str],
    /// Beyond the main resource: `status`, `scale`, `binding`, `eviction`, `log`, `exec`, …
    pub subresources: &'static [Subresource],
    /// Where `scale` reads and writes how many replicas are wanted: a JSON pointer.
    pub replicas_at: &'static str,
    /// What every answer warns of (`Warning: 299`), such as `v1 Endpoints is deprecated in v1.33+; …`.
    pub deprecation: Option<&'static str>,
    /// The object's type.
    pub schema: &'static Type,
    /// Where objects are stored: `/registry/{storage}/[namespace/]name`. Two versions of one kind share it.
    pub storage: Storage,
    /// Defaulting, preparation and validation.
    pub strategy: Strategy,
    /// Server-side table; the `Name` and `Age` columns included.
    pub columns: &'static [Column],
    /// Field selectors beyond `metadata.name` and `metadata.namespace`: (label, JSON pointer).
    pub selectable: &'static [(&'static str, &'static str)],
}

impl Resource {
    /// For instance `PodList`.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Whether the main resource has that verb.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// What a field selector compares for `label`, a field of `object`; `None` if the kind can't be selected
    /// by it. A field that is absent counts as its type's zero value, as upstream's structs have it.
    pub fn selected<'a>(&self, label: &str, object: &'a Value) -> Option<Cow<'a, str>> {
        let pointer = match label {
            "metadata.name" => "/metadata/name",
            "metadata.namespace" if self.namespaced => "/metadata/namespace",
            _ => self.selectable.iter().find(|(l, _)| *l == label)?.1,
        };
        Some(match object.pointer(pointer) {
            Some(Value::String(text)) => Cow::Borrowed(text),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => Cow::Owned(value.to_string()),
            _ => Cow::Borrowed(match self.shape_at(pointer) {
                Some(Shape::Boolean) => "false",
                Some(Shape::Int32 | Shape::Int64) => "0",
                _ => "",
            }),
        })
    }

    /// The shape at a JSON pointer that leads through objects only.
    pub fn shape_at(&self, pointer: &str) -> Option<&'static Shape> {
        let mut of = self.schema;
        let mut steps = pointer.split('/').skip(1).peekable();
        while let Some(step) = steps.next() {
            let shape = &of.field(step)?.shape;
            match shape {
                _ if steps.peek().is_none() => return Some(shape),
                Shape::Object { of: next, .. } => of = next,
                _ => return None,
            }
        }
        None
    }
}

/// Where and in which version objects are stored.
pub struct Storage {
    /// For instance `pods` or `deployments.apps`.
    pub prefix: &'static str,
    /// The version in which objects are stored; the same as the entry's own for all kinds but a few.
    pub version: (&'static str, &'static str),
    /// Turns an object of this version into the stored one, apiVersion included; `None` if they are the same.
    pub to_stored: Option<fn(&mut Value)>,
    /// The way back.
    pub from_stored: Option<fn(&mut Value)>,
}

/// A subresource as discovery shows it.
pub struct Subresource {
    /// For instance `status`.
    pub name: &'static str,
    /// Kind that it takes and gives, for instance `Scale`.
    pub kind: &'static str,
    /// Group and version of that kind if they differ from the resource's, for instance `("autoscaling", "v1")`.
    pub group_version: Option<(&'static str, &'static str)>,
    /// For instance get, patch, update.
    pub verbs: &'static [&'static str],
}

/// What upstream calls the strategy of a resource: pure functions on objects in the entry's version.
pub struct Strategy {
    /// Fills in defaults (idempotent).
    pub default: fn(&mut Value),
    /// Before a create: clears status, sets generation.
    pub prepare_create: fn(&mut Value),
    /// Before an update of the main resource: keeps the status of `old`, bumps generation if the spec changed.
    pub prepare_update: fn(new: &mut Value, old: &Value),
    /// Before an update of `/status`: keeps all but the status.
    pub prepare_status_update: fn(new: &mut Value, old: &Value),
    /// All faults of a new object, beyond its metadata.
    pub validate: fn(&Value) -> Vec<Cause>,
    /// All faults of a change (immutable fields too), beyond its metadata.
    pub validate_update: fn(new: &Value, old: &Value) -> Vec<Cause>,
    /// All faults of a status change.
    pub validate_status_update: fn(new: &Value, old: &Value) -> Vec<Cause>,
    /// What names are legal.
    pub name: NameRule,
    /// PUT to a name that does not exist creates it (leases, events, endpoints…: as upstream).
    pub create_on_update: bool,
    /// A PUT without resourceVersion overwrites.
    pub unconditional_update: bool,
    /// Seconds that a delete waits for the object's keeper, given the object (pods); `None`: deleted at once.
    pub grace: Option<fn(&Value) -> i64>,
}

/// The rule for `metadata.name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, up to 253 characters.
    Subdomain,
    /// RFC 1123 label, up to 63.
    Label,
    /// RFC 1035 label, up to 63.
    Label1035,
    /// Any path segment (RBAC kinds).
    PathSegment,
}

impl Column {
    /// The same, found there by clusters that know the kind by its CustomResourceDefinition.
    #[must_use]
    pub const fn at(self, path: &'static str) -> Column {
        Column { path, ..self }
    }
}

/// One column of a server-side table (`meta.k8s.io/v1 Table`).
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `number`, `date`.
    pub r#type: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    /// For people.
    pub description: &'static str,
    /// 0 always, 1 with `-o wide`.
    pub priority: i32,
    /// Where a CustomResourceDefinition finds it in the object (JSONPath); empty for kinds that are never one.
    pub path: &'static str,
    /// The cell of an object; times become ages against `now`.
    pub cell: fn(&Value, now: jiff::Timestamp) -> Value,
}
