//! How strategic merge patch merges and orders lists.

use serde_json::Value;

use super::{DIRECTIVE, Error, ListMeta, go_type, merge_map, plain};
use crate::patch::go_text;

/// Merges two lists whose schema has the merge strategy.
pub(super) fn merge(original: Vec<Value>, patch: Vec<Value>, meta: ListMeta) -> Result<Vec<Value>, Error> {
    let Some(objects) = holds_objects(&original, &patch)? else {
        return Ok(original);
    };
    let key = meta.merge_key.unwrap_or("");
    if !objects {
        let before = original.clone();
        let mut merged = original;
        for item in &patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return arrange(merged, &patch, &before, "");
    }
    if key.is_empty() {
        return Err(Error::NoKeyDeclared);
    }
    let (original, patch) = obey_directives(original, patch, key)?;
    let mut merged = original.clone();
    for item in &patch {
        let Value::Object(new) = item else {
            return Err(Error::NotAMap(0));
        };
        let id = new.get(key).ok_or_else(|| no_key(item, key))?;
        match position(&merged, key, id)? {
            Some(at) => {
                if let Value::Object(old) = merged[at].take() {
                    merged[at] = Value::Object(merge_map(old, new.clone(), meta.item)?);
                }
            }
            None => merged.extend(plain(item.clone())),
        }
    }
    arrange(merged, &patch, &original, key)
}

/// Deletes what items with `$patch: delete` name; with `$patch: replace` anywhere, the patch is the list.
fn obey_directives(mut original: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let (mut rest, mut replace) = (Vec::with_capacity(patch.len()), false);
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            rest.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let id = item.get(key).ok_or_else(|| no_key(&item, key))?;
                while let Some(at) = position(&original, key, id)? {
                    original.remove(at);
                }
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(Error::MergeDirective),
            _ => return Err(Error::Directive(go_text(directive), go_text(&item))),
        }
    }
    Ok(if replace { (rest, Vec::new()) } else { (original, rest) })
}

/// Orders a merged list: what `order` names comes in that order; the others keep theirs and are woven in
/// by where they stood in `before`.
pub(super) fn arrange(merged: Vec<Value>, order: &[Value], before: &[Value], key: &str) -> Result<Vec<Value>, Error> {
    let id = |item: &Value| -> Result<Value, Error> {
        match (key, item) {
            ("", scalar) => Ok(scalar.clone()),
            (_, Value::Object(map)) => map.get(key).cloned().ok_or_else(|| no_key(item, key)),
            (_, other) => Err(Error::Type("map[string]interface {}", go_type(other))),
        }
    };
    let loose = |item: &Value| match key {
        "" => Some(item.clone()),
        _ => item.get(key).cloned(),
    };
    let order: Vec<_> = order.iter().map(loose).collect();
    let before: Vec<_> = before.iter().map(loose).collect();
    let rank = |ids: &[Option<Value>], wanted: &Value| ids.iter().position(|id| id.as_ref() == Some(wanted));

    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        let id = id(&item)?;
        let was = rank(&before, &id);
        match rank(&order, &id) {
            Some(at) => named.push((at, was, item)),
            None => others.push((was.unwrap_or(usize::MAX), was, item)),
        }
    }
    named.sort_by_key(|(at, ..)| *at);
    others.sort_by_key(|(at, ..)| *at);

    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some((_, Some(other), _)), Some((_, Some(named), _))) => other < named,
            (Some(_), Some(_)) => false,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return Ok(out),
        };
        let next = if other_first { others.next() } else { named.next() };
        out.extend(next.map(|(_, _, item)| item));
    }
}

/// The patch's items must stand in the order that `$setElementOrder` gives.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let key = key.unwrap_or("");
    let mut wanted = order.iter();
    for item in patch {
        if !key.is_empty() && item.get(DIRECTIVE).is_some() {
            continue;
        }
        let found = loop {
            let Some(candidate) = wanted.next() else {
                break false;
            };
            if same(item, candidate, key)? {
                break true;
            }
        };
        if !found {
            let text = |items: &[Value]| go_text(&Value::Array(items.to_vec()));
            return Err(Error::OrderMismatch(text(patch), text(order)));
        }
    }
    Ok(())
}

fn same(left: &Value, right: &Value, key: &str) -> Result<bool, Error> {
    if key.is_empty() {
        return Ok(left == right);
    }
    let id = |item: &Value| -> Result<Value, Error> {
        match item {
            Value::Object(map) => map.get(key).cloned().ok_or_else(|| no_key(item, key)),
            other => Err(Error::Type("map[string]interface {}", go_type(other))),
        }
    };
    Ok(id(left)? == id(right)?)
}

fn no_key(item: &Value, key: &str) -> Error {
    Error::NoMergeKey(go_text(item), key.to_owned())
}

fn position(items: &[Value], key: &str, id: &Value) -> Result<Option<usize>, Error> {
    for (index, item) in items.iter().enumerate() {
        if !item.is_object() {
            return Err(Error::NotAMap(index));
        }
        if item.get(key) == Some(id) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Whether the items of both lists are objects; `None` if there are no items.
fn holds_objects(original: &[Value], patch: &[Value]) -> Result<Option<bool>, Error> {
    let mut all = original.iter().chain(patch);
    let Some(first) = all.next() else {
        return Ok(None);
    };
    if first.is_array() {
        return Err(Error::ListOfLists);
    }
    if all.any(|item| go_type(item) != go_type(first)) {
        let text = |items: &[Value]| go_text(&Value::Array(items.to_vec()));
        return Err(Error::MixedTypes(format!("[{} {}]", text(original), text(patch))));
    }
    Ok(Some(first.is_object()))
}
