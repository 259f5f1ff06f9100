//! Nothing is made in a namespace that is missing or on its way out, and some namespaces stay.

use api::status::{Cause, Status};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::failure::Outcome;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn judge(request: &Attributes<'_>, _: &mut Value) -> Outcome<()> {
    let resource = request.resource;
    if request.operation == Operation::Delete {
        if resource.group.is_empty() && resource.plural == "namespaces" && IMMORTAL.contains(&request.name) {
            return Err(request.forbidden("this namespace may not be deleted"));
        }
        return Ok(());
    }
    if !resource.namespaced || request.namespace.is_empty() {
        return Ok(());
    }
    let Some(namespace) = request.server.cache.kind("namespaces").named("", request.namespace) else {
        return Err(Status::not_found("", "namespaces", request.namespace));
    };
    // The text is searched first, because parsing costs more than all else in a small create.
    let going = memchr::memmem::find(&namespace.bytes, b"\"deletionTimestamp\"").is_some()
        && namespace.parse()["metadata"]["deletionTimestamp"].is_string();
    if !going {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {} because it is being terminated", request.namespace);
    let mut status = Status::forbidden(resource.group, resource.plural, request.name, &why);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {} is being terminated", request.namespace),
            field: "metadata.namespace".into(),
        });
    }
    Err(status)
}
