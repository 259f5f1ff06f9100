//! What was published to a pod, written beside it as the kubelet does (`vol_data.json`), so that whoever comes later
//! can take it back.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::driver;
use crate::context::Context;

const FILE: &str = "vol_data.json";

/// One published volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The driver.
    pub driver_name: String,
    /// Its id of the volume.
    pub volume_handle: String,
    /// Its socket, for when it is not registered at the moment.
    pub endpoint: PathBuf,
    /// Where it is staged, if the driver stages.
    pub staging: Option<PathBuf>,
    /// Where a block device is published; a file system is beside this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<PathBuf>,
}

impl Published {
    /// Before the driver is called.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join(FILE), serde_json::to_vec(self).map_err(io::Error::other)?)
    }

    /// What was published with that directory.
    pub fn load(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(FILE)).ok()?).ok()
    }
}

/// Takes back all that was published to the pod with that directory, and from the node what no other pod has. May be
/// called again.
pub async fn unpublish_all(context: &Context, pod: &Path) -> Result<(), String> {
    let root = pod.join("volumes/kubernetes.io~csi");
    let Ok(entries) = fs::read_dir(&root) else { return Ok(()) };
    for entry in entries.flatten() {
        let directory = entry.path();
        let Some(published) = Published::load(&directory) else { continue };
        take_back(context, &directory, &published).await.map_err(|error| {
            format!("UnmountVolume.TearDown failed for volume \"{}\" : {error}", entry.file_name().to_string_lossy())
        })?;
    }
    Ok(())
}

async fn take_back(context: &Context, directory: &Path, published: &Published) -> Result<(), String> {
    let _one = context.csi_staging.lock().await;
    let known = context.csi.get(&published.driver_name);
    let endpoint = known.as_ref().map_or(&published.endpoint, |d| &d.endpoint);
    let volume = &published.volume_handle;
    let target = published.device.clone().unwrap_or_else(|| directory.join("mount"));
    driver::unpublish(endpoint, volume, &target).await.map_err(|e| e.to_string())?;
    if published.device.is_some() {
        let _ = fs::remove_file(directory.join("device"));
        let _ = fs::remove_file(&target);
        let _ = target.parent().map(fs::remove_dir);
    } else {
        let _ = fs::remove_dir(&target);
    }
    if let Some(staging) = published.staging.as_ref().filter(|s| s.exists()) {
        let pods = context.data_dir().join("pods");
        if !used_elsewhere(&pods, directory, staging) {
            driver::unstage(endpoint, volume, staging).await.map_err(|e| e.to_string())?;
            let _ = fs::remove_dir(staging);
            let _ = staging.parent().map(fs::remove_dir);
        }
    }
    fs::remove_file(directory.join(FILE)).map_err(|e| e.to_string())
}

/// Whether another pod has the volume that is staged there.
fn used_elsewhere(pods: &Path, but: &Path, staging: &Path) -> bool {
    let volumes = fs::read_dir(pods).into_iter().flatten().flatten();
    let directories = volumes.flat_map(|pod| {
        fs::read_dir(pod.path().join("volumes/kubernetes.io~csi")).into_iter().flatten().flatten().map(|e| e.path())
    });
    directories
        .into_iter()
        .any(|d| d != but && Published::load(&d).is_some_and(|p| p.staging.as_deref() == Some(staging)))
}
