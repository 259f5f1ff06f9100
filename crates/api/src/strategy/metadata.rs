//! `ObjectMeta`: what the server fills in, and what it refuses (`apimachinery/pkg/api/validation`,
//! `apiserver/pkg/registry/rest`).

use serde_json::{Value, json};

use super::{
    access::{copy, entries, flag, get, int, list, remove, same_field, set, text},
    field::{Faults, Path},
    names,
};
use crate::{
    resource::NameRule,
    status::{Cause, quoted},
};

/// The most that all keys and values of an object's annotations may take, in bytes.
pub const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Before a create: the server's own fields are what the server says. `now` is RFC 3339 in seconds.
/// The name must be there already (see [`generated_name`]). Call the strategy's `prepare_create` next.
pub fn prepare_create(object: &mut Value, uid: &str, now: &str) {
    let metadata = super::access::ensure_object(object, "metadata");
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation"] {
        remove(metadata, field);
    }
    set(metadata, "uid", uid);
    set(metadata, "creationTimestamp", now);
    omit_empty(metadata);
}

/// Before an update: what only the server changes is kept, and a uid that is not given is filled in.
/// Call the strategy's `prepare_update` next.
pub fn prepare_update(new: &mut Value, old: &Value) {
    let none = json!({});
    let from = get(old, "metadata").unwrap_or(&none);
    let metadata = super::access::ensure_object(new, "metadata");
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        copy(metadata, from, field);
    }
    remove(metadata, "selfLink");
    if text(metadata, "uid").is_empty() {
        copy(metadata, from, "uid");
    }
    omit_empty(metadata);
}

/// As upstream's encoding, which leaves out what is empty.
fn omit_empty(metadata: &mut Value) {
    for field in ["labels", "annotations", "ownerReferences", "finalizers"] {
        let is_empty = match metadata.get(field) {
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            _ => false,
        };
        if is_empty {
            remove(metadata, field);
        }
    }
}

/// Takes out references to an owner that say what an earlier one says, and gives the owners' uids.
pub fn deduplicate_owners(object: &mut Value) -> Vec<String> {
    let owners = object.get_mut("metadata").and_then(|metadata| metadata.get_mut("ownerReferences"));
    let Some(owners) = owners.and_then(Value::as_array_mut).filter(|owners| owners.len() > 1) else {
        return Vec::new();
    };
    let (mut kept, mut repeated): (Vec<Value>, _) = (Vec::with_capacity(owners.len()), Vec::new());
    for owner in owners.drain(..) {
        if kept.contains(&owner) {
            repeated.push(text(&owner, "uid").to_owned());
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    repeated
}

/// `base` cut so that it and the suffix fit into 63 characters (`names.SimpleNameGenerator`); the suffix is 5
/// characters of `bcdfghjklmnpqrstvwxz2456789` that the caller draws.
pub fn generated_name(base: &str, suffix: &str) -> String {
    let most = 63usize.saturating_sub(suffix.len());
    let mut end = base.len().min(most);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &base[..end])
}

/// All faults of a new object's metadata.
pub fn validate_create(object: &Value, rule: NameRule, namespaced: bool) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = json!({});
    let metadata = get(object, "metadata").unwrap_or(&none);
    let path = Path::root("metadata");
    let prefix = text(metadata, "generateName");
    if !prefix.is_empty() {
        faults.invalid_each(&path.field("generateName"), prefix, name_faults(prefix, rule, true));
    }
    match text(metadata, "name") {
        "" => faults.required(&path.field("name"), "name or generateName is required"),
        name => faults.invalid_each(&path.field("name"), name, name_faults(name, rule, false)),
    }
    match (namespaced, text(metadata, "namespace")) {
        (true, "") => faults.required(&path.field("namespace"), ""),
        (true, namespace) => {
            faults.invalid_each(&path.field("namespace"), namespace, names::dns1123_label(namespace));
        }
        (false, "") => {}
        (false, _) => faults.forbidden(&path.field("namespace"), "not allowed on this type"),
    }
    validate_written_fields(&mut faults, metadata);
    validate_standard_finalizers(&mut faults, object);
    faults.into_causes()
}

/// All faults of a change of metadata. The new object must have a resourceVersion by now (fill in the old one for
/// an unconditional update).
pub fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let none = json!({});
    let object = new;
    let (new, old) = (get(new, "metadata").unwrap_or(&none), get(old, "metadata").unwrap_or(&none));
    let path = Path::root("metadata");
    if get(old, "deletionTimestamp").is_some() {
        let before = list(old, "finalizers");
        let mut added: Vec<&str> =
            list(new, "finalizers").iter().filter(|each| !before.contains(each)).filter_map(Value::as_str).collect();
        added.sort_unstable();
        if !added.is_empty() {
            let added: Vec<_> = added.into_iter().map(quoted).collect();
            faults.forbidden(
                &path.field("finalizers"),
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    added.join(", ")
                ),
            );
        }
    }
    if text(new, "resourceVersion").is_empty() {
        faults.invalid(&path.field("resourceVersion"), "", "must be specified for an update");
    }
    let generation = int(new, "generation").unwrap_or(0);
    if generation < int(old, "generation").unwrap_or(0) {
        faults.invalid(&path.field("generation"), generation, "must not be decremented");
    }
    for field in ["name", "namespace", "uid"] {
        if text(new, field) != text(old, field) {
            faults.invalid(&path.field(field), text(new, field), IMMUTABLE);
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if !same_field(new, old, field) {
            faults.invalid(&path.field(field), get(new, field).unwrap_or(&Value::Null), IMMUTABLE);
        }
    }
    validate_written_fields(&mut faults, new);
    validate_standard_finalizers(&mut faults, object);
    faults.into_causes()
}

