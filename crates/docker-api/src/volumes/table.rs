//! All volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::daemon::{load, save};
use crate::error::{ApiError, Result};
use crate::time;

/// The label of volumes that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// A volume; `volumes/NAME/volume.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Volume {
    pub name: String,
    pub created: String,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
}

impl Volume {
    /// As the API shows it.
    pub fn json(&self, volumes: &Volumes) -> Value {
        let or_null = |map: &BTreeMap<String, String>| if map.is_empty() { Value::Null } else { json!(map) };
        json!({
            "CreatedAt": self.created,
            "Driver": "local",
            "Labels": or_null(&self.labels),
            "Mountpoint": volumes.data(&self.name),
            "Name": self.name,
            "Options": or_null(&self.options),
            "Scope": "local",
        })
    }

    /// Whether it was made for a container that did not name it.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }
}

/// The table.
pub(crate) struct Volumes {
    root: PathBuf,
    table: Mutex<BTreeMap<String, Volume>>,
    /// Containers that have a mounted volume, by its name.
    pub(super) holders: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Volumes {
    /// Reads all records.
    pub fn open(root: &Path) -> Result<Self> {
        let mut table = BTreeMap::new();
        for entry in fs::read_dir(root)?.flatten() {
            match load::<Volume>(&entry.path().join("volume.json")) {
                Ok(volume) => drop(table.insert(volume.name.clone(), volume)),
                Err(error) => tracing::warn!(path = %entry.path().display(), %error, "not a volume's record"),
            }
        }
        Ok(Self { root: root.to_owned(), table: Mutex::new(table), holders: Mutex::default() })
    }

    /// All, by name.
    pub fn all(&self) -> Vec<Volume> {
        self.table.lock().values().cloned().collect()
    }

    /// The one of that name.
    pub fn find(&self, name: &str) -> Result<Volume> {
        self.table.lock().get(name).cloned().ok_or_else(|| ApiError::not_found(format!("get {name}: no such volume")))
    }

    /// Where its files are.
    pub fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// Finds or makes the volume of that name, and says whether it is new; an empty name is generated.
    pub fn make(
        &self,
        name: &str,
        mut labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<(Volume, bool)> {
        let mut table = self.table.lock();
        if let Some(volume) = table.get(name) {
            return Ok((volume.clone(), false));
        }
        let name = match name {
            "" => {
                labels.insert(ANONYMOUS.into(), String::new());
                crate::containers::random_id()
            }
            name => check_name(name)?.to_owned(),
        };
        super::mounting::check(&options)?;
        fs::create_dir_all(self.data(&name))?;
        let volume = Volume { name: name.clone(), created: time::now(), labels, options };
        save(&self.root.join(&name).join("volume.json"), &volume)?;
        table.insert(name, volume.clone());
        Ok((volume, true))
    }

    /// Removes a volume and its files.
    pub fn forget(&self, name: &str) -> Result<()> {
        self.unmount(name);
        let directory = self.root.join(name);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.table.lock().remove(name);
        Ok(())
    }
}

/// Docker's restricted names; they become directories.
pub(crate) fn check_name(name: &str) -> Result<&str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.len() > 1
        && name.len() < 256
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(legal)
    {
        return Ok(name);
    }
    if name.len() == 1 {
        return Err(ApiError::bad(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    Err(ApiError::bad(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" \
         are allowed. If you intended to pass a host directory, use absolute path"
    )))
}
