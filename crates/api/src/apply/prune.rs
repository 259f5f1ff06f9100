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
    let pruned = without(root, &merged, &last);
    let pruned_set = owned::field_set(of, &pruned).with_named_fields(root);
    let mut held = FieldSet::default();
    for entry in managers {
        held = held.union(&entry.set);
    }
    let held = held.with_named_fields(root);
    let pruned = without(root, &merged, &merged_set.difference(&pruned_set.union(&held)));

    // Only what the manager itself had owned goes: things inside of a removed item that were never owned stay.
    let pruned_set = owned::field_set(of, &pruned).with_named_fields(root);
    without(root, &merged, &merged_set.difference(&pruned_set).intersection(&last))
}

/// The value without the paths of `gone`.
fn without(node: Node, value: &Value, gone: &FieldSet) -> Value {
    remove(node, value, gone).unwrap_or_else(|| Value::Object(Map::new()))
}

/// `None` if nothing is left of what had been something.
fn remove(node: Node, value: &Value, gone: &FieldSet) -> Option<Value> {
    match (node.view(value), value) {
        (View::Fields(map), _) if !map.is_empty() => {
            let mut out = Map::with_capacity(map.len());
            for (key, value) in map {
                let found = gone.get(&super::PathElement::field(key));
                match found {
                    Some(found) if found.member => {}
                    Some(found) => {
                        if let Some(rest) = remove(node.field(key), value, &found.children) {
                            out.insert(key.clone(), rest);
                        }
                    }
                    None => {
                        out.insert(key.clone(), value.clone());
                    }
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
                    Some(found) => out.extend(remove(node.item(), item, &found.children)),
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
