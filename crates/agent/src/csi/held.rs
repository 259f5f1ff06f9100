//! Volumes that the node holds: one record a volume, from before it is attached until it is staged no more, whatever
//! becomes of pods and of this process meanwhile. One thing at a time happens to a volume; volumes don't wait for each
//! other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as Turn;

use super::{digest, driver, in_use, record::Published};
use crate::{
    context::Context,
    json_file,
    volumes::{FIRST_REST, LONGEST_REST},
};

/// How long the end of a pod waits for its volumes to be unstaged. The kubelet does not wait at all.
const COURTESY: Duration = Duration::from_secs(2);

/// A volume that the node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The driver.
    pub driver_name: String,
    /// Its id of the volume.
    pub volume_handle: String,
    /// Its socket, for when it is not registered at the moment.
    pub endpoint: PathBuf,
    /// Where it is staged, if the driver stages.
    pub staging: Option<PathBuf>,
    /// The driver was told to stage it, and did not answer that it surely has not.
    pub stage_called: bool,
    /// Somebody attaches it, and must not detach it before it is staged no more.
    pub attachable: bool,
}

impl Held {
    /// How Nodes name it (`status.volumesInUse`).
    pub fn unique_name(&self) -> String {
        unique_name(&self.driver_name, &self.volume_handle)
    }

    fn key(&self) -> String {
        key(&self.driver_name, &self.volume_handle)
    }

    /// Before anything is done that has to be undone.
    pub fn save(&self, data_dir: &Path) -> io::Result<()> {
        json_file::save(&file(data_dir, &self.key()), self)
    }

    /// What is known of a volume.
    pub fn load(data_dir: &Path, driver: &str, handle: &str) -> Option<Self> {
        json_file::load(&file(data_dir, &key(driver, handle)))
    }

    /// All that the node holds.
    pub fn all(data_dir: &Path) -> Vec<Self> {
        let entries = fs::read_dir(directory(data_dir)).into_iter().flatten().flatten();
        let records = entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
        records.filter_map(|path| json_file::load(&path)).collect()
    }

    fn forget(&self, data_dir: &Path) -> io::Result<()> {
        match fs::remove_file(file(data_dir, &self.key())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// How Nodes name a volume.
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("csi")
}

fn file(data_dir: &Path, key: &str) -> PathBuf {
    directory(data_dir).join(format!("{key}.json"))
}

fn key(driver: &str, handle: &str) -> String {
    digest(&[driver, "^", handle])
}

/// What this run of the process knows of a volume. Held while something happens to it.
#[derive(Debug, Default)]
pub struct Known {
    /// The driver has said that it is staged.
    pub staged: bool,
    /// It was not staged before this run called for that: a final answer says that it still is not.
    pub stage_is_own: bool,
    /// The directories of pods to which it was not published before this run called for that.
    pub publish_is_own: BTreeSet<PathBuf>,
}

/// The volumes that something happens to.
#[derive(Default)]
pub struct Holding {
    turns: Mutex<BTreeMap<String, Arc<Turn<Known>>>>,
    /// Those that are to be unstaged, and could not be yet.
    leaving: Mutex<BTreeSet<String>>,
    /// What the Node was last told to be in use; held while it is told.
    pub(super) told: Turn<Option<Vec<String>>>,
}

impl Holding {
    /// Whose turn it is with that volume.
    pub fn turn(&self, driver: &str, handle: &str) -> Arc<Turn<Known>> {
        Arc::clone(self.turns.lock().entry(key(driver, handle)).or_default())
    }

    /// Nobody but the caller has it.
    fn drop_turn(&self, key: &str, own: &Arc<Turn<Known>>) {
        let mut turns = self.turns.lock();
        // The map's and the caller's.
        if Arc::strong_count(own) == 2 {
            turns.remove(key);
        }
    }
}

/// The last pod has left a volume: it is unstaged, now or as soon as its driver can. Gives up waiting soon.
pub async fn let_go(context: &Arc<Context>, driver: &str, handle: &str) {
    let (own, driver, handle) = (Arc::clone(context), driver.to_owned(), handle.to_owned());
    let (first, tried) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut result = release(&own, &driver, &handle).await;
        let _ = first.send(());
        let key = key(&driver, &handle);
        if result.is_ok() || !own.holding.leaving.lock().insert(key.clone()) {
            return;
        }
        let mut rest = FIRST_REST;
        while let Err(error) = &result {
            tracing::warn!(driver, volume = handle, error, "a volume could not be unstaged yet");
            own.csi.rest(rest).await;
            rest = (rest * 2).min(LONGEST_REST);
            result = release(&own, &driver, &handle).await;
        }
        own.holding.leaving.lock().remove(&key);
    });
    let _ = tokio::time::timeout(COURTESY, tried).await;
}

