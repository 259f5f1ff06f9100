//! Strategic merge patch: a merge patch that knows how lists merge.
//!
//! Lists whose schema names a merge key are merged item by item, lists of scalars with merge strategy are
//! united; all others are replaced. Directives: `$patch: replace|delete|merge`, `$retainKeys`,
//! `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`; null removes.

mod list;

use serde_json::{Map, Value};

use super::go_text;
use crate::schema::{Shape, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER_PREFIX: &str = "$setElementOrder/";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";

/// Why a patch could not be merged. Messages are upstream's; see [`Error::code`] for what it answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The patch is not a JSON object.
    #[error("invalid JSON document")]
    Document,
    /// A list inside of a merged list.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// `$deleteFromPrimitiveList` without the name of a list.
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    /// A malformed `$retainKeys`, or a patch that sets keys which it does not name.
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    /// `$setElementOrder` without the name of a list.
    #[error("invalid patch format of setElementOrder list")]
    ElementOrder,
    /// An item without the merge key: (the item as Go prints it, the key).
    #[error("map: {0} does not contain declared merge key: {1}")]
    NoMergeKey(String, String),
    /// A `$patch` that is none of the three: (its value, the map as Go prints it).
    #[error("unknown patch type: {0} in map: {1}")]
    Directive(String, String),
    /// A list whose items differ in type.
    #[error("list element types are not identical: {0}")]
    MixedTypes(String),
    /// `$patch: merge` in a list.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    /// A list of objects that merges but has no key.
    #[error("cannot merge lists without merge key for struct")]
    NoKeyDeclared,
    /// An item that is no object where objects are merged.
    #[error("value for key {0} is not a map")]
    NotAMap(usize),
    /// A value of a wrong type: (expected, received), as Go names them.
    #[error("expected a {0}, but received a {1}")]
    Type(&'static str, &'static str),
    /// The items of a patch stand in another order than `$setElementOrder` says.
    #[error("The order in patch list:\n{0}\n doesn't match $setElementOrder list:\n{1}\n")]
    OrderMismatch(String, String),
}

impl Error {
    /// The HTTP status that upstream answers with: 400, 422 or 500.
    pub fn code(&self) -> u16 {
        match self {
            Self::Document | Self::PrimitiveList | Self::RetainKeys | Self::ElementOrder => 400,
            Self::ListOfLists => 422,
            _ => 500,
        }
    }
}

