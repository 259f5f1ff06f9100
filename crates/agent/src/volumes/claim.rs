//! Volumes that a claim stands for: the claim's PersistentVolume is looked up, checked, and found on this node.

use std::{
    collections::BTreeMap,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Pod, Volume,
};
use kube::{Api, ResourceExt};

use super::{Source, VolumeError, host_path, ownership};
use crate::{context::Context, local_storage::block};

/// A claim as a pod names it.
pub struct Wanted {
    /// The claim's name.
    pub claim: String,
    read_only: bool,
    /// The claim has to be the pod's own.
    ephemeral: bool,
}

/// What a pod's volume wants of a claim, if it is of that kind.
pub fn wanted(pod: &Pod, volume: &Volume) -> Option<Wanted> {
    if let Some(source) = &volume.persistent_volume_claim {
        let read_only = source.read_only == Some(true);
        return Some(Wanted { claim: source.claim_name.clone(), read_only, ephemeral: false });
    }
    volume.ephemeral.as_ref()?;
    Some(Wanted { claim: format!("{}-{}", pod.name_any(), volume.name), read_only: false, ephemeral: true })
}

/// The volume of a claim.
pub struct Bound {
    /// The pod's name of it.
    pub name: String,
    /// What it is bound to.
    pub volume: PersistentVolume,
    /// The pod must not write to it.
    pub read_only: bool,
    /// The claim's namespace and name.
    pub claim: (String, String),
}

impl Bound {
    /// It is handed to containers as a device.
    pub fn is_block(&self) -> bool {
        self.volume.spec.as_ref().is_some_and(|s| s.volume_mode.as_deref() == Some("Block"))
    }
}

/// Looks both up and checks that the pod may have them here.
pub async fn find(context: &Context, pod: &Pod, volume: &str, wanted: &Wanted) -> Result<Bound, VolumeError> {
    let namespace = pod.namespace().unwrap_or_default();
    let fail = |why: String| VolumeError::Unprocessed {
        volume: volume.to_owned(),
        message: format!("error processing PVC {namespace}/{}: {why}", wanted.claim),
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    let claim = claims
        .get(&wanted.claim)
        .await
        .map_err(|e| fail(format!("failed to fetch PVC from API server: {}", words(&e))))?;
    let owned =
        claim.owner_references().iter().any(|o| o.controller == Some(true) && Some(&o.uid) == pod.uid().as_ref());
    if wanted.ephemeral && !owned {
        let pod = pod.name_any();
        return Err(fail(format!(
            "PVC {namespace}/{} was not created for pod {namespace}/{pod} (pod is not owner)",
            wanted.claim
        )));
    }
    // A pod that has begun keeps what it has.
    if claim.metadata.deletion_timestamp.is_some() && !has_begun(pod) {
        return Err(fail("PVC is being deleted".to_owned()));
    }
    // The binding is complete a moment before the phase says so; a claim that was lost is bound no more.
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    if !claims::is_bound(&claim) || phase == Some("Lost") {
        return Err(fail("PVC is not bound".to_owned()));
    }
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let name = claims::volume_name(&claim).to_owned();
    let found = volumes
        .get(&name)
        .await
        .map_err(|e| fail(format!("failed to fetch PV {name} from API server: {}", words(&e))))?;
    if !claims::is_bound_to(&found, &claim) {
        return Err(fail(format!("PV {name} is not bound to the claim")));
    }
    let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), context.config.node_name.clone())]);
    let labels = match found.spec.as_ref().is_some_and(|s| s.node_affinity.is_some()) {
        true => node_labels(context).await.unwrap_or(labels),
        false => labels,
    };
    if !claims::reaches(&found, &context.config.node_name, &labels) {
        return Err(VolumeError::Elsewhere { volume: name });
    }
    let bound = Bound {
        name: volume.to_owned(),
        volume: found,
        read_only: wanted.read_only,
        claim: (namespace.clone(), wanted.claim.clone()),
    };
    let (mode, elsewhere) = if bound.is_block() { ("Block", "volumeMounts") } else { ("Filesystem", "volumeDevices") };
    if uses(pod, volume, elsewhere) {
        return Err(VolumeError::Unprocessed {
            volume: volume.to_owned(),
            message: format!("volume {volume} has volumeMode {mode}, but is specified in {elsewhere}"),
        });
    }
    Ok(bound)
}

