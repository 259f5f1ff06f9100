//! Volumes: what a pod's containers find mounted. Each kind is one file; contents that come from the API are
//! followed and replaced as a whole when they change.

mod alone;
mod atomic;
mod claim;
mod content;
mod downward;
mod env_file;
mod host_path;
mod key_projection;
mod live;
mod memory;
mod mounts;
mod objects;
mod ownership;
mod remove;
mod token;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Pod, Volume};
use tokio::{sync::watch, task::AbortHandle};

pub use alone::Singles;
pub use claim::Bound;
pub use env_file::{EnvFiles, read as read_env_files};
pub use memory::keep_in_memory;
pub use mounts::{MountError, Mounts, devices_of, mounts_of, without_source};
pub use objects::Objects;
pub use ownership::give as give_to_group_of;
pub use remove::remove_tree;
pub use token::request as request_token;

use alone::Alone;

use crate::{context::Context, csi, paths::PodPaths, spec::quantity};

/// Why a volume can't be had. The message is the one of the `FailedMount` event. A retry may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// It can't be made ready on this node.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
    SetUp {
        /// Name of the volume, or of the PersistentVolume behind it.
        volume: String,
        /// Why.
        message: String,
    },
    /// Nobody has attached it to this node so far.
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[{volume}], \
         failed to process volumes=[]: context deadline exceeded"
    )]
    Unattached {
        /// Name of the pod's volume.
        volume: String,
    },
    /// Its driver can't stage it on this node.
    #[error("MountVolume.MountDevice failed for volume \"{volume}\" : {message}")]
    Device {
        /// The PersistentVolume.
        volume: String,
        /// Why.
        message: String,
    },
    /// The volume has grown and its driver can't make its file system follow.
    #[error("MountVolume.Setup failed while expanding volume for volume \"{volume}\" : {message}")]
    Expansion {
        /// The PersistentVolume.
        volume: String,
        /// Why.
        message: String,
    },
    /// What it stands for is not there or not ready.
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], \
         failed to process volumes=[{volume}]: {message}"
    )]
    Unprocessed {
        /// Name of the pod's volume.
        volume: String,
        /// Why.
        message: String,
    },
    /// The PersistentVolume can't be had on this node.
    #[error("MountVolume.NodeAffinity check failed for volume \"{volume}\" : no matching NodeSelectorTerms")]
    Elsewhere {
        /// The PersistentVolume.
        volume: String,
    },
}

/// A pod's volumes, ready to be mounted into its containers. Dropping it ends the following of their sources.
#[derive(Default)]
pub struct PodVolumes {
    /// Directory or file of each volume on the host, by name.
    pub sources: BTreeMap<String, Source>,
    live: Vec<AbortHandle>,
    alone: Vec<Alone>,
}

impl PodVolumes {
    /// Something else that ends with the volumes.
    pub fn keep(&mut self, task: AbortHandle) {
        self.live.push(task);
    }
}

/// The kind of volumes of images, in their paths.
pub const IMAGE: &str = "image";

/// Between tries at a volume, doubled each time (the kubelet's `goroutinemap/exponentialbackoff`): the first rest
pub const FIRST_REST: Duration = Duration::from_millis(500);
/// and the longest.
pub const LONGEST_REST: Duration = Duration::from_secs(122);

/// Where a volume lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// On the host (or, for a memory file system, in the sandbox's view of it).
    pub path: PathBuf,
    /// The volume can't be written whatever the mount says.
    pub read_only: bool,
    /// Lives in the sandbox's own memory file system.
    pub memory: bool,
    /// A block device, for containers to open rather than to mount.
    pub block: bool,
}

impl Drop for PodVolumes {
    fn drop(&mut self) {
        for task in &self.live {
            task.abort();
        }
    }
}