/// Where in the schema a value stands.
#[derive(Clone, Copy)]
enum Place {
    Struct(&'static Type),
    Map(&'static Shape),
    /// Beyond the schema: objects merge, lists are replaced.
    Free,
}

/// What the schema says of a field that holds a list.
#[derive(Clone, Copy)]
struct ListMeta {
    item: Place,
    /// `Some("")` merges scalars.
    merge_key: Option<&'static str>,
}

impl Place {
    fn of(shape: &'static Shape) -> Self {
        match shape {
            Shape::Object { of, .. } => Self::Struct(of),
            Shape::Map { of, .. } => Self::Map(of),
            _ => Self::Free,
        }
    }

    fn shape(self, key: &str) -> Option<&'static Shape> {
        match self {
            Self::Struct(of) => of.field(key).map(|f| &f.shape),
            Self::Map(of) => Some(of),
            Self::Free => None,
        }
    }

    fn child(self, key: &str) -> Self {
        self.shape(key).map_or(Self::Free, Self::of)
    }

    fn list(self, key: &str) -> ListMeta {
        match self.shape(key) {
            Some(Shape::List { of, merge_key, .. }) => ListMeta { item: Self::of(of), merge_key: *merge_key },
            _ => ListMeta { item: Self::Free, merge_key: None },
        }
    }
}

/// Merges `patch` into `original`, an object of type `of`. On an error `original` is left half-merged:
/// pass a copy.
pub fn apply(original: &mut Value, patch: Value, of: &'static Type) -> Result<(), Error> {
    let Value::Object(patch) = patch else {
        return Err(Error::Document);
    };
    let old = match original.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    *original = Value::Object(merge_map(old, patch, Place::Struct(of))?);
    Ok(())
}

type Object = Map<String, Value>;

fn merge_map(mut original: Object, mut patch: Object, place: Place) -> Result<Object, Error> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.shift_remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(Error::Directive(go_text(directive), go_text(&Value::Object(patch.clone())))),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    apply_orders(&mut original, &mut patch, place)?;
    for (key, value) in patch {
        if key.starts_with(&DELETE_PREFIX[..DELETE_PREFIX.len() - 1]) {
            let list = key.strip_prefix(DELETE_PREFIX).ok_or(Error::PrimitiveList)?;
            if let (Some(Value::Array(items)), Value::Array(gone)) = (original.get_mut(list), value) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if value.is_null() {
            original.shift_remove(&key);
            continue;
        }
        merge_field(&mut original, key, value, place)?;
    }
    Ok(original)
}

fn merge_field(original: &mut Object, key: String, value: Value, place: Place) -> Result<(), Error> {
    let replaces = matches!(place.shape(&key), Some(Shape::Object { replace: true, .. }));
    let merged = match (original.get_mut(&key), value) {
        (Some(Value::Object(old)), Value::Object(new)) if !replaces => {
            Value::Object(merge_map(std::mem::take(old), new, place.child(&key))?)
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            let meta = place.list(&key);
            match meta.merge_key {
                Some(_) => Value::Array(list::merge(std::mem::take(old), new, meta)?),
                None => Value::Array(new),
            }
        }
        (_, new) => match plain(new) {
            Some(new) => new,
            None => {
                original.shift_remove(&key);
                return Ok(());
            }
        },
    };
    original.insert(key, merged);
    Ok(())
}

/// `$retainKeys`: whatever it does not name leaves the original; the patch may set only what it names.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(kept) = patch.shift_remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(kept) = kept else {
        return Err(Error::RetainKeys);
    };
    let keeps = |key: &str| kept.iter().any(|k| k.as_str() == Some(key));
    let stray = patch.iter().any(|(key, value)| {
        !value.is_null() && !key.starts_with(DELETE_PREFIX) && !key.starts_with(ORDER_PREFIX) && !keeps(key)
    });
    if stray {
        return Err(Error::RetainKeys);
    }
    original.retain(|key, _| keeps(key));
    Ok(())
}

/// `$setElementOrder/<list>`: merges that list and brings it into the order given.
fn apply_orders(original: &mut Object, patch: &mut Object, place: Place) -> Result<(), Error> {
    let directive = &ORDER_PREFIX[..ORDER_PREFIX.len() - 1];
    let keys: Vec<String> = patch.keys().filter(|k| k.starts_with(directive)).cloned().collect();
    for key in keys {
        let order = match patch.shift_remove(&key) {
            Some(Value::Array(order)) => order,
            Some(other) => return Err(Error::Type("[]interface {}", go_type(&other))),
            None => continue,
        };
        let name = key.strip_prefix(ORDER_PREFIX).ok_or(Error::ElementOrder)?;
        let old = match original.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(other) => return Err(Error::Type("[]interface {}", go_type(other))),
        };
        let new = match patch.get(name) {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(other) => return Err(Error::Type("[]interface {}", go_type(other))),
        };
        let meta = place.list(name);
        list::check_order(new.as_deref().unwrap_or_default(), &order, meta.merge_key)?;
        let merged = match (old.clone(), new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(plain).collect(),
            (Some(old), Some(new)) if meta.merge_key.is_some() => list::merge(old, new, meta)?,
            (Some(_), Some(new)) => new,
        };
        let arranged = list::arrange(merged, &order, &old.unwrap_or_default(), meta.merge_key.unwrap_or(""))?;
        original.insert(name.to_owned(), Value::Array(arranged));
        patch.shift_remove(name);
    }
    Ok(())
}

/// A value that is new to the original: without directives and nulls. `None` if it only directs.
fn plain(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) => {
            if map.contains_key(DIRECTIVE) {
                return None;
            }
            let is_directive =
                |k: &str| k == RETAIN_KEYS || k.starts_with(ORDER_PREFIX) || k.starts_with(DELETE_PREFIX);
            let kept = map.into_iter().filter(|(k, v)| !v.is_null() && !is_directive(k));
            Some(Value::Object(kept.filter_map(|(k, v)| Some((k, plain(v)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(plain).collect())),
        other => Some(other),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