/// Whether a container names the volume in its `volumeMounts` or `volumeDevices`.
fn uses(pod: &Pod, volume: &str, field: &str) -> bool {
    let spec = pod.spec.iter();
    spec.flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten())).any(|c| match field {
        "volumeMounts" => c.volume_mounts.iter().flatten().any(|m| m.name == volume),
        _ => c.volume_devices.iter().flatten().any(|d| d.name == volume),
    })
}

fn has_begun(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    statuses.into_iter().any(|c| c.restart_count > 0 || c.state.as_ref().is_some_and(|s| s.waiting.is_none()))
}

async fn node_labels(context: &Context) -> Option<BTreeMap<String, String>> {
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(context.client.clone());
    nodes.get(&context.config.node_name).await.ok()?.metadata.labels
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Whether a block volume is a file that this node's provisioner has made.
fn is_made_here(context: &Context, bound: &Bound, path: &Path) -> bool {
    claims::volume_annotation(&bound.volume, claims::PROVISIONED_BY) == Some(claims::LOCAL_PROVISIONER)
        && path == block::volumes(context.data_dir()).join(bound.volume.name_any())
        && block::is_file(path)
}

/// A volume that is a path of this node.
pub async fn on_this_node(context: &Context, pod: &Pod, bound: &Bound) -> Result<Source, VolumeError> {
    let name = bound.volume.name_any();
    let fail = |message: String| VolumeError::SetUp { volume: name.clone(), message };
    let none = PersistentVolumeSpec::default();
    let spec = bound.volume.spec.as_ref().unwrap_or(&none);
    let block = bound.is_block();
    let source = |path: &str| Source { path: PathBuf::from(path), read_only: bound.read_only, block, memory: false };
    if block && spec.local.is_none() {
        return Err(fail("no volume plugin matched that can map a block device".to_owned()));
    }
    if let Some(host) = &spec.host_path {
        host_path::check(&HostPathVolumeSource { path: host.path.clone(), type_: host.type_.clone() }).map_err(fail)?;
        return Ok(source(&host.path));
    }
    if let Some(local) = &spec.local {
        let path = PathBuf::from(&local.path);
        if local.path.split('/').any(|part| part == "..") {
            return Err(fail(format!("path {} must not contain '..'", local.path)));
        }
        if block && is_made_here(context, bound, &path) {
            let (root, uid) = (context.data_dir().to_owned(), pod.uid().unwrap_or_default());
            let volume = name.clone();
            let attached = tokio::task::spawn_blocking(move || block::attach(&root, &volume, &path, &uid)).await;
            let device = attached.map_err(std::io::Error::other).flatten();
            let device = device.map_err(|e| fail(format!("failed to attach a loop device: {e}")))?;
            return Ok(Source { path: device, read_only: bound.read_only, block, memory: false });
        }
        match std::fs::metadata(&path) {
            Err(_) => return Err(fail(format!("path \"{}\" does not exist", local.path))),
            Ok(found) if block && !found.file_type().is_block_device() => {
                return Err(fail(format!("path \"{}\" is not a block device", local.path)));
            }
            Ok(found) if !block && !found.is_dir() => {
                return Err(fail(format!("path \"{}\" is not a directory", local.path)));
            }
            Ok(_) => {}
        }
        if !bound.read_only && !block {
            ownership::give(pod, path).await.map_err(|e| fail(format!("applyFSGroup failed for vol {name}: {e}")))?;
        }
        return Ok(source(&local.path));
    }
    Err(fail("no volume plugin matched".to_owned()))
}
