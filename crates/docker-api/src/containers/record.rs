//! What is kept of a container, in `containers/ID/container.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::options::{Endpoint, HostOptions, MountRequest, Options, PortBinding};
use crate::time::NEVER;

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    #[default]
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether it has a process.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// A container's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub status: Status,
    pub pid: i32,
    pub exit_code: i32,
    pub error: String,
    pub oom_killed: bool,
    pub started_at: String,
    pub finished_at: String,
    pub health: Option<Health>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom_killed: false,
            started_at: NEVER.into(),
            finished_at: NEVER.into(),
            health: None,
        }
    }
}

/// What the health check found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    pub failing_streak: i64,
    pub log: Vec<HealthResult>,
}

/// One check.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthResult {
    pub start: String,
    pub end: String,
    pub exit_code: i32,
    pub output: String,
}

/// A mount as `inspect` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, `image`.
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub source: String,
    pub destination: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
    /// A volume made for this container alone.
    #[serde(default, skip_serializing)]
    pub anonymous: bool,
}

/// Everything that is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub id: String,
    /// Without Docker's leading slash.
    pub name: String,
    pub created: String,
    /// `sha256:…`
    pub image_id: String,
    /// The command as run: entrypoint and arguments.
    pub args: Vec<String>,
    pub options: Options,
    pub host: HostOptions,
    pub mounts: Vec<MountPoint>,
    /// Names of the volumes that go with the container.
    pub anonymous_volumes: Vec<String>,
    /// Mount destinations whose volume is not filled from the image.
    pub no_copy: Vec<String>,
    /// Mount destination → the image that is shown there.
    pub images: BTreeMap<String, String>,
    /// Mount destination → the part of a volume or an image that is mounted there, if it is not all of it.
    pub parts: BTreeMap<String, String>,
    /// Network name → its place there.
    pub networks: BTreeMap<String, Endpoint>,
    /// Hardware addresses asked for, by network.
    #[serde(default)]
    pub macs: BTreeMap<String, String>,
    /// Ports in force while it runs.
    pub ports: BTreeMap<String, Vec<PortBinding>>,
    pub state: State,
    pub restart_count: u32,
    /// Read-only mounts leave what is mounted in them as it is, as before API 1.44.
    pub shallow_read_only: bool,
    /// A user stopped it: `unless-stopped` does not bring it back.
    pub manually_stopped: bool,
}

impl Record {
    /// Whether one of its mounts is that volume.
    pub fn uses_volume(&self, name: &str) -> bool {
        self.mounts.iter().any(|mount| mount.kind == "volume" && mount.name == name)
    }

    /// Whether an image is mounted in it.
    pub fn shows_image(&self, id: &str) -> bool {
        self.images.values().any(|image| image == id)
    }

    /// The part of a volume or an image that is mounted at a place, if it is not all of it.
    pub fn subpath(&self, destination: &str) -> Option<&str> {
        if let Some(part) = self.parts.get(destination) {
            return Some(part);
        }
        // Containers of before parts were kept beside the mounts.
        let at = |request: &&MountRequest| super::mounts::clean(&request.target) == destination;
        let request = self.host.mounts.iter().filter(|request| request.kind == "volume").find(at)?;
        let options = request.volume_options.as_ref()?;
        Some(options.subpath.as_str()).filter(|subpath| !subpath.is_empty())
    }

    /// The first twelve digits.
    pub fn short_id(&self) -> &str {
        &self.id[..12]
    }

    /// The attributes that events about it carry.
    pub fn event_attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = self.options.labels.clone();
        attributes.insert("image".into(), self.options.image.clone());
        attributes.insert("name".into(), self.name.clone());
        attributes
    }

    /// The signal that asks it to end.
    pub fn stop_signal(&self) -> i32 {
        self.options.stop_signal.as_deref().and_then(super::signal::parse).unwrap_or(libc::SIGTERM)
    }
}