/// Unstages it unless a pod has it.
async fn release(context: &Arc<Context>, driver: &str, handle: &str) -> Result<(), String> {
    let turn = context.holding.turn(driver, handle);
    let mut known = turn.lock().await;
    let data_dir = context.data_dir();
    if Published::of_volume(&data_dir.join("pods"), driver, handle).next().is_some() {
        return Ok(());
    }
    let Some(held) = Held::load(data_dir, driver, handle) else { return Ok(()) };
    known.staged = false;
    if let Some(staging) = held.staging.as_ref().filter(|staging| held.stage_called && staging.exists()) {
        let registered = context.csi.get(driver);
        let endpoint = registered.as_ref().map_or(&held.endpoint, |d| &d.endpoint);
        driver::unstage(endpoint, handle, staging).await.map_err(|error| error.to_string())?;
    }
    if let Some(staging) = &held.staging {
        let _ = fs::remove_dir(staging);
        let _ = staging.parent().map(fs::remove_dir);
    }
    held.forget(data_dir).map_err(|error| error.to_string())?;
    drop(known);
    context.holding.drop_turn(&held.key(), &turn);
    if held.attachable {
        in_use::tell(context).await;
    }
    Ok(())
}

/// Volumes that earlier runs of the process have left staged, and that no pod has any more, are unstaged.
pub async fn clear(context: &Arc<Context>) {
    for held in Held::all(context.data_dir()) {
        let context = Arc::clone(context);
        tokio::spawn(async move { let_go(&context, &held.driver_name, &held.volume_handle).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_by_driver_and_volume_and_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = Held {
            driver_name: "disks.example.com".to_owned(),
            volume_handle: "vol/1".to_owned(),
            endpoint: "/run/disks.sock".into(),
            staging: Some("/staging".into()),
            stage_called: false,
            attachable: true,
        };
        held.save(dir.path()).expect("written");
        assert_eq!(held.unique_name(), "kubernetes.io/csi/disks.example.com^vol/1");
        assert_eq!(Held::load(dir.path(), "disks.example.com", "vol/1"), Some(held.clone()));
        assert_eq!(Held::load(dir.path(), "disks.example.com", "vol/2"), None);
        assert_eq!(Held::all(dir.path()), std::slice::from_ref(&held));
        held.forget(dir.path()).expect("removed");
        held.forget(dir.path()).expect("gone already");
        assert!(Held::all(dir.path()).is_empty());
    }

    #[tokio::test]
    async fn a_volume_waits_for_itself_alone() {
        let holding = Holding::default();
        let one = holding.turn("d", "one");
        let busy = one.lock().await;
        assert!(holding.turn("d", "two").try_lock().is_ok());
        assert!(holding.turn("d", "one").try_lock().is_err());
        drop(busy);
        assert!(holding.turn("d", "one").try_lock().is_ok());
        holding.drop_turn(&key("d", "one"), &one);
        assert_eq!(holding.turns.lock().len(), 1);
    }
}
