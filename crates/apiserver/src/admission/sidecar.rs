//! New pods get the containers of the Sidecars of their namespace that select them; here no webhook of an operator does it.

use api::injection::{IMAGE, inject as into};
use serde_json::Value;

use super::Attributes;
use crate::failure::Outcome;

pub(super) fn inject(request: &Attributes<'_>, pod: &mut Value) -> Outcome<()> {
    let sidecars = request.objects("sidecars.patterns.hythe.dev", request.namespace);
    if sidecars.is_empty() {
        return Ok(());
    }
    let sidecars: Vec<Value> = sidecars.iter().map(|sidecar| sidecar.parse()).collect();
    if into(pod, sidecars.iter(), IMAGE) {
        // What came with them has no defaults yet.
        (request.resource.strategy.default)(pod);
    }
    Ok(())
}
