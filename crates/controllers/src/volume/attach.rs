//! Attachments: a VolumeAttachment for each CSI volume that pods of a node use, for drivers that attach. The driver's
//! own attacher does the work and says so in the status.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use claims::{is_bound, volume_name};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, Pod},
    storage::v1::{CSIDriver, VolumeAttachment},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use recording::Recorder;
use serde_json::json;
use sha2::Digest;
use tokio::task::JoinSet;

use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::{self, Change, Informer},
    queue::{Key, Queue},
};

struct Controller {
    shared: Shared,
    drivers: Informer<CSIDriver>,
    attachments: Informer<VolumeAttachment>,
    recorder: Recorder,
}

/// A key is a node.
pub(crate) async fn run(shared: Shared) {
    let mut tasks = JoinSet::new();
    let drivers = Informer::start(shared.client.clone(), informer::untouched, &mut tasks);
    let attachments = Informer::start(shared.client.clone(), informer::untouched, &mut tasks);
    let queue = Queue::default();
    shared.pods.synced().await;
    shared.claims.synced().await;
    shared.volumes.synced().await;
    drivers.synced().await;
    attachments.synced().await;
    let on_pod = queue.clone();
    shared.pods.listen(move |change| {
        let pod = change.object();
        let placed = |old: Option<&Arc<Pod>>| old.is_some_and(|old| node_of(old).is_some());
        let news = match &change {
            Change::Applied { old, .. } => !placed(*old),
            Change::Deleted(_) => true,
        };
        if let Some(node) = node_of(pod).filter(|_| news && claims_of(pod).next().is_some()) {
            on_pod.add(Key::new("", node));
        }
    });
    let (on_claim, pods) = (queue.clone(), shared.pods.clone());
    shared.claims.listen(move |change| {
        let claim = change.object();
        for pod in pods.in_namespace(&claim.namespace().unwrap_or_default()) {
            if let Some(node) = node_of(&pod).filter(|_| super::claim::uses(&pod, claim)) {
                on_claim.add(Key::new("", node));
            }
        }
    });
    let (on_driver, nodes) = (queue.clone(), shared.nodes.clone());
    drivers.listen(move |_: Change<'_, CSIDriver>| nodes.all().iter().for_each(|node| on_driver.add(Key::of(&**node))));
    let on_attachment = queue.clone();
    attachments.listen(move |change: Change<'_, VolumeAttachment>| {
        on_attachment.add(Key::new("", change.object().spec.node_name.clone()));
    });
    let recorder = Recorder::start(shared.client.clone(), "attachdetach-controller");
    tell(&attachments, &shared, &recorder);
    let controller = Arc::new(Controller { shared, drivers, attachments, recorder });
    queue.work("attachdetach", 4, |key| controller.clone().reconcile(key)).await;
}

/// Pods learn that their volumes are attached, or why not.
fn tell(attachments: &Informer<VolumeAttachment>, shared: &Shared, recorder: &Recorder) {
    let (shared, recorder) = (shared.clone(), recorder.clone());
    attachments.listen(move |change| {
        let Change::Applied { old: Some(old), new } = change else { return };
        let (before, now) = (old.status.clone().unwrap_or_default(), new.status.clone().unwrap_or_default());
        let Some(name) = &new.spec.source.persistent_volume_name else { return };
        let error = now.attach_error.as_ref().and_then(|e| e.message.clone());
        let failed = error.filter(|_| before.attach_error != now.attach_error);
        if failed.is_none() && (before.attached || !now.attached) {
            return;
        }
        for pod in users(&shared, &new.spec.node_name, name) {
            match &failed {
                Some(error) => {
                    let note = format!("AttachVolume.Attach failed for volume \"{name}\" : {error}");
                    recorder.warning(&*pod, "FailedAttachVolume", note);
                }
                None => {
                    let note = format!("AttachVolume.Attach succeeded for volume \"{name}\" ");
                    recorder.normal(&*pod, "SuccessfulAttachVolume", note);
                }
            }
        }
    });
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

fn claims_of(pod: &Pod) -> impl Iterator<Item = Key> {
    let namespace = pod.namespace().unwrap_or_default();
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter_map(move |volume| {
        match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(Key::new(namespace.clone(), claim.claim_name.clone())),
            (None, Some(_)) => Some(Key::new(namespace.clone(), format!("{}-{}", pod.name_any(), volume.name))),
            _ => None,
        }
    })
}

