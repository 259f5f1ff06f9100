//! What changed between two objects, as field paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    element::PathElement,
    fieldset::FieldSet,
    walk::{Node, View},
    zero::{always_there, is_reset, is_unowned_metadata},
};
use crate::schema::Type;

/// The fields by which two objects differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Only in the new one.
    pub added: FieldSet,
    /// In both, with other values.
    pub modified: FieldSet,
    /// Only in the old one.
    pub removed: FieldSet,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

/// Compares two objects of type `of`; `None` is an object that does not exist yet. Fields that nobody owns
/// (names, versions, the managed fields themselves) and those that `subresource` does not write are left out.
pub fn compare(of: &'static Type, old: Option<&Value>, new: &Value, subresource: &str) -> Comparison {
    let none = Map::new();
    let old = old.and_then(Value::as_object).unwrap_or(&none);
    let new = new.as_object().unwrap_or(&none);
    let mut walk = Walk { place: Place::Root(subresource) };
    let diff = walk.fields(Node::Struct(of), Some(old), Some(new), true, true);
    Comparison { added: diff.added.below, modified: diff.modified.below, removed: diff.removed.below }
}

/// Compares below the root without leaving anything out (last-applied configurations).
pub(super) fn compare_whole(of: &'static Type, old: &Value, new: &Value) -> Comparison {
    let none = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&none), new.as_object().unwrap_or(&none));
    let mut walk = Walk { place: Place::Below };
    let diff = walk.fields(Node::Struct(of), Some(old), Some(new), true, true);
    Comparison { added: diff.added.below, modified: diff.modified.below, removed: diff.removed.below }
}

/// One of the three sets at one place: whether the place itself belongs to it, and what does below.
#[derive(Default)]
struct Part {
    here: bool,
    below: FieldSet,
}

#[derive(Default)]
struct Diff {
    added: Part,
    modified: Part,
    removed: Part,
}

impl Diff {
    fn push(&mut self, element: PathElement, diff: Diff) {
        let mut element = Some(element);
        let parts =
            [(&mut self.added, diff.added), (&mut self.modified, diff.modified), (&mut self.removed, diff.removed)];
        let wanted = parts.iter().filter(|(_, part)| part.here || !part.below.is_empty()).count();
        let mut left = wanted;
        for (into, part) in parts {
            if part.here || !part.below.is_empty() {
                left -= 1;
                let element = if left == 0 { element.take() } else { element.clone() };
                if let Some(element) = element {
                    into.below.push(element, part.here, part.below);
                }
            }
        }
    }

    fn leaf(old: bool, new: bool) -> Self {
        let mut diff = Self::default();
        match (old, new) {
            (false, true) => diff.added.here = true,
            (true, false) => diff.removed.here = true,
            (true, true) => diff.modified.here = true,
            (false, false) => {}
        }
        diff
    }
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Root(&'a str),
    Metadata,
    Below,
}

struct Walk<'a> {
    place: Place<'a>,
}

