//! Sets of field paths, and `metav1.FieldsV1`, their JSON form.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{element::PathElement, walk::Node};

/// Steps from the root of an object.
pub type Path = Vec<PathElement>;

/// A set of field paths, as a tree. A path in the set says nothing of those above or below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Sorted by element; each is a member, or has children, or both.
    pub(super) nodes: Vec<SetNode>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SetNode {
    pub(super) element: PathElement,
    pub(super) member: bool,
    pub(super) children: FieldSet,
}

/// A `FieldsV1` that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseFieldsError(pub String);

impl FieldSet {
    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many paths are in the set.
    pub fn len(&self) -> usize {
        self.nodes.iter().map(|n| usize::from(n.member) + n.children.len()).sum()
    }

    /// Adds a path; those above it are not added. The empty path can't be in a set.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let at = match self.find(first) {
            Ok(at) => at,
            Err(at) => {
                let node = SetNode { element: first.clone(), member: false, children: Self::default() };
                self.nodes.insert(at, node);
                at
            }
        };
        match rest {
            [] => self.nodes[at].member = true,
            _ => self.nodes[at].children.insert(rest),
        }
    }

    /// Whether the path is in the set.
    pub fn contains(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.get(last).is_some_and(|n| n.member),
            [first, rest @ ..] => self.get(first).is_some_and(|n| n.children.contains(rest)),
        }
    }

    /// The paths in either set.
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |left, right| match (left, right) {
            (Some(l), Some(r)) => Some((l.member || r.member, l.children.union(&r.children))),
            (Some(n), None) | (None, Some(n)) => Some((n.member, n.children.clone())),
            (None, None) => None,
        })
    }

    /// The paths in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |left, right| match (left, right) {
            (Some(l), Some(r)) => Some((l.member && r.member, l.children.intersection(&r.children))),
            _ => None,
        })
    }

    /// The paths in this set that are not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        self.zip(other, |left, right| match (left, right) {
            (Some(l), Some(r)) => Some((l.member && !r.member, l.children.difference(&r.children))),
            (Some(l), None) => Some((l.member, l.children.clone())),
            _ => None,
        })
    }

    fn zip(
        &self,
        other: &Self,
        mut with: impl FnMut(Option<&SetNode>, Option<&SetNode>) -> Option<(bool, Self)>,
    ) -> Self {
        let (mut left, mut right) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        let mut nodes = Vec::with_capacity(self.nodes.len());
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some(l), Some(r)) => l.element.cmp(&r.element),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Self { nodes },
            };
            let l = if order.is_le() { left.next() } else { None };
            let r = if order.is_ge() { right.next() } else { None };
            let Some(element) = l.or(r).map(|n| &n.element) else {
                return Self { nodes };
            };
            if let Some((member, children)) = with(l, r)
                && (member || !children.is_empty())
            {
                nodes.push(SetNode { element: element.clone(), member, children });
            }
        }
    }

    /// The paths in upstream's order: members of a level before what lies below.
    pub fn paths(&self) -> Vec<Path> {
        let mut found = Vec::with_capacity(self.len());
        self.collect_paths(&mut Vec::new(), &mut found);
        found
    }

    fn collect_paths(&self, prefix: &mut Path, found: &mut Vec<Path>) {
        for node in self.nodes.iter().filter(|n| n.member) {
            found.push(prefix.iter().chain([&node.element]).cloned().collect());
        }
        for node in &self.nodes {
            prefix.push(node.element.clone());
            node.children.collect_paths(prefix, found);
            prefix.pop();
        }
    }

    /// Reads `FieldsV1`. Steps of unknown kinds are dropped, as upstream does.
    pub fn from_fields(fields: &Value) -> Result<Self, ParseFieldsError> {
        Ok(Self::read(fields)?.1)
    }

    /// Whether this place is a member, and what lies below.
    fn read(fields: &Value) -> Result<(bool, Self), ParseFieldsError> {
        let Value::Object(map) = fields else {
            return Err(ParseFieldsError("expected an object".to_owned()));
        };
        let (mut member, mut nodes) = (false, Vec::with_capacity(map.len()));
        for (key, below) in map {
            if key == "." {
                member = true;
                continue;
            }
            let Some(element) = PathElement::from_fields_key(key).map_err(ParseFieldsError)? else {
                continue;
            };
            let (member, children) = Self::read(below)?;
            nodes.push(SetNode { element, member, children });
        }
        if !nodes.is_sorted_by(|a, b| a.element < b.element) {
            nodes.sort_by(|a, b| a.element.cmp(&b.element));
            nodes.dedup_by(|a, b| a.element == b.element);
        }
        Ok((member || nodes.is_empty(), Self { nodes }))
    }

    /// Writes `FieldsV1` in canonical order.
    pub fn to_fields(&self) -> Value {
        Value::Object(self.write(false))
    }

    fn write(&self, member: bool) -> Map<String, Value> {
        let mut map = Map::with_capacity(self.nodes.len() + usize::from(member));
        if member && !self.nodes.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for node in &self.nodes {
            map.insert(node.element.to_fields_key(), Value::Object(node.children.write(node.member)));
        }
        map
    }

    pub(super) fn find(&self, element: &PathElement) -> Result<usize, usize> {
        self.nodes.binary_search_by(|n| n.element.cmp(element))
    }

    pub(super) fn get(&self, element: &PathElement) -> Option<&SetNode> {
        self.find(element).ok().map(|at| &self.nodes[at])
    }

    /// Appends what is greater than all that is there, unless it is empty.
    pub(super) fn push(&mut self, element: PathElement, member: bool, children: Self) {
        if member || !children.is_empty() {
            debug_assert!(self.nodes.last().is_none_or(|last| last.element < element));
            self.nodes.push(SetNode { element, member, children });
        }
    }

    /// Adds the declared fields that the paths lead through: with `a.b.c`, `a` too, if it is a field of a type.
    pub(super) fn with_named_fields(&self, node: Node) -> Self {
        let nodes = self.nodes.iter().map(|n| {
            let named = match (node, n.element.as_field()) {
                (Node::Struct(of), Some(name)) => of.field(name).is_some() && !n.children.is_empty(),
                _ => false,
            };
            SetNode {
                element: n.element.clone(),
                member: n.member || named,
                children: n.children.with_named_fields(node.child(&n.element)),
            }
        });
        Self { nodes: nodes.collect() }
    }
}
