//! How far each log has been read, kept over a restart.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// How far each log has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Positions {
    /// Files by their paths.
    #[serde(default)]
    pub files: BTreeMap<PathBuf, Position>,
    /// The last entry of each slow log, by the source's name.
    #[serde(default)]
    pub slow_logs: BTreeMap<String, i64>,
}

/// A place in a file, which is known again by its number whatever it is called then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// The file system.
    pub device: u64,
    /// The file's number there.
    pub inode: u64,
    /// Bytes that have been told.
    pub offset: u64,
}

impl Positions {
    /// Reads the positions. A file that is not there is a beginning; one that is damaged is too, and is told of.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, file = %path.display(), "the positions are damaged: logs are read from their beginning");
                Self::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, file = %path.display(), "the positions cannot be read");
                }
                Self::default()
            }
        }
    }

    /// Writes the positions in one step.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
            fs::create_dir_all(parent)?;
        }
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        file.sync_data()?;
        fs::rename(new, path)
    }
}
