//! The daemon: what all handlers share.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;

use ::buildkit::BuildKit;

use crate::buildkit::{self, Uploads};
use crate::containers::{Containers, Execs};
use crate::error::{ApiError, Result};
use crate::events::EventLog;
use crate::networks::Networks;
use crate::volumes::Volumes;
use crate::{Config, containers, http, networks};

/// The Docker Engine API. Cheap to clone.
#[derive(Clone)]
pub struct DockerApi(Arc<Daemon>);

/// Everything there is.
pub(crate) struct Daemon {
    pub config: Config,
    pub containers: Containers,
    pub execs: Execs,
    pub networks: Networks,
    pub volumes: Volumes,
    pub events: EventLog,
    /// What buildx speaks; `None` without a builder.
    pub buildkit: Option<BuildKit>,
    pub uploads: Uploads,
    /// Identifies this engine to clients.
    pub id: String,
}

impl DockerApi {
    /// Reads the records of `data_dir` and takes over containers that still run; starts those whose restart policy
    /// says so.
    ///
    /// # Errors
    /// When a directory cannot be made or read. A record that cannot be understood is left alone, with a warning.
    pub async fn open(config: Config) -> Result<Self, ApiError> {
        for directory in ["containers", "volumes", "networks", "tmp"] {
            fs::create_dir_all(config.data_dir.join(directory))?;
        }
        for left in fs::read_dir(config.data_dir.join("tmp"))?.flatten() {
            let path = left.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        containers::init_layer(&config.data_dir)?;
        let containers = Containers::open(&config.data_dir.join("containers"))?;
        let networks = Networks::open(&config)?;
        let volumes = Volumes::open(&config.data_dir.join("volumes"))?;
        let id = identity(&config.data_dir)?;
        let daemon = Arc::new_cyclic(|daemon| Daemon {
            containers,
            execs: Execs::default(),
            networks,
            volumes,
            events: EventLog::default(),
            buildkit: buildkit::open(daemon, &config),
            uploads: Uploads::default(),
            id,
            config,
        });
        let killed = daemon.clone();
        crate::error::blocking(move || {
            networks::take_back(&killed);
            Ok(())
        })
        .await?;
        containers::adopt(&daemon).await;
        Ok(Self(daemon))
    }

    /// Takes an API's networks off the host without opening it, so that nothing is started; their records stay.
    ///
    /// # Errors
    /// What could not be removed; calling again tries again.
    pub fn remove_networks(config: &Config) -> Result<(), ApiError> {
        let volumes = config.data_dir.join("volumes");
        if volumes.exists() {
            Volumes::open(&volumes)?.unmount_all();
        }
        Networks::open(config)?.purge()
    }

    /// Answers on a socket until its listener fails.
    ///
    /// # Errors
    /// The listener's.
    pub async fn serve(&self, listener: UnixListener) -> io::Result<()> {
        http::serve(self.0.clone(), listener).await
    }

    /// Kills and removes every container and removes all networks from the host; volumes and images stay, as files
    /// below the data directories. The API is useless afterwards.
    ///
    /// # Errors
    /// What could not be removed; calling again tries again.
    pub async fn purge(&self) -> Result<(), ApiError> {
        containers::remove_all(&self.0).await?;
        let daemon = self.0.clone();
        crate::error::blocking(move || {
            daemon.volumes.unmount_all();
            daemon.networks.purge()
        })
        .await
    }
}

impl Daemon {
    /// A directory for what is under way, on the data's own file system; emptied at the next start.
    pub fn scratch(&self) -> PathBuf {
        self.config.data_dir.join("tmp")
    }
}

fn identity(data_dir: &Path) -> Result<String> {
    let path = data_dir.join("engine-id");
    if let Ok(id) = fs::read_to_string(&path) {
        return Ok(id.trim().to_owned());
    }
    let hex = containers::random_id();
    let id = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]);
    fs::write(&path, &id)?;
    Ok(id)
}

/// Replaces a JSON file so that a reader, or a restart, sees the old or the new one, whole.
pub(crate) fn save(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let draft = path.with_extension("new");
    fs::write(&draft, serde_json::to_vec(value)?)?;
    fs::rename(&draft, path)
}

/// Reads what [`save`] wrote.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