/// The memory file systems that the pod's sandbox must have. Their directories are made.
pub fn memory_file_systems(pod: &Pod, paths: &PodPaths) -> std::io::Result<Vec<engine::Tmpfs>> {
    let mut out = Vec::new();
    for volume in volumes(pod) {
        let Some(empty) = volume.empty_dir.as_ref().filter(|e| e.medium.as_deref() == Some("Memory")) else { continue };
        let path = paths.volume("empty-dir", &volume.name);
        std::fs::create_dir_all(&path)?;
        let size = empty.size_limit.as_ref().and_then(quantity::whole).filter(|s| *s > 0).map(i64::unsigned_abs);
        // Upstream leaves the kernel's own mode, with the sticky bit.
        out.push(engine::Tmpfs { path, size, mode: 0o1777 });
    }
    Ok(out)
}

/// Sets all volumes up that a container uses, at the same time; gives why some could not be, too. `have` are those that an earlier try has set
/// up: they are left as they are. `pods` delivers later versions of the pod (labels and annotations).
pub async fn set_up(
    context: &Arc<Context>,
    pods: &watch::Receiver<Arc<Pod>>,
    have: PodVolumes,
) -> (PodVolumes, Vec<VolumeError>) {
    let pod = Arc::clone(&pods.borrow());
    let paths = context.paths(&pod);
    let used = used(&pod);
    let missing = volumes(&pod).filter(|volume| used.contains(volume.name.as_str()));
    let missing = missing.filter(|volume| !have.sources.contains_key(&volume.name));
    let all: Vec<_> = missing.map(|volume| set_up_one(context, pods, &pod, &paths, volume)).collect();
    let (mut out, mut failed) = (have, Vec::new());
    for result in futures::future::join_all(all).await {
        match result {
            Ok(one) => {
                out.sources.insert(one.name, one.source);
                out.live.extend(one.tasks);
                out.alone.extend(one.alone);
            }
            Err(error) => failed.push(error),
        }
    }
    (out, failed)
}

/// One volume, ready.
struct Ready {
    name: String,
    source: Source,
    tasks: Vec<AbortHandle>,
    alone: Option<Alone>,
}

async fn set_up_one(
    context: &Arc<Context>,
    pods: &watch::Receiver<Arc<Pod>>,
    pod: &Pod,
    paths: &PodPaths,
    volume: &Volume,
) -> Result<Ready, VolumeError> {
    let ready = |source, tasks| Ready { name: volume.name.clone(), source, tasks, alone: None };
    let fail = |message: String| VolumeError::SetUp { volume: volume.name.clone(), message };
    let fs_group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
    let source = |path: PathBuf| Source { path, ..Source::default() };
    if let Some(empty) = &volume.empty_dir {
        let path = paths.volume("empty-dir", &volume.name);
        let memory = empty.medium.as_deref() == Some("Memory");
        if !memory {
            make_empty_dir(&path, fs_group).map_err(|e| fail(e.to_string()))?;
        }
        return Ok(ready(Source { path, memory, ..Source::default() }, Vec::new()));
    }
    if volume.image.is_some() {
        // What is to be seen there is mounted when a container wants it, once the image is here.
        let path = paths.volume(IMAGE, &volume.name);
        std::fs::create_dir_all(&path).map_err(|e| fail(e.to_string()))?;
        return Ok(ready(Source { path, read_only: true, ..Source::default() }, Vec::new()));
    }
    if let Some(host) = &volume.host_path {
        host_path::check(host).map_err(fail)?;
        return Ok(ready(source(PathBuf::from(&host.path)), Vec::new()));
    }
    if let Some(live) = live::Live::of(volume) {
        let path = paths.volume(live.kind, &volume.name);
        let task = live.start(context, pods.clone(), path.clone(), fs_group).await.map_err(fail)?;
        return Ok(ready(Source { path, read_only: true, ..Source::default() }, vec![task]));
    }
    if let Some(wanted) = claim::wanted(pod, volume) {
        let bound = claim::find(context, pod, &volume.name, &wanted).await?;
        let alone = context.alone.take(&bound.volume, pod)?;
        let (source, tasks) = match bound.volume.spec.as_ref().and_then(|s| s.csi.as_ref()) {
            Some(source) => csi::persistent(context, pod, pods, &bound, source).await?,
            None => (claim::on_this_node(context, pod, &bound).await?, Vec::new()),
        };
        return Ok(Ready { alone, ..ready(source, tasks) });
    }
    if let Some(source) = &volume.csi {
        let (source, tasks) = csi::inline(context, pod, pods, &volume.name, source).await?;
        return Ok(ready(source, tasks));
    }
    if volume.git_repo.is_some() {
        return Err(fail("git-repo volume plugin has been disabled".to_owned()));
    }
    Err(fail("no volume plugin matched".to_owned()))
}

