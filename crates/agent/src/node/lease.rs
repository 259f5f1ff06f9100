//! The node's Lease: renewed every ten seconds, as the API promises.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// Seconds a lease is good for.
const DURATION: i32 = 40;
/// Between renewals.
const PERIOD: Duration = Duration::from_secs(10);

/// Renews until `stop`. After a silence that outlasted the lease (the machine slept, the network was gone) it says so:
/// what others have made of the node meanwhile is to be set right.
pub async fn renew(context: Arc<Context>, node: Node, stop: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(context.client.clone(), "kube-node-lease");
    let name = node.metadata.name.clone().unwrap_or_default();
    let mut exists = false;
    let mut renewed = Timestamp::now();
    loop {
        let at = Timestamp::now();
        let now = MicroTime(at);
        let result = if exists {
            let patch = serde_json::json!({"spec": {"renewTime": now, "holderIdentity": name, "leaseDurationSeconds": DURATION}});
            api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await
        } else {
            api.create(&PostParams::default(), &lease(&node, &name, now)).await
        };
        let mut wait = PERIOD;
        match result {
            Ok(_) => {
                exists = true;
                if ran_out(renewed, at) {
                    context.returned.notify_one();
                }
                renewed = at;
            }
            Err(kube::Error::Api(status)) if status.code == 409 && !exists => {
                exists = true;
                continue;
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                // The namespace may not be there yet, or someone deleted the lease.
                exists = false;
                wait = Duration::from_secs(1);
            }
            Err(error) => {
                tracing::debug!(%error, "the node's lease could not be renewed yet");
                wait = Duration::from_secs(2);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Whether a lease that was renewed then was no good any more; also by a clock that jumped, which costs one report.
fn ran_out(renewed: Timestamp, now: Timestamp) -> bool {
    now.duration_since(renewed) > SignedDuration::from_secs(DURATION.into())
}

fn lease(node: &Node, name: &str, now: MicroTime) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("kube-node-lease".to_owned()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.to_owned(),
                uid: node.metadata.uid.clone().unwrap_or_default(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.to_owned()),
            lease_duration_seconds: Some(DURATION),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_runs_out_after_its_duration_and_not_between_renewals() {
        let start = Timestamp::UNIX_EPOCH;
        let after = |seconds| ran_out(start, start + SignedDuration::from_secs(seconds));
        assert!(!after(10) && !after(40) && after(41) && after(3600));
        assert!(!after(-3600), "a clock that was set back says nothing");
    }
}
