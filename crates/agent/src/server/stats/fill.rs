//! How full a pod's volumes are. As upstream: what lies on the node's disk is counted file by file, a file system of its
//! own tells by itself, and CSI drivers are asked; a `hostPath` is not looked at.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, ResourceExt};
use nix::sys::statvfs::statvfs;

use super::measure::Volume;
use crate::{
    context::Context,
    csi,
    pods::{PodView, storage::tree_size},
};

/// Bytes and inodes, as far as they are known: of a block device that is its size alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    pub available: Option<u64>,
    pub capacity: Option<u64>,
    pub used: Option<u64>,
    pub inodes_free: Option<u64>,
    pub inodes: Option<u64>,
    pub inodes_used: Option<u64>,
}

impl Fill {
    /// The same file system, of which somebody takes that much.
    pub fn taken(self, used: u64, inodes_used: u64) -> Self {
        Self { used: Some(used), inodes_used: Some(inodes_used), ..self }
    }
}

pub(super) async fn of_pod(context: &Arc<Context>, view: &PodView, sandbox: &str) -> Vec<(Volume, Fill)> {
    let pod = &view.pod;
    let paths = context.paths(pod);
    let mut out = Vec::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let name = volume.name.as_str();
        let on_disk = |kind: &str| Some(paths.volume(kind, name));
        let claim = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
        let claim = claim.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{}-{name}", pod.name_any())));
        let in_memory = volume.empty_dir.as_ref().is_some_and(|e| e.medium.as_deref() == Some("Memory"));
        let counted = match volume {
            v if v.empty_dir.is_some() && !in_memory => on_disk("empty-dir"),
            v if v.config_map.is_some() => on_disk("configmap"),
            v if v.secret.is_some() => on_disk("secret"),
            v if v.projected.is_some() => on_disk("projected"),
            v if v.downward_api.is_some() => on_disk("downward-api"),
            _ => None,
        };
        let is_local = counted.is_some() || in_memory;
        let fill = match (counted, &claim) {
            (Some(path), _) => counting(path).await,
            _ if in_memory => whole(&context.runtime.host_path(sandbox, &paths.volume("empty-dir", name)).await),
            (None, Some(claim)) => of_claim(context, pod, claim).await,
            (None, None) if volume.csi.is_some() => of_driver(context, pod, name).await,
            (None, None) => None,
        };
        if let Some(fill) = fill {
            out.push((Volume { name: name.to_owned(), claim, is_local }, fill));
        }
    }
    out
}

async fn of_claim(context: &Arc<Context>, pod: &Pod, claim: &str) -> Option<Fill> {
    let namespace = pod.namespace().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    let name = claims.get(claim).await.ok()?.spec?.volume_name?;
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let spec = volumes.get(&name).await.ok()?.spec?;
    if spec.csi.is_some() {
        return of_driver(context, pod, &name).await;
    }
    let path = PathBuf::from(spec.local?.path);
    if spec.volume_mode.as_deref() == Some("Block") {
        return tokio::task::spawn_blocking(move || size_of_device(&path)).await.ok()?;
    }
    if is_mount(&path) { whole(&path) } else { counting(path).await }
}

/// `name` is that of the PersistentVolume, or of the pod's inline volume.
async fn of_driver(context: &Arc<Context>, pod: &Pod, name: &str) -> Option<Fill> {
    let directory = context.paths(pod).volume("csi", name);
    let published = csi::Published::load(&directory)?;
    let driver = context.csi.get(&published.driver_name).filter(|driver| driver.abilities.measures)?;
    let staging = published.staging.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let path = published.device.clone().unwrap_or_else(|| directory.join("mount"));
    let told = driver.measure(&published.volume_handle, &path, &staging).await;
    let told =
        told.inspect_err(|error| tracing::debug!(%error, name, "a CSI driver does not tell how full it is")).ok()?;
    let all = |amounts: Option<[u64; 3]>| amounts.map_or([None; 3], |amounts| amounts.map(Some));
    let ([available, capacity, used], [inodes_free, inodes, inodes_used]) = (all(told.bytes), all(told.inodes));
    if published.device.is_some() {
        return capacity.map(|_| Fill { capacity, ..Fill::default() });
    }
    Some(Fill { available, capacity, used, inodes_free, inodes, inodes_used })
}

/// Of a device, or of the file behind one.
fn size_of_device(path: &Path) -> Option<Fill> {
    let size = File::open(path).and_then(|mut device| device.seek(SeekFrom::End(0))).ok()?;
    Some(Fill { capacity: Some(size), ..Fill::default() })
}

/// A directory on a file system that others use as well.
async fn counting(path: PathBuf) -> Option<Fill> {
    let whole = whole(&path)?;
    let (used, inodes_used) = tokio::task::spawn_blocking(move || tree_size(&path)).await.ok()?;
    Some(whole.taken(used, inodes_used))
}

/// A file system as it counts itself.
pub(super) fn whole(path: &Path) -> Option<Fill> {
    let stat = statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    Some(Fill {
        available: Some(bytes(stat.blocks_available())),
        capacity: Some(bytes(stat.blocks())),
        used: Some(bytes(stat.blocks().saturating_sub(stat.blocks_free()))),
        inodes_free: Some(stat.files_free()),
        inodes: Some(stat.files()),
        inodes_used: Some(stat.files().saturating_sub(stat.files_free())),
    })
}

fn is_mount(path: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    path.parent().is_some_and(|parent| device(parent) != device(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_counted_and_a_file_system_counts_itself() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("file"), vec![1; 1 << 20]).expect("written");
        let counted = counting(dir.path().to_owned()).await.expect("it is there");
        assert!((1 << 20..2 << 20).contains(&counted.used.expect("counted")), "{counted:?}");
        assert_eq!(counted.inodes_used, Some(2));
        let whole = whole(dir.path()).expect("it is there");
        assert!(
            whole.used > Some(0) && whole.capacity >= whole.used && counted.capacity == whole.capacity,
            "{whole:?}"
        );
        let device = size_of_device(&dir.path().join("file")).expect("it is there");
        assert_eq!((device.capacity, device.used, device.inodes), (Some(1 << 20), None, None));
        assert!(is_mount(Path::new("/proc")) && !is_mount(&dir.path().join("file")));
        assert_eq!(counting(dir.path().join("none")).await, None);
    }
}