/// The volumes of a pod.
fn volumes_of(shared: &Shared, pod: &Pod) -> Vec<Arc<PersistentVolume>> {
    let bound = claims_of(pod).filter_map(|key| shared.claims.get(&key)).filter(|claim| is_bound(claim));
    bound.filter_map(|claim| shared.volumes.get(&Key::new("", volume_name(&claim)))).collect()
}

fn users(shared: &Shared, node: &str, volume: &str) -> Vec<Arc<Pod>> {
    let here = shared.pods.all().into_iter().filter(|pod| node_of(pod) == Some(node));
    here.filter(|pod| volumes_of(shared, pod).iter().any(|v| v.name_any() == volume)).collect()
}

impl Controller {
    async fn reconcile(self: Arc<Self>, node: Key) -> Result<(), Error> {
        // While the object of a pod exists, its node may still have the volume mounted.
        let pods = self.shared.pods.all().into_iter().filter(|pod| node_of(pod) == Some(&node.name));
        let wanted: BTreeMap<String, Arc<PersistentVolume>> = pods
            .flat_map(|pod| volumes_of(&self.shared, &pod))
            .filter_map(|volume| Some((self.attachment_of(&volume, &node.name)?, volume)))
            .collect();
        let api: Api<VolumeAttachment> = Api::all(self.shared.client.clone());
        let mut known = BTreeSet::new();
        for attachment in self.attachments.all().iter().filter(|a| a.spec.node_name == node.name) {
            let name = attachment.name_any();
            let ours = name.starts_with("csi-") && attachment.spec.source.persistent_volume_name.is_some();
            if wanted.contains_key(&name) && attachment.metadata.deletion_timestamp.is_some() {
                return Err(Error::NotYet("the volume is being detached first"));
            }
            if ours && !wanted.contains_key(&name) && attachment.metadata.deletion_timestamp.is_none() {
                let preconditions = Preconditions { uid: attachment.uid(), resource_version: None };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                gone_is_fine(api.delete(&name, &params).await)?;
            }
            known.insert(name);
        }
        for (name, volume) in wanted.iter().filter(|(name, _)| !known.contains(*name)) {
            let driver = volume.spec.as_ref().and_then(|s| s.csi.as_ref()).map(|c| &c.driver);
            let object: VolumeAttachment = serde_json::from_value(json!({
                "metadata": {"name": name},
                "spec": {"attacher": driver, "nodeName": node.name,
                    "source": {"persistentVolumeName": volume.name_any()}},
            }))
            .map_err(kube::Error::SerdeError)?;
            match api.create(&PostParams::default(), &object).await.map_err(Error::from) {
                Ok(_) => {}
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    for pod in users(&self.shared, &node.name, &volume.name_any()) {
                        let (volume, why) = (volume.name_any(), error.message());
                        let note = format!("AttachVolume.Attach failed for volume \"{volume}\" : {why}");
                        self.recorder.warning(&*pod, "FailedAttachVolume", note);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The name of the attachment that the volume needs on the node, if its driver attaches.
    fn attachment_of(&self, volume: &PersistentVolume, node: &str) -> Option<String> {
        let source = volume.spec.as_ref()?.csi.as_ref()?;
        let driver = self.drivers.get(&Key::new("", source.driver.clone()));
        if driver.is_some_and(|d| d.spec.attach_required == Some(false)) {
            return None;
        }
        let digest = sha2::Sha256::digest(format!("{}{}{node}", source.volume_handle, source.driver));
        Some(format!("csi-{}", hex::encode(digest)))
    }
}
