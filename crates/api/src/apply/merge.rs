//! Merging an applied configuration into the live object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    element::PathElement,
    walk::{Node, View},
};

/// The live value with the applied one laid over it. `None` where the applied one is null.
pub(super) fn merge(node: Node, live: &Value, applied: &Value) -> Option<Value> {
    if applied.is_null() && !matches!(node, Node::Any) {
        return None;
    }
    Some(match (node.view(live), node.view(applied)) {
        (View::Fields(live), View::Fields(applied)) if !applied.is_empty() => merge_fields(node, live, applied),
        (View::Fields(live), View::Fields(_)) => Value::Object(live.clone()),
        (View::Items(live), View::Items(applied)) => Value::Array(merge_items(node, live, applied)),
        _ => fresh(node, applied),
    })
}

/// An applied value where there was none: itself, without nulls.
pub(super) fn fresh(node: Node, applied: &Value) -> Value {
    match node.view(applied) {
        View::Fields(map) if !matches!(node, Node::Any) => {
            let kept = map.iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(k, v)| (k.clone(), fresh(node.field(k), v))).collect())
        }
        View::Items(items) => Value::Array(items.iter().map(|i| fresh(node.item(), i)).collect()),
        _ => applied.clone(),
    }
}

fn merge_fields(node: Node, live: &Map<String, Value>, applied: &Map<String, Value>) -> Value {
    let mut out = Map::with_capacity(live.len() + applied.len());
    for (key, value) in live {
        let merged = match applied.get(key) {
            Some(applied) => merge(node.field(key), value, applied),
            None => Some(value.clone()),
        };
        if let Some(merged) = merged {
            out.insert(key.clone(), merged);
        }
    }
    for (key, value) in applied {
        if !live.contains_key(key) && (!value.is_null() || matches!(node, Node::Any)) {
            out.insert(key.clone(), fresh(node.field(key), value));
        }
    }
    Value::Object(out)
}

/// Items of both lists come in the applied order; items of the live list alone stay where they stood
/// between them.
fn merge_items(node: Node, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let step =
        |items: &[Value]| -> Vec<Option<PathElement>> { items.iter().map(|i| node.element_of(i).ok()).collect() };
    let (live_steps, applied_steps) = (step(live), step(applied));
    // An item that the live list repeats is not merged with but replaced.
    let mut in_live: BTreeMap<&PathElement, Option<&Value>> = BTreeMap::new();
    for (element, item) in live_steps.iter().zip(live) {
        if let Some(element) = element {
            in_live.entry(element).and_modify(|known| *known = None).or_insert(Some(item));
        }
    }
    let in_applied: BTreeSet<&PathElement> = applied_steps.iter().flatten().collect();
    let combined = |element: Option<&PathElement>, item: &Value| -> Value {
        let before = element.and_then(|e| in_live.get(e).copied().flatten());
        match before {
            Some(before) => merge(node.item(), before, item).unwrap_or_else(|| item.clone()),
            None => fresh(node.item(), item),
        }
    };

    let mut shared = applied_steps.iter().flatten().filter(|e| in_live.contains_key(e)).peekable();
    let mut done: BTreeSet<&PathElement> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let (mut l, mut a) = (0, 0);
    while l < live.len() || a < applied.len() {
        if let Some(Some(here)) = live_steps.get(l) {
            if applied_steps.get(a).and_then(Option::as_ref) == Some(here) {
                out.push(combined(Some(here), &applied[a]));
                done.insert(here);
                shared.next();
                l += 1;
                a += 1;
                continue;
            }
            if !in_applied.contains(here) {
                out.push(live[l].clone());
                l += 1;
                continue;
            }
            // It comes when the applied order gets there.
            let waits = a < applied.len() && shared.peek().is_some_and(|next| *next != here);
            if waits || done.contains(here) {
                l += 1;
                continue;
            }
        } else if l < live.len() {
            out.push(live[l].clone());
            l += 1;
            continue;
        }
        if let Some(element) = applied_steps.get(a) {
            out.push(combined(element.as_ref(), &applied[a]));
            if let Some(element) = element {
                done.insert(element);
                if shared.peek() == Some(&element) {
                    shared.next();
                }
            }
            a += 1;
        } else {
            // Shared, but the applied list is at its end: it has been placed.
            l += 1;
        }
    }
    out
}
