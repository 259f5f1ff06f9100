//! What the agent knows of one container of a pod: the ground truth for its status, and what survives the agent.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerUser, EphemeralContainer, PodSpec, ResourceRequirements};
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use crate::device_plugins::{Allocation, Devices};

/// How a container belongs to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: the next one starts once it has started.
    Sidecar,
    /// One of `spec.containers`.
    App,
    /// One of `spec.ephemeralContainers`: started once, beside the others, and counted nowhere.
    Ephemeral,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// How many times it was started anew.
    pub restart_count: u32,
    /// What it does now.
    pub current: Current,
    /// How it ended the last time, if it was started again (or waits for it).
    pub last: Option<Ended>,
    /// `status.image`.
    pub image: String,
    /// `status.imageID`.
    pub image_id: String,
    /// Its startup probe passed (or it has none) and its postStart hook is done.
    pub started: bool,
    /// Its readiness probe passes (or it has none).
    pub ready: bool,
    /// Delay of the next restart.
    pub backoff: Backoff,
    /// The resources that the node has granted it; `None` in a record of an agent that did not resize: the declared.
    #[serde(default)]
    pub allocated: Option<ResourceRequirements>,
    /// Those that its present or last process was given.
    #[serde(default)]
    pub applied: Option<ResourceRequirements>,
    /// Whom its present or last process ran as at first.
    #[serde(default)]
    pub user: Option<ContainerUser>,
    /// It is to run again whatever its policy says of its end, because all containers of the pod do.
    #[serde(default)]
    pub again: bool,
    /// The devices it holds.
    #[serde(default)]
    pub devices: Devices,
    /// What it needs to use them.
    #[serde(default)]
    pub device_needs: Option<Allocation>,
}

/// The present of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Current {
    /// Does not run yet, or not again yet. Without a reason it is `PodInitializing` or `ContainerCreating`.
    Waiting {
        /// `CrashLoopBackOff`, `ErrImagePull`…
        reason: Option<String>,
        /// For people.
        message: Option<String>,
    },
    /// Its process runs.
    Running {
        /// The runtime's id of it.
        id: String,
        /// Since when.
        started_at: Timestamp,
    },
    /// Its process ended.
    Ended(Ended),
}

/// The end of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The runtime's id of it.
    pub id: String,
    /// Exit code, 128 + signal.
    pub exit_code: i32,
    /// Signal, if one ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// The termination message.
    pub message: Option<String>,
    /// Since when it ran.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl ContainerRecord {
    /// A container that was never started.
    pub fn new(container: &Container, role: Role) -> Self {
        Self {
            name: container.name.clone(),
            role,
            restart_count: 0,
            current: Current::Waiting { reason: None, message: None },
            last: None,
            image: container.image.clone().unwrap_or_default(),
            image_id: String::new(),
            started: false,
            ready: false,
            backoff: Backoff::default(),
            allocated: Some(container.resources.clone().unwrap_or_default()),
            again: false,
            devices: Devices::new(),
            device_needs: None,
            applied: None,
            user: None,
        }
    }

    /// Whether it runs.
    pub fn running(&self) -> bool {
        matches!(self.current, Current::Running { .. })
    }

    /// Its end, when it does not run: the present one or the last.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.current {
            Current::Ended(ended) => Some(ended),
            Current::Waiting { .. } => self.last.as_ref(),
            Current::Running { .. } => None,
        }
    }

    /// The id of the running container.
    pub fn running_id(&self) -> Option<&str> {
        match &self.current {
            Current::Running { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Sets it waiting, keeping its end as the last state.
    pub fn wait_for(&mut self, reason: &str, message: Option<String>) {
        if let Current::Ended(ended) = &self.current {
            self.last = Some(ended.clone());
        }
        self.current = Current::Waiting { reason: Some(reason.to_owned()), message };
        self.started = false;
        self.ready = false;
    }

    /// Its process runs.
    pub fn run(&mut self, id: String, started_at: Timestamp) {
        if let Current::Ended(ended) = &self.current {
            self.last = Some(ended.clone());
        }
        self.current = Current::Running { id, started_at };
        self.again = false;
        self.started = false;
        self.ready = false;
    }

    /// Its process ended.
    pub fn end(&mut self, ended: Ended) {
        self.current = Current::Ended(ended);
        self.started = false;
        self.ready = false;
    }
}

/// An ephemeral container as what it is a variant of.
pub fn ephemeral(container: &EphemeralContainer) -> Container {
    let value = serde_json::to_value(container).unwrap_or_default();
    // Its fields are those of a container and the target, which is of no use there.
    serde_json::from_value(value).unwrap_or_default()
}

/// All containers of a pod in the order of their start: init containers, then the others. Ephemeral ones are apart:
/// they come while the pod runs, and their records behind all these.
pub fn of(spec: &PodSpec) -> impl Iterator<Item = (Role, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|c| {
        let sidecar = c.restart_policy.as_deref() == Some("Always");
        (if sidecar { Role::Sidecar } else { Role::Init }, c)
    });
    init.chain(spec.containers.iter().map(|c| (Role::App, c)))
}
