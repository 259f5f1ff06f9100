//! Claims that are to grow: all volumes are made larger by others, and the claim's events say that one waits for them.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use recording::Recorder;

use crate::{Shared, informer::Change};

/// Runs until it is dropped.
pub(crate) async fn run(shared: Shared) {
    let recorder = Recorder::start(shared.client.clone(), "volume_expand");
    shared.claims.synced().await;
    shared.claims.listen(move |change| {
        let Change::Applied { old: Some(old), new } = change else { return };
        if grows(old, new) {
            recorder.normal(&**new, "ExternalExpanding", "waiting for an external controller to expand this PVC");
        }
    });
    std::future::pending().await
}

/// Whether a bound claim asks for more than it did before, and than it has.
fn grows(old: &PersistentVolumeClaim, new: &PersistentVolumeClaim) -> bool {
    let has = new.status.as_ref().and_then(|s| s.capacity.as_ref()).and_then(|c| c.get("storage"));
    let has = has.and_then(|has| has.0.parse().ok());
    let asks = claims::requested(new);
    claims::is_bound(new) && asks > claims::requested(old) && asks > has
}