/// What upstream says of a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// What is wrong with a name; a prefix (`generateName`) may end in a dash.
pub fn name_faults(name: &str, rule: NameRule, prefix: bool) -> Vec<String> {
    let masked;
    let mut name = name;
    if prefix && rule != NameRule::PathSegment && name.len() > 1 && name.ends_with('-') {
        // The dash will be followed by a suffix: judged as if a letter stood there.
        masked = format!("{}a", &name[..name.len() - 1]);
        name = &masked;
    }
    match rule {
        NameRule::Subdomain => names::dns1123_subdomain(name),
        NameRule::Label => names::dns1123_label(name),
        NameRule::Label1035 => names::dns1035_label(name),
        NameRule::PathSegment => names::path_segment(name, prefix),
    }
}

/// Labels, annotations, owners and finalizers.
fn validate_written_fields(faults: &mut Faults, metadata: &Value) {
    let path = Path::root("metadata");
    validate_labels(faults, &path, metadata, "labels");
    validate_annotations(faults, &path.field("annotations"), metadata);
    validate_owners(faults, &path.field("ownerReferences"), metadata);
    validate_finalizers(faults, &path.field("finalizers"), metadata);
}

/// For the groups whose kinds have had finalizers without a domain: only the known ones may do without.
fn validate_standard_finalizers(faults: &mut Faults, object: &Value) {
    let api_version = text(object, "apiVersion");
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let strict = matches!(group, "" | "apps" | "batch" | "autoscaling" | "policy") || STRICT_GROUPS.contains(&group);
    if !strict {
        return;
    }
    let path = Path::root("metadata.finalizers");
    let finalizers = get(object, "metadata").map_or(&[][..], |metadata| list(metadata, "finalizers"));
    for (i, finalizer) in finalizers.iter().filter_map(Value::as_str).enumerate() {
        if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
            faults.invalid(
                &path.index(i),
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}

const STRICT_GROUPS: [&str; 6] = [
    "certificates.k8s.io",
    "discovery.k8s.io",
    "networking.k8s.io",
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// The labels in that field of `parent`.
pub fn validate_labels(faults: &mut Faults, path: &Path<'_>, parent: &Value, field: &str) {
    let path = path.field(field);
    for (key, value) in entries(parent, field) {
        let value = value.as_str().unwrap_or("");
        faults.invalid_each(&path, key, names::qualified_name(key));
        faults.invalid_each(&path, value, names::label_value(value));
    }
}

/// The `annotations` of a metadata.
pub fn validate_annotations(faults: &mut Faults, path: &Path<'_>, metadata: &Value) {
    let mut size = 0;
    for (key, value) in entries(metadata, "annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        let messages = if key.bytes().any(|b| b.is_ascii_uppercase()) {
            names::qualified_name(&key.to_lowercase())
        } else {
            names::qualified_name(key)
        };
        faults.invalid_each(path, key, messages);
    }
    if size > ANNOTATIONS_LIMIT {
        faults.too_long(path, ANNOTATIONS_LIMIT);
    }
}

fn validate_owners(faults: &mut Faults, path: &Path<'_>, metadata: &Value) {
    let mut controller: Option<String> = None;
    for owner in list(metadata, "ownerReferences") {
        let (api_version, kind) = (text(owner, "apiVersion"), text(owner, "kind"));
        let version = api_version.rsplit('/').next().unwrap_or("");
        if version.is_empty() {
            faults.invalid(&path.field("apiVersion"), api_version, "version must not be empty");
        }
        for (field, value) in [("kind", kind), ("name", text(owner, "name")), ("uid", text(owner, "uid"))] {
            if value.is_empty() {
                faults.invalid(&path.field(field), value, "must not be empty");
            }
        }
        if api_version == "v1" && kind == "Event" {
            faults.invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner");
        }
        if flag(owner, "controller") {
            let this = format!("{kind}/{}", text(owner, "name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => faults.invalid(
                    path,
                    get(metadata, "ownerReferences").unwrap_or(&Value::Null),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    ),
                ),
            }
        }
    }
}

fn validate_finalizers(faults: &mut Faults, path: &Path<'_>, metadata: &Value) {
    let finalizers = list(metadata, "finalizers");
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        faults.invalid_each(path, finalizer, names::qualified_name(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|each| each == name);
    if has("orphan") && has("foregroundDeletion") {
        faults.invalid(
            path,
            get(metadata, "finalizers").unwrap_or(&Value::Null),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}
