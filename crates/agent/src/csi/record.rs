//! What was published to a pod, written beside it as the kubelet does (`vol_data.json`), so that whoever comes later
//! can take it back.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    driver,
    held::{self, Held},
};
use crate::{context::Context, json_file};

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
    /// The driver was told to publish it, and did not answer that it surely has not.
    #[serde(default = "yes")]
    pub publish_called: bool,
}

/// Of records from before it was told apart.
fn yes() -> bool {
    true
}

impl Published {
    /// Before the driver is called.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        json_file::save(&directory.join(FILE), self)
    }

    /// What was published with that directory.
    pub fn load(directory: &Path) -> Option<Self> {
        json_file::load(&directory.join(FILE))
    }

    /// The pods' directories that have a volume.
    pub fn of_volume(pods: &Path, driver: &str, handle: &str) -> impl Iterator<Item = PathBuf> {
        let pods = fs::read_dir(pods).into_iter().flatten().flatten();
        let directories = pods.flat_map(|pod| {
            fs::read_dir(pod.path().join("volumes/kubernetes.io~csi")).into_iter().flatten().flatten().map(|e| e.path())
        });
        directories.filter(move |directory| {
            Self::load(directory).is_some_and(|p| p.driver_name == driver && p.volume_handle == handle)
        })
    }
}

/// Takes back all that was published to the pod with that directory, and from the node what no other pod has. May be
/// called again.
pub async fn unpublish_all(context: &Arc<Context>, pod: &Path) -> Result<(), String> {
    let root = pod.join("volumes/kubernetes.io~csi");
    let Ok(entries) = fs::read_dir(&root) else { return Ok(()) };
    let published = entries.flatten().map(|e| e.path()).filter_map(|d| Published::load(&d).map(|p| (d, p)));
    let all = published.map(|(directory, published)| async move {
        let volume = directory.file_name().unwrap_or_default().to_string_lossy();
        let taken = take_back(context, &directory, &published).await;
        taken.map_err(|error| format!("UnmountVolume.TearDown failed for volume \"{volume}\" : {error}"))
    });
    // One that can't be taken back keeps no other.
    futures::future::join_all(all).await.into_iter().collect()
}

async fn take_back(context: &Arc<Context>, directory: &Path, published: &Published) -> Result<(), String> {
    let (driver, volume) = (&published.driver_name, &published.volume_handle);
    {
        let turn = context.holding.turn(driver, volume);
        let mut known = turn.lock().await;
        if published.publish_called {
            let known = context.csi.get(driver);
            let endpoint = known.as_ref().map_or(&published.endpoint, |d| &d.endpoint);
            let target = published.device.clone().unwrap_or_else(|| directory.join("mount"));
            driver::unpublish(endpoint, volume, &target).await.map_err(|e| e.to_string())?;
            if published.device.is_some() {
                let _ = fs::remove_file(directory.join("device"));
                let _ = fs::remove_file(&target);
            } else {
                let _ = fs::remove_dir(&target);
            }
        }
        let _ = published.device.as_ref().and_then(|device| device.parent()).map(fs::remove_dir);
        if let Some(held) = of_before(context, published) {
            held.save(context.data_dir()).map_err(|e| e.to_string())?;
        }
        fs::remove_file(directory.join(FILE)).map_err(|e| e.to_string())?;
        known.publish_is_own.remove(directory);
    }
    held::let_go(context, driver, volume).await;
    Ok(())
}

/// What is staged since before the node kept records of that.
fn of_before(context: &Context, published: &Published) -> Option<Held> {
    let staging = published.staging.as_ref().filter(|staging| staging.exists())?;
    let none = Held::load(context.data_dir(), &published.driver_name, &published.volume_handle).is_none();
    none.then(|| Held {
        driver_name: published.driver_name.clone(),
        volume_handle: published.volume_handle.clone(),
        endpoint: published.endpoint.clone(),
        staging: Some(staging.clone()),
        stage_called: true,
        attachable: false,
    })
}
