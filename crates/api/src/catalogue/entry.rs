//! How an entry is written down: what most kinds share is the default.

use serde_json::Value;

use crate::{
    resource::{Resource, Storage, Subresource},
    schema::Type,
    strategy, table,
};

/// Verbs of an ordinary kind.
const ORDINARY: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Verbs of a subresource that is part of the object.
pub const PART: &[&str] = &["get", "patch", "update"];

/// A kind in the making.
pub struct Entry(Resource);

/// An ordinary kind: in a namespace, with all verbs, stored in its own version.
pub fn namespaced(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    schema: &'static Type,
) -> Entry {
    let prefix = if group.is_empty() { plural } else { leak(format!("{plural}.{group}")) };
    Entry(Resource {
        group,
        version,
        api_version: if group.is_empty() { version } else { leak(format!("{group}/{version}")) },
        kind,
        plural,
        singular: leak(kind.to_ascii_lowercase()),
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: ORDINARY,
        subresources: &[],
        replicas_at: "/spec/replicas",
        deprecation: None,
        schema,
        storage: Storage { prefix, version: (group, version), to_stored: None, from_stored: None },
        strategy: strategy::for_kind(group, kind),
        columns: table::columns(group, kind),
        selectable: &[],
    })
}

/// The same outside of namespaces.
pub fn cluster(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    schema: &'static Type,
) -> Entry {
    let mut entry = namespaced(group, version, kind, plural, schema);
    entry.0.namespaced = false;
    entry
}

impl Entry {
    pub fn short(mut self, names: &'static [&'static str]) -> Self {
        self.0.short_names = names;
        self
    }

    pub fn category(mut self, categories: &'static [&'static str]) -> Self {
        self.0.categories = categories;
        self
    }

    pub fn verbs(mut self, verbs: &'static [&'static str]) -> Self {
        self.0.verbs = verbs;
        self
    }

    /// Another singular name than the kind in lower case.
    pub fn singular(mut self, name: &'static str) -> Self {
        self.0.singular = name;
        self
    }

    /// A kind that upstream warns of.
    pub fn deprecated(mut self, warning: &'static str) -> Self {
        self.0.deprecation = Some(warning);
        self
    }

    /// A kind that has a status.
    pub fn status(self) -> Self {
        let kind = self.0.kind;
        self.sub("status", kind, PART)
    }

    /// A kind that can be scaled.
    pub fn scale(mut self) -> Self {
        self.add(Subresource { name: "scale", kind: "Scale", group_version: Some(("autoscaling", "v1")), verbs: PART });
        self
    }

    /// The same with the number of replicas elsewhere, and the selector as text in its status.
    pub fn scale_at(mut self, replicas: &'static str) -> Self {
        self.0.replicas_at = replicas;
        self.scale()
    }

    pub fn sub(mut self, name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Self {
        self.add(Subresource { name, kind, group_version: None, verbs });
        self
    }

    /// A subresource whose kind is of another group or version.
    pub fn foreign(
        mut self,
        name: &'static str,
        group_version: (&'static str, &'static str),
        kind: &'static str,
        verbs: &'static [&'static str],
    ) -> Self {
        self.add(Subresource { name, kind, group_version: Some(group_version), verbs });
        self
    }

    pub fn selectable(mut self, fields: &'static [(&'static str, &'static str)]) -> Self {
        self.0.selectable = fields;
        self
    }

    /// Stored as another kind's entry is.
    pub fn stored_as(
        mut self,
        prefix: &'static str,
        version: (&'static str, &'static str),
        to_stored: fn(&mut Value),
        from_stored: fn(&mut Value),
    ) -> Self {
        self.0.storage = Storage { prefix, version, to_stored: Some(to_stored), from_stored: Some(from_stored) };
        self
    }

    pub fn finish(self) -> Resource {
        self.0
    }

    fn add(&mut self, subresource: Subresource) {
        let mut all: Vec<Subresource> = Vec::with_capacity(self.0.subresources.len() + 1);
        all.extend(self.0.subresources.iter().map(|s| Subresource { ..*s }));
        all.push(subresource);
        all.sort_by_key(|s| s.name);
        self.0.subresources = Box::leak(all.into_boxed_slice());
    }
}

/// The catalogue is made once and lives as long as the process.
fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}