fn make_empty_dir(path: &std::path::Path, fs_group: Option<i64>) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    give_to_group(path, fs_group)
}

/// An emptyDir for anyone to write; with fsGroup, files in it inherit the group. A sticky bit stays.
pub fn give_to_group(path: &std::path::Path, fs_group: Option<i64>) -> std::io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, chown};
    let sticky = std::fs::metadata(path)?.permissions().mode() & 0o1000;
    let mode = sticky | if fs_group.is_some() { 0o2777 } else { 0o777 };
    if let Some(gid) = fs_group.and_then(|g| u32::try_from(g).ok()) {
        chown(path, None, Some(gid))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Whether a debug container, which comes later than the pod's volumes, uses one that is not set up.
pub fn lacks(pod: &Pod, have: &PodVolumes) -> bool {
    let debuggers = pod.spec.as_ref().and_then(|s| s.ephemeral_containers.as_ref());
    debuggers.is_some_and(|all| !all.is_empty())
        && volumes(pod).any(|v| !have.sources.contains_key(&v.name) && used(pod).contains(v.name.as_str()))
}

/// Names of the volumes that containers of the pod mount, open or read their variables from. The others need not be
/// there, as with the kubelet.
fn used(pod: &Pod) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    if let Some(spec) = &pod.spec {
        let debuggers = spec.ephemeral_containers.iter().flatten();
        names.extend(debuggers.clone().flat_map(|c| c.volume_mounts.iter().flatten()).map(|m| m.name.as_str()));
        names.extend(debuggers.flat_map(|c| c.volume_devices.iter().flatten()).map(|d| d.name.as_str()));
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            names.extend(container.volume_mounts.iter().flatten().map(|m| m.name.as_str()));
            names.extend(container.volume_devices.iter().flatten().map(|d| d.name.as_str()));
            let sources = container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()?.file_key_ref.as_ref());
            names.extend(sources.map(|source| source.volume_name.as_str()));
        }
    }
    names
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_no_container_names_is_not_used() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "initContainers": [{"name": "i", "volumeMounts": [{"name": "first", "mountPath": "/a"}]}],
            "containers": [{"name": "c", "volumeDevices": [{"name": "disk", "devicePath": "/dev/a"}],
                "env": [{"name": "E", "valueFrom": {"fileKeyRef": {"volumeName": "file", "path": "p", "key": "k"}}}]}],
            "ephemeralContainers": [{"name": "d", "volumeMounts": [{"name": "late", "mountPath": "/a"}]}],
            "volumes": [{"name": "nobody's"}]}}))
        .expect("a pod");
        assert_eq!(Vec::from_iter(used(&pod)), ["disk", "file", "first", "late"]);
    }

    #[test]
    fn an_empty_dir_is_for_anyone_and_keeps_its_sticky_bit() {
        let dir = tempfile::tempdir().expect("a directory");
        for (before, after) in [(0o755, 0o777), (0o1777, 0o1777)] {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(before)).expect("set");
            give_to_group(dir.path(), None).expect("given");
            let mode = std::fs::metadata(dir.path()).expect("there").permissions().mode() & 0o7777;
            assert_eq!(mode, after, "{mode:o}");
        }
    }
}
