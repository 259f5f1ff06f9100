//! What a pod's actor hears.

use std::{collections::BTreeMap, sync::Arc};

use engine::ExitStatus;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use crate::{
    pods::{
        launch::{LaunchError, Started},
        prepare::{PrepareError, Prepared},
        sandbox::SandboxUp,
        status_writer::Written,
    },
    probes::ProbeKind,
    volumes::{PodVolumes, VolumeError},
};

/// Why and how the node ends a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// `status.reason`, and the reason of the event.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Of the event, for programs.
    pub annotations: BTreeMap<String, String>,
    /// Seconds that its containers have to end by themselves; `None` for the pod's own.
    pub grace: Option<u64>,
    /// It is not the pod's own doing: the condition `DisruptionTarget` says so.
    pub disrupts: bool,
}

/// One message. `slot` is the container's index, `attempt` tells late messages about an earlier start apart.
pub enum Message {
    /// A new version of the pod.
    Pod(Arc<Pod>),
    /// The pod is gone from the API.
    Gone,
    /// The mirror of a static pod, as the API has it.
    Mirror(Arc<Pod>),
    /// The API has no such mirror any more: its UID, or `None` for none at all.
    MirrorGone(Option<String>),
    /// The mirror was made (or removed, for another to be made), or not.
    MirrorKept(Result<Option<Arc<Pod>>, String>),
    /// The sandbox is up, or not.
    Sandbox(Result<SandboxUp, String>),
    /// The volumes are set up, or not.
    Volumes(PodVolumes, Vec<VolumeError>),
    /// The node ends the pod.
    Evict(Eviction),
    /// A container can be launched, or not.
    Prepared {
        /// The container.
        slot: usize,
        /// What was gathered.
        result: Box<Result<Prepared, PrepareError>>,
    },
    /// A container's program was started, or not.
    Launched {
        /// The container.
        slot: usize,
        /// Which start.
        attempt: u32,
        /// What is known of it since.
        result: Result<Started, LaunchError>,
    },
    /// A container ended.
    Ended {
        /// The container.
        slot: usize,
        /// Which start.
        attempt: u32,
        /// How; `None` if the runtime lost it.
        exit: Option<ExitStatus>,
    },
    /// Its postStart hook is done.
    PostStarted {
        /// The container.
        slot: usize,
        /// Which start.
        attempt: u32,
        /// What went wrong, for the log.
        result: Result<(), String>,
    },
    /// A probe's verdict changed.
    Probe {
        /// The container.
        slot: usize,
        /// Which start.
        attempt: u32,
        /// Which probe.
        kind: ProbeKind,
        /// Whether it passes now.
        passes: bool,
    },
    /// A container's limits were changed, or not.
    Resized {
        /// The container.
        slot: usize,
        /// Which start.
        attempt: u32,
        /// What it has now.
        resources: Box<ResourceRequirements>,
        /// Why not.
        result: Result<(), String>,
    },
    /// The limits of the pod as a whole were changed, or not.
    WholeResized {
        /// What it has now.
        resources: Box<ResourceRequirements>,
        /// Why not.
        result: Result<(), String>,
    },
    /// Another pod has left the node, or takes less of it.
    Room,
    /// What the volumes may have waited for has changed.
    Storage,
    /// A status patch came back.
    Written(Written),
    /// Everything of the pod is removed from the node, or not yet.
    TornDown(Result<(), String>),
    /// The API was asked to forget the pod.
    Deleted(Result<(), String>),
}

impl Message {
    /// For traces of how long each stage takes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pod(_) => "pod",
            Self::Gone => "gone",
            Self::Mirror(_) => "mirror",
            Self::MirrorGone(_) => "mirror gone",
            Self::MirrorKept(_) => "mirror kept",
            Self::Sandbox(_) => "sandbox",
            Self::Volumes(..) => "volumes",
            Self::Evict(_) => "evict",
            Self::Prepared { .. } => "prepared",
            Self::Launched { .. } => "launched",
            Self::Ended { .. } => "ended",
            Self::PostStarted { .. } => "post started",
            Self::Probe { .. } => "probe",
            Self::Resized { .. } => "resized",
            Self::WholeResized { .. } => "resized as a whole",
            Self::Room => "room",
            Self::Storage => "storage",
            Self::Written(_) => "written",
            Self::TornDown(_) => "torn down",
            Self::Deleted(_) => "deleted",
        }
    }
}
