//! Downward API files: the pod's own fields. Pure.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod};

use super::{
    content::{Content, File, mode},
    key_projection::legal_path,
};
use crate::spec::{
    field_reference::{self, PodFacts},
    resource_reference::{self, Allocatable},
};

/// The files.
pub fn project(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: Option<i32>,
    node: Allocatable,
) -> Result<Content, String> {
    let mut out = Content::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            field_reference::value(pod, &PodFacts::default(), &field.field_path)
                .ok_or_else(|| format!("unsupported fieldPath: {}", field.field_path))?
        } else if let Some(selector) = &item.resource_field_ref {
            resource_reference::value(pod, None, selector, node)?
        } else {
            return Err(format!("{}: neither fieldRef nor resourceFieldRef", item.path));
        };
        out.insert(
            legal_path(&item.path)?,
            File { bytes: text.into_bytes(), mode: mode(item.mode, default_mode), owner: None },
        );
    }
    Ok(out)
}
