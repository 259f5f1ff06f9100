//! The node's Lease: renewed every ten seconds, as the API promises.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use tokio_util::sync::CancellationToken;

/// Seconds a lease is good for.
const DURATION: i32 = 40;
/// Between renewals.
const PERIOD: Duration = Duration::from_secs(10);

/// Renews until `stop`.
pub async fn renew(client: Client, node: Node, stop: CancellationToken) {
    let api: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let name = node.metadata.name.clone().unwrap_or_default();
    let mut exists = false;
    loop {
        let now = MicroTime(Timestamp::now());
        let result = if exists {
            let patch = serde_json::json!({"spec": {"renewTime": now, "holderIdentity": name, "leaseDurationSeconds": DURATION}});
            api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await
        } else {
            api.create(&PostParams::default(), &lease(&node, &name, now)).await
        };
        let mut wait = PERIOD;
        match result {
            Ok(_) => exists = true,
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
