//! Waiting for a volume to be attached to this node by others.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use grpc::Status;
use k8s_openapi::api::{
    core::v1::Node,
    storage::v1::{CSIDriver, VolumeAttachment},
};
use kube::{Api, runtime::WatchStreamExt};

use super::digest;
use crate::context::Context;

/// How long a pod waits before it says so (the kubelet's `podAttachAndMountTimeout`).
const PATIENCE: Duration = Duration::from_secs(123);

/// How the wait has ended.
pub enum Outcome {
    /// It is attached; what attaching it gave.
    Attached(BTreeMap<String, String>),
    /// Its driver does not attach, as is known by now.
    NotNeeded,
    /// Not yet.
    Late,
}

/// Waits until the volume is attached to this node and its Node says so, or is known not to need that. Why it can't be
/// attached is told by who attaches. `unique_name` is the Node's of the volume.
pub async fn wait(context: &Context, unique_name: &str, handle: &str, driver: &str) -> Outcome {
    let own = &context.config.node_name;
    let attachment = format!("csi-{}", digest(&[handle, driver, own]));
    let client = || context.client.clone();
    let mut attachments = watching::one(Api::<VolumeAttachment>::all(client()), &attachment).applied_objects();
    let mut drivers = watching::one(Api::<CSIDriver>::all(client()), driver).applied_objects();
    let mut nodes = watching::one(Api::<Node>::all(client()), own).applied_objects();
    let (mut gave, mut told) = (None, false);
    let wait = async {
        loop {
            tokio::select! {
                Some(change) = attachments.next() => {
                    let Ok(attachment) = change else { continue };
                    let error = attachment.status.as_ref().and_then(|status| status.attach_error.as_ref());
                    if error.and_then(|error| error.error_code) == i32::try_from(Status::RESOURCE_EXHAUSTED).ok() {
                        context.csi.exhaust(driver);
                    }
                    let there = attachment.metadata.deletion_timestamp.is_none();
                    let status = attachment.status.filter(|status| there && status.attached);
                    gave = status.map(|status| status.attachment_metadata.unwrap_or_default());
                }
                Some(change) = nodes.next() => {
                    let Ok(node) = change else { continue };
                    let attached = node.status.and_then(|status| status.volumes_attached).unwrap_or_default();
                    told = attached.iter().any(|volume| volume.name == unique_name);
                }
                Some(change) = drivers.next() => {
                    if change.is_ok_and(|driver| driver.spec.attach_required == Some(false)) {
                        return Outcome::NotNeeded;
                    }
                }
                else => return Outcome::Late,
            }
            if let Some(gave) = gave.take_if(|_| told) {
                return Outcome::Attached(gave);
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or(Outcome::Late)
}
