//! A claim grows only if it is bound and its class lets volumes grow.

use api::quantity::Quantity;
use serde_json::Value;

use super::Attributes;
use crate::failure::Outcome;

pub(super) fn judge(request: &Attributes<'_>, claim: &mut Value) -> Outcome<()> {
    let Some(old) = request.old else { return Ok(()) };
    let size = |claim: &Value| Quantity::from_json(&claim["spec"]["resources"]["requests"]["storage"]).ok();
    let (Some(new_size), Some(old_size)) = (size(claim), size(old)) else { return Ok(()) };
    if new_size <= old_size {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let class_of = |claim: &Value| {
        let beta = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
        beta.or(claim["spec"]["storageClassName"].as_str()).unwrap_or("").to_owned()
    };
    let class = class_of(claim);
    let may_grow = !class.is_empty() && class == class_of(old) && {
        let class = request.server.cache.kind("storageclasses.storage.k8s.io").named("", &class);
        class.is_some_and(|class| class.parse()["allowVolumeExpansion"] == true)
    };
    if may_grow {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(request.forbidden(why))
}
