//! What of a pod survives the agent: a small file beside its volumes.

use std::{io, path::Path};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use super::container::ContainerRecord;

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodRecord {
    /// For the directory of logs after the pod's object is gone.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The sandbox it has, if any.
    pub sandbox: Option<String>,
    /// How many sandboxes it has had.
    pub sandbox_attempt: u32,
    /// Its addresses.
    pub pod_ips: Vec<String>,
    /// When the agent first saw it.
    pub start_time: Option<Timestamp>,
    /// The init containers have done their work in this sandbox.
    pub initialized: bool,
    /// All of its containers are being ended to start anew.
    pub restarting: bool,
    /// What it has as a whole (`spec.resources`); `None` in a record of an agent that did not resize that: the declared.
    pub whole: Option<Whole>,
    /// Its containers.
    pub containers: Vec<ContainerRecord>,
    /// Why it failed as a whole: (reason, message).
    pub failure: Option<(String, String)>,
    /// Seconds that its containers have to end by themselves, if not the pod's own.
    pub failure_grace: Option<u64>,
    /// Why something other than its own doing ended it: the message of its `DisruptionTarget` condition.
    pub disruption: Option<String>,
}

/// The resources of a pod as a whole (KEP-2837, KEP-5419).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Whole {
    /// What the node has granted.
    pub allocated: ResourceRequirements,
    /// What is in force in its sandbox.
    pub applied: ResourceRequirements,
}

impl PodRecord {
    /// Reads it; `None` if there is none or it can't be understood (then the runtime's knowledge has to do).
    pub fn load(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        serde_json::from_slice(&bytes)
            .inspect_err(
                |error| tracing::warn!(path = %path.display(), %error, "a pod's record can't be read and is ignored"),
            )
            .ok()
    }

    /// Replaces it by rename. It need not survive a power loss: then nothing runs that it could tell of.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        let new = path.with_extension("new");
        match std::fs::write(&new, &bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                std::fs::write(&new, &bytes)?;
            }
            other => other?,
        }
        std::fs::rename(new, path)
    }
}
