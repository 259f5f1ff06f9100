//! Which objects of a kind a list, watch or deletecollection means.

use api::{
    resource::Resource,
    selector::{FieldSelector, LabelSelector},
    status::Status,
};

use crate::{
    cache::{Cached, KindCache},
    failure::Outcome,
    version,
};

/// Label and field selector together.
#[derive(Clone)]
pub(crate) struct Selection {
    resource: &'static Resource,
    labels: LabelSelector,
    fields: FieldSelector,
    /// The only name that can match.
    pub name: Option<String>,
    /// The only namespace that can match.
    pub namespace: Option<String>,
    /// No fact but the key needs to be looked at.
    by_key: bool,
}

impl Selection {
    /// Reads both selectors; a faulty one is 400.
    pub fn parse(resource: &'static Resource, labels: &str, fields: &str) -> Outcome<Selection> {
        let labels = if labels.is_empty() {
            LabelSelector::everything()
        } else {
            LabelSelector::parse(labels).map_err(|e| Status::bad_request(e.to_string()))?
        };
        let fields = FieldSelector::parse(fields).map_err(|e| Status::bad_request(e.to_string()))?;
        fields.check(resource.namespaced, resource.selectable).map_err(|e| Status::bad_request(e.to_string()))?;
        let key_only = fields.requirements().iter().all(|r| r.equal && r.field.starts_with("metadata.name"));
        Ok(Selection {
            resource,
            name: fields.required("metadata.name").map(str::to_owned),
            namespace: fields.required("metadata.namespace").map(str::to_owned),
            by_key: labels.is_everything() && key_only,
            labels,
            fields,
        })
    }

    /// The value that a field must have, if the selector says so.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.fields.required(field)
    }

    /// Whether every object of the collection is meant.
    pub fn is_everything(&self) -> bool {
        self.by_key && self.name.is_none() && self.namespace.is_none()
    }

    /// Whether this object is meant.
    pub fn wants(&self, kind: &KindCache, object: &Cached) -> bool {
        if self.is_everything() {
            return true;
        }
        if self.name.as_ref().is_some_and(|name| kind.name_of(&object.key) != name) {
            return false;
        }
        if self.namespace.as_ref().is_some_and(|namespace| kind.namespace_of(&object.key) != namespace) {
            return false;
        }
        if self.by_key {
            return true;
        }
        if version::is_stored(self.resource) {
            return self.matches(object.facts(kind.selectable));
        }
        // Another version names its fields otherwise.
        self.matches(&version::served_tree(self.resource, object))
    }

    fn matches(&self, object: &serde_json::Value) -> bool {
        self.labels.matches_object(object) && self.fields.matches(object, self.resource.selectable)
    }
}
