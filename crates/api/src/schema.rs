//! The types of the Kubernetes API as a table: what fields a type has, what shape each has, and how lists
//! and maps merge, and how it is written in protobuf. Generated at build time from the upstream schema.

#[cfg(test)]
mod tests;

/// A named object type.
#[derive(Debug)]
pub struct Type {
    /// Upstream's definition name, for instance `io.k8s.api.core.v1.PodSpec`.
    pub name: &'static str,
    /// `x-kubernetes-map-type: atomic` on the type itself; every [`Shape::Object`] of it says so too.
    pub atomic: bool,
    /// Upstream's protobuf message, by ascending number; `None` for what upstream does not serve in protobuf.
    pub message: Option<&'static [Slot]>,
    /// Sorted by name.
    pub fields: &'static [Field],
}

/// One number of a protobuf message.
#[derive(Debug)]
pub struct Slot {
    /// The field's number.
    pub number: u32,
    /// What is there.
    pub holds: Holds,
}

/// What a number of a protobuf message stands for.
#[derive(Debug)]
pub enum Holds {
    /// The field at this place of [`Type::fields`].
    Field(usize),
    /// The same, whose message is one of alternatives that JSON writes without a name.
    Union(usize, Union),
    /// A message whose fields are the outer object's in JSON.
    Inline(&'static [Slot]),
}

/// Messages whose JSON is one of their fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Union {
    /// `JSONSchemaPropsOrArray`: a schema or a list of them.
    OrList,
    /// `JSONSchemaPropsOrBool`: a schema or a boolean.
    OrBoolean,
    /// `JSONSchemaPropsOrStringArray`, by key: a schema or a list of strings.
    OrStrings,
    /// A message around a list of strings (`Verbs`).
    Items,
    /// A message without fields.
    Empty,
}

/// One field of a type.
#[derive(Debug)]
pub struct Field {
    /// As it stands in JSON.
    pub name: &'static str,
    /// What may stand there.
    pub shape: Shape,
    /// Whether the schema requires it.
    pub required: bool,
    /// Whether a zero value (false, 0, `""`, nothing in a list or map) is kept: Go writes it, or tells it from absence.
    /// Upstream's objects lose all others as they are decoded.
    pub keeps_zero: bool,
    /// The schema's own default, as JSON: server-side apply needs those of key fields (a port's protocol).
    pub default: Option<&'static str>,
    /// What the schema allows beyond the shape; declared kinds have such rules, the others' are in their strategies.
    pub limits: Limits,
}

/// What a value may be within its shape.
#[derive(Debug)]
pub struct Limits {
    /// The values of an enumeration; empty if it is none.
    pub one_of: &'static [&'static str],
    /// The least number, or number of items.
    pub least: Option<i64>,
    /// The greatest number.
    pub most: Option<i64>,
}

impl Limits {
    /// Anything goes.
    pub const NONE: Limits = Limits { one_of: &[], least: None, most: None };
}

/// What a value may be.
#[derive(Debug)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A floating-point number.
    Number,
    /// Any string.
    String,
    /// RFC 3339, seconds (`metav1.Time`).
    Time,
    /// RFC 3339, microseconds (`metav1.MicroTime`).
    MicroTime,
    /// Base64 (`[]byte`).
    Bytes,
    /// A number or a string (`IntOrString`).
    IntOrString,
    /// `resource.Quantity`: a string, or a number on input.
    Quantity,
    /// Any JSON (`RawExtension`, `JSON`, `FieldsV1`).
    Any,
    /// A named type; granular unless `atomic`.
    Object {
        /// The type.
        of: &'static Type,
        /// `x-kubernetes-map-type: atomic`: owned as a whole in server-side apply.
        atomic: bool,
        /// Strategic merge: `patchStrategy: retainKeys` (also on unions such as volumes' sources).
        retain_keys: bool,
        /// Strategic merge: `patchStrategy: replace`.
        replace: bool,
    },
    /// A list.
    List {
        /// What its items are.
        of: &'static Shape,
        /// `x-kubernetes-list-type`, for server-side apply.
        topology: ListTopology,
        /// `patchStrategy: merge` of strategic merge patch; `Some("")` for lists of scalars.
        merge_key: Option<&'static str>,
        /// `patchStrategy: merge,retainKeys`.
        retain_keys: bool,
    },
    /// A map from any string; granular unless `atomic`.
    Map {
        /// What its values are.
        of: &'static Shape,
        /// `x-kubernetes-map-type: atomic` (node selectors, a Service's selector): owned as a whole in
        /// server-side apply.
        atomic: bool,
    },
}

/// How a list is owned in server-side apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListTopology {
    /// As a whole.
    Atomic,
    /// By value.
    Set,
    /// By these key fields.
    Map(&'static [&'static str]),
}

impl Type {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &self.fields[i])
    }
}

/// The type of that upstream definition name.
pub fn type_named(name: &str) -> Option<&'static Type> {
    types::ALL.binary_search_by(|t| t.name.cmp(name)).ok().map(|i| types::ALL[i])
}

/// All types that are reachable from a served kind, sorted by name.
pub fn all_types() -> &'static [&'static Type] {
    &types::ALL
}

/// One static a type, named for instance `core_v1_PodSpec`.
#[allow(non_upper_case_globals, reason = "the names are upstream's")]
pub mod types {
    use super::{Field, Holds, Limits, ListTopology, Shape, Slot, Type, Union};

    include!(concat!(env!("OUT_DIR"), "/types.rs"));
}
