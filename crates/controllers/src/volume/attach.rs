//! Attachments: a VolumeAttachment for each CSI volume that pods of a node use, for drivers that attach. The driver's
//! own attacher does the work and says so in the status.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use claims::{is_bound, volume_name};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, Pod},
    storage::v1::{CSIDriver, VolumeAttachment},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use recording::Recorder;
use serde_json::json;
use sha2::Digest;
use tokio::task::JoinSet;

use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::{self, Change, Informer},
    pod_collection::OUT_OF_SERVICE,
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
        let news = match &change {
            Change::Applied { old, .. } => old.is_none_or(|old| uses_volumes(old) != uses_volumes(pod)),
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
    let on_node = queue.clone();
    shared.nodes.listen(move |change: Change<'_, Node>| {
        let in_use = |node: &Node| node.status.as_ref().and_then(|s| s.volumes_in_use.clone());
        let left = match &change {
            Change::Applied { old: Some(old), new } => in_use(old) != in_use(new) || is_off(old) != is_off(new),
            Change::Applied { old: None, .. } => false,
            Change::Deleted(_) => true,
        };
        if left {
            on_node.add(Key::of(&**change.object()));
        }
    });
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

/// Whether the pod has, or is to have, its volumes on a node: what has ended needs none.
fn uses_volumes(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    node_of(pod).is_some() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether someone has said that the node's machine is off (KEP-2268).
fn is_off(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Whether the node says that it uses a volume. One whose machine is known to be off uses none.
fn uses(node: &Node, volume: &str) -> bool {
    let in_use = node.status.iter().flat_map(|s| s.volumes_in_use.iter().flatten());
    !is_off(node) && in_use.into_iter().any(|name| name == volume)
}

/// What the node's status says to be attached.
fn attached_to(node: &Node) -> impl Iterator<Item = &String> {
    node.status.iter().flat_map(|s| s.volumes_attached.iter().flatten()).map(|volume| &volume.name)
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
        let pods = self.shared.pods.all().into_iter().filter(|pod| node_of(pod) == Some(&node.name));
        let pods = pods.filter(|pod| uses_volumes(pod));
        let wanted: BTreeMap<String, Arc<PersistentVolume>> = pods
            .flat_map(|pod| volumes_of(&self.shared, &pod))
            .filter_map(|volume| Some((self.attachment_of(&volume, &node.name)?, volume)))
            .collect();
        let there = self.attachments.all().into_iter().filter(|a| a.spec.node_name == node.name);
        let (leaving, there): (Vec<_>, Vec<_>) = there.partition(|a| a.metadata.deletion_timestamp.is_some());
        if leaving.iter().any(|attachment| wanted.contains_key(&attachment.name_any())) {
            self.detach(&node.name, &there, &wanted).await?;
            return Err(Error::NotYet("the volume is being detached first"));
        }
        self.detach(&node.name, &there, &wanted).await?;
        let known: BTreeSet<String> = leaving.iter().chain(&there).map(|a| a.name_any()).collect();
        for (name, volume) in wanted.iter().filter(|(name, _)| !known.contains(*name)) {
            self.attach(&node.name, name, volume).await?;
        }
        Ok(())
    }

    async fn attach(&self, node: &str, name: &str, volume: &PersistentVolume) -> Result<(), Error> {
        let driver = volume.spec.as_ref().and_then(|s| s.csi.as_ref()).map(|c| &c.driver);
        let object: VolumeAttachment = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"attacher": driver, "nodeName": node,
                "source": {"persistentVolumeName": volume.name_any()}},
        }))
        .map_err(kube::Error::SerdeError)?;
        let api: Api<VolumeAttachment> = Api::all(self.shared.client.clone());
        match api.create(&PostParams::default(), &object).await.map_err(Error::from) {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => {
                for pod in users(&self.shared, node, &volume.name_any()) {
                    let (volume, why) = (volume.name_any(), error.message());
                    let note = format!("AttachVolume.Attach failed for volume \"{volume}\" : {why}");
                    self.recorder.warning(&*pod, "FailedAttachVolume", note);
                }
                Err(error)
            }
        }
    }

    /// Has what nobody wants and the node does not use any more detached. Before that the node is told that it is not
    /// attached any more, in a write that fails if the node said meanwhile that it uses it: an agent that begins to use
    /// a volume says so first, and looks whether it is attached then.
    async fn detach(
        &self,
        name: &str,
        there: &[Arc<VolumeAttachment>],
        wanted: &BTreeMap<String, Arc<PersistentVolume>>,
    ) -> Result<(), Error> {
        let unwanted = |attachment: &VolumeAttachment| {
            let name = attachment.name_any();
            let ours = name.starts_with("csi-") && attachment.spec.source.persistent_volume_name.is_some();
            ours && !wanted.contains_key(&name)
        };
        let reported = |node: &Node| attached_to(node).cloned().collect::<BTreeSet<String>>();
        let attached = |but: &BTreeSet<String>| -> BTreeSet<String> {
            let all = there.iter().filter(|a| a.status.as_ref().is_some_and(|s| s.attached));
            all.filter(|a| !but.contains(&a.name_any())).filter_map(|a| self.unique_name(a)).collect()
        };
        let known = self.shared.nodes.get(&Key::new("", name));
        let settled = known.as_ref().is_none_or(|node| reported(node) == attached(&BTreeSet::new()));
        if settled && !there.iter().any(|attachment| unwanted(attachment)) {
            return Ok(());
        }
        let nodes: Api<Node> = Api::all(self.shared.client.clone());
        let node = nodes.get_opt(name).await?;
        let in_use = |attachment: &VolumeAttachment| {
            node.as_ref().zip(self.unique_name(attachment)).is_some_and(|(node, name)| uses(node, &name))
        };
        let unused = there.iter().filter(|a| unwanted(a) && !in_use(a));
        let unused: BTreeMap<String, Option<String>> = unused.map(|a| (a.name_any(), a.uid())).collect();
        if let Some(node) = node {
            let attached = attached(&unused.keys().cloned().collect());
            if attached != reported(&node) {
                let list: Vec<_> = attached.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
                let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version},
                    "status": {"volumesAttached": (!list.is_empty()).then_some(list)}});
                nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            }
        }
        let api: Api<VolumeAttachment> = Api::all(self.shared.client.clone());
        for (name, uid) in unused {
            let preconditions = Preconditions { uid, resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            gone_is_fine(api.delete(&name, &params).await)?;
        }
        Ok(())
    }

    /// How the node's status names what is attached.
    fn unique_name(&self, attachment: &VolumeAttachment) -> Option<String> {
        let name = attachment.spec.source.persistent_volume_name.clone()?;
        let volume = self.shared.volumes.get(&Key::new("", name))?;
        let source = volume.spec.as_ref()?.csi.as_ref()?;
        Some(format!("kubernetes.io/csi/{}^{}", source.driver, source.volume_handle))
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
