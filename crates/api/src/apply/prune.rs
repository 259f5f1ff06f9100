//! Removing what a manager applied before, does not apply any more, and nobody else owns.

use serde_json::{Map, Value};

use super::{
    entries::Entry,
    fieldset::FieldSet,
    owned,
    walk::{Node, View},
};
use crate::schema::Type;

/// `last` is what the applying manager owned; `managers` are all managers, the applying one with what it
/// applies now.
pub(super) fn prune(of: &'static Type, merged: Value, managers: &[Entry], last: &FieldSet) -> Value {
    if last.is_empty() {
        return merged;
    }
    let root = Node::Struct(of);
    let last = last.with_named_fields(root);
    let merged_set = owned::field_set(of, &merged).with_named_fields(root);

    // What goes, unless somebody owns it (or something in it).
    let pruned = without(root, &merged, &last, Emptied::Null);
    let pruned_set = owned::field_set(of, &pruned).with_named_fields(root);
    let mut held = FieldSet::default();
    for entry in managers {
        held = held.union(&entry.set);
    }
    let held = held.with_named_fields(root);
    let gone = merged_set.difference(&pruned_set.union(&held));
    let pruned = without(root, &merged, &gone, Emptied::Null);

    // Only what the manager itself had owned goes: things inside of a removed item that were never owned stay.
    let pruned_set = owned::field_set(of, &pruned).with_named_fields(root);
    without(root, &merged, &merged_set.difference(&pruned_set).intersection(&last), Emptied::Absent)
}

/// What becomes of a field whose value has lost all that it held.
#[derive(Clone, Copy)]
enum Emptied {
    /// It stays in sight, so that the field itself does not count as removed.
    Null,
    /// It goes.
    Absent,
}

/// The value without the paths of `gone`.
fn without(node: Node, value: &Value, gone: &FieldSet, emptied: Emptied) -> Value {
    remove(node, value, gone, emptied).unwrap_or_else(|| Value::Object(Map::new()))
}

/// `None` if nothing is left of what had been something.
fn remove(node: Node, value: &Value, gone: &FieldSet, emptied: Emptied) -> Option<Value> {
    match (node.view(value), value) {
        (View::Fields(map), _) if !map.is_empty() => {
            let mut out = Map::with_capacity(map.len());
            for (key, value) in map {
                let left = match gone.get(&super::PathElement::field(key)) {
                    Some(found) if found.member => continue,
                    Some(found) => match (remove(node.field(key), value, &found.children, emptied), emptied) {
                        (None, Emptied::Null) => Some(Value::Null),
                        (left, _) => left,
                    },
                    None => Some(value.clone()),
                };
                if let Some(left) = left {
                    out.insert(key.clone(), left);
                }
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        (View::Items(items), _) if !items.is_empty() => {
            let mut out = Vec::with_capacity(items.len());
            for item in items {
                let found = node.element_of(item).ok().and_then(|e| gone.get(&e));
                match found {
                    Some(found) if found.member => {}
                    Some(found) => out.extend(remove(node.item(), item, &found.children, emptied)),
                    None => out.push(item.clone()),
                }
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
        // Owned as a whole, and something within it was to go.
        (View::Leaf, Value::Object(_) | Value::Array(_)) if matches!(node, Node::Leaf) => None,
        _ => Some(value.clone()),
    }
}
