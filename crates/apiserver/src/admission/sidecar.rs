//! New pods get the containers of the Sidecars of their namespace that select them.

use api::injection::{IMAGE, inject as into};
use serde_json::Value;

use super::Attributes;
use crate::failure::Outcome;

/// The webhook of `hythe operator`.
const OPERATOR: &str = "hythe-operator";

pub(super) fn inject(request: &Attributes<'_>, pod: &mut Value) -> Outcome<()> {
    let sidecars = request.objects("sidecars.patterns.hythe.dev", request.namespace);
    if sidecars.is_empty() {
        return Ok(());
    }
    // An operator that serves a webhook of its own does it: the image is the one that it was told.
    let webhooks = request.objects("mutatingwebhookconfigurations.admissionregistration.k8s.io", "");
    if webhooks.iter().any(|webhook| webhook.parse()["metadata"]["name"] == OPERATOR) {
        return Ok(());
    }
    let sidecars: Vec<Value> = sidecars.iter().map(|sidecar| sidecar.parse()).collect();
    if into(pod, sidecars.iter(), IMAGE) {
        // What came with them has no defaults yet.
        (request.resource.strategy.default)(pod);
    }
    Ok(())
}
