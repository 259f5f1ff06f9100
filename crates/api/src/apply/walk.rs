//! How server-side apply sees a value: what merges field by field, item by item, or not at all.

use serde_json::{Map, Value};

use super::element::PathElement;
use crate::schema::{ListTopology, Shape, Type};

/// What stands at a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    /// Scalars, and whatever is owned as a whole.
    Leaf,
    /// Fields of a type.
    Struct(&'static Type),
    /// Keys of a map.
    Map(&'static Shape),
    /// Items of a set.
    Set,
    /// Items keyed by these fields.
    Keyed(&'static Shape, &'static [&'static str]),
    /// Any JSON: objects merge, the rest is a leaf.
    Any,
}

static ANY: Shape = Shape::Any;

impl Node {
    pub(super) fn of(shape: &'static Shape) -> Self {
        match shape {
            Shape::Object { of, atomic: false, .. } => Self::Struct(of),
            Shape::Map { of, atomic: false } => Self::Map(of),
            Shape::List { topology: ListTopology::Set, .. } => Self::Set,
            Shape::List { of, topology: ListTopology::Map(keys), .. } => Self::Keyed(of, keys),
            Shape::Any => Self::Any,
            _ => Self::Leaf,
        }
    }

    /// What stands at a field or key below.
    pub(super) fn field(self, name: &str) -> Self {
        match self {
            Self::Struct(of) => of.field(name).map_or(Self::Any, |f| Self::of(&f.shape)),
            Self::Map(of) => Self::of(of),
            Self::Any => Self::of(&ANY),
            _ => Self::Leaf,
        }
    }

    /// What an item of a list is.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Keyed(of, _) => Self::of(of),
            _ => Self::Leaf,
        }
    }

    /// What stands one step below.
    pub(super) fn child(self, element: &PathElement) -> Self {
        match element {
            PathElement::Field(name) => self.field(name),
            _ => self.item(),
        }
    }

    /// Whether it is made of fields or keys.
    pub(super) fn is_fields(self) -> bool {
        matches!(self, Self::Struct(_) | Self::Map(_) | Self::Any)
    }

    /// Whether it is a list that merges by item.
    pub(super) fn is_items(self) -> bool {
        matches!(self, Self::Set | Self::Keyed(..))
    }

    /// What one finds of this node in `value`: a leaf where the value has another form.
    pub(super) fn view<'a>(self, value: &'a Value) -> View<'a> {
        match value {
            Value::Object(map) if self.is_fields() => View::Fields(map),
            Value::Array(items) if self.is_items() => View::Items(items),
            _ => View::Leaf,
        }
    }

    /// The step that leads to an item. The error is upstream's text.
    pub(super) fn element_of(self, item: &Value) -> Result<PathElement, String> {
        match self {
            Self::Keyed(of, keys) => keyed_element(item, of, keys),
            _ => match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
                scalar => Ok(PathElement::Value(scalar.clone())),
            },
        }
    }
}

/// A value as its node sees it.
pub(super) enum View<'a> {
    Leaf,
    Fields(&'a Map<String, Value>),
    Items(&'a [Value]),
}

fn keyed_element(item: &Value, of: &Shape, keys: &[&str]) -> Result<PathElement, String> {
    let map = match item {
        Value::Object(map) => map,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let mut fields: Vec<(Box<str>, Value)> = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(value) = map.get(*key) {
            fields.push((Box::from(*key), value.clone()));
        } else if let Some(default) = default_key(of, key) {
            fields.push((Box::from(*key), default));
        }
    }
    if fields.is_empty() {
        let keys: Vec<_> = keys.iter().map(|k| format!("{k:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            keys.join(" ")
        ));
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(PathElement::Key(fields))
}

/// The default of a key field: the protocol of container and Service ports.
fn default_key(of: &Shape, key: &str) -> Option<Value> {
    let Shape::Object { of, .. } = of else {
        return None;
    };
    serde_json::from_str(of.field(key)?.default?).ok()
}