impl Walk<'_> {
    /// `old_there` and `new_there`: whether upstream's object would hold something here, be it empty.
    fn value(
        &mut self,
        node: Node,
        old: Option<&Value>,
        new: Option<&Value>,
        old_there: bool,
        new_there: bool,
    ) -> Diff {
        let old = old.filter(|v| !v.is_null());
        let new = new.filter(|v| !v.is_null());
        match (old.map(|v| node.view(v)), new.map(|v| node.view(v))) {
            (Some(View::Fields(old)), Some(View::Fields(new))) => self.fields(node, Some(old), Some(new), true, true),
            (Some(View::Fields(old)), None) => self.fields(node, Some(old), None, true, new_there),
            (None, Some(View::Fields(new))) => self.fields(node, None, Some(new), old_there, true),
            (Some(View::Items(old)), Some(View::Items(new))) => self.items(node, old, new, true, true),
            (Some(View::Items(old)), None) => self.items(node, old, &[], true, new_there),
            (None, Some(View::Items(new))) => self.items(node, &[], new, old_there, true),
            (None, Some(View::Leaf)) if old_there && new.is_some_and(is_zero) => Diff::default(),
            (Some(View::Leaf), None) if new_there && old.is_some_and(is_zero) => Diff::default(),
            (Some(_), Some(_)) if old.zip(new).is_some_and(|(old, new)| same(old, new)) => Diff::default(),
            _ => Diff::leaf(old.is_some(), new.is_some()),
        }
    }

    fn fields(
        &mut self,
        node: Node,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
        old_there: bool,
        new_there: bool,
    ) -> Diff {
        let place = self.place;
        let mut diff = Diff::default();
        for (key, was, is) in paired(old, new) {
            if skips(place, key) {
                continue;
            }
            let always = match node {
                Node::Struct(of) => of.field(key).is_some_and(|f| always_there(of, f, matches!(place, Place::Root(_)))),
                _ => false,
            };
            self.place = match place {
                Place::Root(_) if key == "metadata" => Place::Metadata,
                _ => Place::Below,
            };
            let there = |value: Option<&Value>, parent: bool| value.is_some_and(|v| !v.is_null()) || (parent && always);
            let below = self.value(node.field(key), was, is, there(was, old_there), there(is, new_there));
            diff.push(PathElement::field(key), below);
        }
        self.place = place;
        diff.added.here = !old_there && new_there;
        diff.removed.here = old_there && !new_there;
        diff
    }

    fn items(&mut self, node: Node, old: &[Value], new: &[Value], old_there: bool, new_there: bool) -> Diff {
        let mut found: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in old {
            if let Ok(element) = node.element_of(item) {
                found.entry(element).or_default().0.push(item);
            }
        }
        for item in new {
            if let Ok(element) = node.element_of(item) {
                found.entry(element).or_default().1.push(item);
            }
        }
        let mut diff = Diff::default();
        for (element, (was, is)) in found {
            let below = match (&was[..], &is[..]) {
                ([] | [_], [] | [_]) => {
                    let (was, is) = (was.first().copied(), is.first().copied());
                    self.value(node.item(), was, is, was.is_some(), is.is_some())
                }
                // Items that repeat are owned as one, as a whole.
                ([_, _, ..], [_, _, ..]) if was == is => Diff::default(),
                ([_, _, ..], [_, _, ..]) => Diff::leaf(true, true),
                ([_, _, ..], _) => {
                    let is = is.first().copied();
                    let mut below = self.value(node.item(), None, is, false, is.is_some());
                    below.removed.here = true;
                    below
                }
                (_, [_, _, ..]) => {
                    let was = was.first().copied();
                    let mut below = self.value(node.item(), was, None, was.is_some(), false);
                    below.added.here = true;
                    below
                }
            };
            diff.push(element, below);
        }
        diff.added.here = !old_there && new_there;
        diff.removed.here = old_there && !new_there;
        diff
    }
}

fn skips(place: Place<'_>, key: &str) -> bool {
    match place {
        Place::Root(subresource) => matches!(key, "apiVersion" | "kind") || is_reset(key, subresource),
        Place::Metadata => is_unowned_metadata(key),
        Place::Below => false,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        _ => false,
    }
}

type Pair<'a> = (&'a str, Option<&'a Value>, Option<&'a Value>);

/// The fields of both, by name; those that are alike are left out.
fn paired<'a>(old: Option<&'a Map<String, Value>>, new: Option<&'a Map<String, Value>>) -> Vec<Pair<'a>> {
    let mut pairs: Vec<Pair<'a>> = Vec::with_capacity(new.or(old).map_or(0, Map::len));
    for (key, was) in old.into_iter().flatten() {
        let is = new.and_then(|new| new.get(key));
        if !is.is_some_and(|is| same(was, is)) {
            pairs.push((key, Some(was), is));
        }
    }
    for (key, is) in new.into_iter().flatten() {
        if !old.is_some_and(|old| old.contains_key(key)) {
            pairs.push((key, None, Some(is)));
        }
    }
    pairs.sort_unstable_by_key(|(key, ..)| *key);
    pairs
}

/// Equality that is quick for maps in the same order, as most are.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(
                    |((ak, av), (bk, bv))| {
                        if ak == bk { same(av, bv) } else { b.get(ak).is_some_and(|bv| same(av, bv)) }
                    },
                )
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => left == right,
    }
}
