//! Where a sandbox keeps its files.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// `run_dir/sandboxes/ID`.
#[derive(Debug, Clone)]
pub(crate) struct Directory(pub PathBuf);

impl Directory {
    /// What the sandbox was made from: a [`crate::shim::Setup`].
    pub fn setup(&self) -> PathBuf {
        self.0.join("sandbox.json")
    }

    /// The shim's socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }

    /// The shim's stderr.
    pub fn log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// Where the sandbox's user namespace is mounted, in the shim's mount namespace.
    pub fn users(&self) -> PathBuf {
        self.0.join("users")
    }

    /// Below `run_dir/mapped`: what containers of a sandbox with mapped ids must reach on their way to their root.
    pub fn mapped(&self) -> PathBuf {
        let run_dir = self.0.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        run_dir.join("mapped").join(self.0.file_name().unwrap_or_default())
    }

    /// System call filters that were compiled, of all sandboxes.
    pub fn filters(&self) -> PathBuf {
        self.0.parent().and_then(Path::parent).unwrap_or(Path::new("/")).join("filters")
    }

    /// All containers' directories.
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    /// One container's directory.
    pub fn container(&self, id: &str) -> ContainerDirectory {
        ContainerDirectory(self.containers().join(id))
    }
}

/// `run_dir/sandboxes/ID/containers/ID`.
#[derive(Debug, Clone)]
pub(crate) struct ContainerDirectory(pub PathBuf);

impl ContainerDirectory {
    /// The [`crate::ContainerSpec`].
    pub fn spec(&self) -> PathBuf {
        self.0.join("container.json")
    }

    /// The [`crate::shim::Record`].
    pub fn record(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// Where an overlay is mounted, in the shim's mount namespace.
    pub fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// libcontainer's state.
    pub fn runtime(&self) -> PathBuf {
        self.0.join("runtime")
    }
}

/// Replaces a file so that a reader sees the old or the new one, whole.
pub(crate) fn save(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let text = serde_json::to_vec(value)?;
    fs::File::create(&temporary)?.write_all(&text)?;
    fs::rename(&temporary, path)
}

/// Reads what [`save`] wrote.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
