//! Volumes and claims stay while someone uses them: a finalizer holds each from its first moment.

use serde_json::{Value, json};

use super::Attributes;
use crate::failure::Outcome;

pub(super) fn finalize(request: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
    let finalizer = match request.resource.plural {
        "persistentvolumes" => "kubernetes.io/pv-protection",
        "volumeattributesclasses" => "kubernetes.io/vac-protection",
        _ => "kubernetes.io/pvc-protection",
    };
    match object["metadata"]["finalizers"].as_array_mut() {
        Some(present) if present.iter().any(|f| f == finalizer) => {}
        Some(present) => present.push(finalizer.into()),
        None => object["metadata"]["finalizers"] = json!([finalizer]),
    }
    Ok(())
}
