//! All containers of the daemon, by ID and by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Streams;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::record::{Record, Status};
use crate::daemon::{load, save};
use crate::error::{ApiError, Result};
use crate::networks::HeldPorts;

/// A container. Shared by whoever works on it.
pub(crate) struct Container {
    pub id: String,
    pub directory: PathBuf,
    record: Mutex<Record>,
    /// Held while it is started, removed or renamed; see [`Container::turn`].
    turn: tokio::sync::Mutex<()>,
    /// Held while what an ended run has left is taken away.
    sweeping: Arc<tokio::sync::Mutex<()>>,
    /// Who waits for its end.
    pub moments: watch::Sender<Moment>,
    /// Attached clients of a container that has not been started yet.
    pub waiting: Mutex<Vec<Waiting>>,
    /// Ports of the host that are kept for it.
    pub held_ports: Mutex<HeldPorts>,
    /// Ends the pause before a restart.
    pub restart: Mutex<CancellationToken>,
}

/// A client that has attached to what is not there yet.
pub(crate) struct Waiting {
    /// It has something to say.
    pub stdin: bool,
    /// Where it gets its streams.
    pub streams: oneshot::Sender<Streams>,
}

/// What waiters look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moment {
    /// How often it ended.
    pub ends: u64,
    pub running: bool,
    pub removed: bool,
    pub exit_code: i32,
}

impl Container {
    fn new(directory: PathBuf, record: Record) -> Arc<Self> {
        let moment =
            Moment { running: record.state.status.is_live(), exit_code: record.state.exit_code, ..Moment::default() };
        Arc::new(Self {
            id: record.id.clone(),
            directory,
            record: Mutex::new(record),
            turn: tokio::sync::Mutex::default(),
            sweeping: Arc::default(),
            moments: watch::Sender::new(moment),
            waiting: Mutex::default(),
            held_ports: Mutex::default(),
            restart: Mutex::default(),
        })
    }

    /// Waits until nobody starts, removes or renames it and nothing of an ended run is left; keeps others out until
    /// dropped.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        let turn = self.turn.lock().await;
        drop(self.sweeping.lock().await);
        turn
    }

    /// As [`Container::turn`], by whom an ended run may still be taken away behind.
    pub async fn early_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Held while what an ended run has left is taken away, so that its end can be told before.
    pub async fn sweep(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.sweeping.clone().lock_owned().await
    }

    /// Its record, locked; never across an `await`.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock()
    }

    /// A copy of its record.
    pub fn snapshot(&self) -> Record {
        self.record.lock().clone()
    }

    /// Changes the record, durably.
    ///
    /// # Errors
    /// The disk's; the change is in force all the same.
    pub fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> Result<T> {
        let mut record = self.record.lock();
        let result = change(&mut record);
        save(&self.directory.join("container.json"), &*record)?;
        Ok(result)
    }

    /// As [`Container::change`], where a full disk must not stop what is being done.
    pub fn note<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut record = self.record.lock();
        let result = change(&mut record);
        if let Err(error) = save(&self.directory.join("container.json"), &*record) {
            tracing::error!(container = self.id, %error, "a container's record cannot be written");
        }
        result
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.record.lock().state.status
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.record.lock().name.clone()
    }

    /// Where its output is kept.
    pub fn log_path(&self) -> PathBuf {
        self.directory.join("container.log")
    }
}

/// The table.
pub(crate) struct Containers {
    root: PathBuf,
    table: Mutex<BTreeMap<String, Arc<Container>>>,
    /// Names given to containers that are still being made.
    names: Mutex<BTreeMap<String, String>>,
}

impl Containers {
    /// Reads all records.
    pub fn open(root: &Path) -> Result<Self> {
        let mut table = BTreeMap::new();
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(root)?.flatten() {
            let directory = entry.path();
            match load::<Record>(&directory.join("container.json")) {
                Ok(record) => {
                    names.insert(record.name.clone(), record.id.clone());
                    table.insert(record.id.clone(), Container::new(directory, record));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    // It was being made, or removed.
                    let _ = fs::remove_dir_all(&directory);
                }
                Err(error) => tracing::warn!(path = %directory.display(), %error, "not a container's record"),
            }
        }
        Ok(Self { root: root.to_owned(), table: Mutex::new(table), names: Mutex::new(names) })
    }

    /// All, the newest first.
    pub fn all(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = self.table.lock().values().cloned().collect();
        all.sort_by_cached_key(|container| std::cmp::Reverse(container.record().created.clone()));
        all
    }

    /// By ID, name or a prefix of the ID that only one has.
    pub fn find(&self, wanted: &str) -> Result<Arc<Container>> {
        let name = wanted.trim_start_matches('/');
        let table = self.table.lock();
        if let Some(container) = table.get(name) {
            return Ok(container.clone());
        }
        if let Some(container) = self.names.lock().get(name).and_then(|id| table.get(id)) {
            return Ok(container.clone());
        }
        let mut matching = table.range(name.to_owned()..).take_while(|(id, _)| id.starts_with(name));
        match (matching.next(), matching.next()) {
            (Some((_, container)), None) if !name.is_empty() => Ok(container.clone()),
            (Some(_), Some(_)) if !name.is_empty() => {
                Err(ApiError::bad(format!("multiple IDs found with provided prefix: {name}")))
            }
            _ => Err(ApiError::not_found(format!("No such container: {wanted}"))),
        }
    }

    /// Keeps a name for a container; an empty one is generated.
    pub fn reserve(&self, name: &str, id: &str) -> Result<String> {
        let mut names = self.names.lock();
        if name.is_empty() {
            let name = super::names::generate(|name| names.contains_key(name));
            names.insert(name.clone(), id.to_owned());
            return Ok(name);
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.len() < 2 || !name.chars().all(legal) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(ApiError::bad(format!(
                "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        if let Some(other) = names.get(name) {
            return Err(ApiError::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{other}\". You have to remove \
                 (or rename) that container to be able to reuse that name."
            )));
        }
        names.insert(name.to_owned(), id.to_owned());
        Ok(name.to_owned())
    }

    /// Lets a name go.
    pub fn release(&self, name: &str) {
        self.names.lock().remove(name);
    }

    /// Adds a container, durably.
    pub fn add(&self, record: Record) -> Result<Arc<Container>> {
        let directory = self.root.join(&record.id);
        fs::create_dir_all(&directory)?;
        let container = Container::new(directory, record);
        container.change(|_| ())?;
        self.table.lock().insert(container.id.clone(), container.clone());
        Ok(container)
    }

    /// Forgets a container and its files. The record goes first: what is left without one is no container.
    pub fn forget(&self, container: &Container) -> Result<()> {
        let _ = fs::remove_file(container.directory.join("container.json"));
        let removed = fs::remove_dir_all(&container.directory);
        self.release(&container.name());
        self.table.lock().remove(&container.id);
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
