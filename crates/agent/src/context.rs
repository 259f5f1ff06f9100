//! What all parts of an agent share.

use std::{
    path::Path,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use tokio::sync::Semaphore;

use crate::{
    activity::Activity,
    config::AgentConfig,
    csi,
    device_plugins::DevicePlugins,
    events::Recorder,
    net::PodNetwork,
    node::{Health, Machine},
    noted::Noted,
    paths::PodPaths,
    pods::Pods,
    probes,
    runtime::Images,
    runtime::Runtime,
    server::Rates,
    services::ServiceVariables,
    volumes::{Objects, Singles},
};

/// Handed to every pod's actor.
pub struct Context {
    /// Settings.
    pub config: AgentConfig,
    /// The API.
    pub client: Client,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// Images.
    pub images: Arc<dyn Images>,
    /// The ids of pods with user namespaces; `None` if they can't be recorded.
    pub ids: Option<engine::IdRanges>,
    /// Pod networks.
    pub network: Arc<dyn PodNetwork>,
    /// Events.
    pub recorder: Recorder,
    /// Whose turn it is to write about a pod: each write that is under way has a connection of its own, and a new one
    /// costs more than the write.
    pub turns: Semaphore,
    /// Variables that announce Services.
    pub services: ServiceVariables,
    /// ConfigMaps and Secrets that volumes follow.
    pub objects: Objects,
    /// What the machine has.
    pub machine: Machine,
    /// The Node object as it was registered, for events about it.
    pub node: OnceLock<Node>,
    /// CSI drivers that have registered.
    pub csi: csi::Drivers,
    /// Volumes that one pod alone may have.
    pub alone: Singles,
    /// CSI volumes that the node holds.
    pub holding: csi::Holding,
    /// Tells that the set of images on the node changed.
    pub images_changed: tokio::sync::Notify,
    /// Tells that the node was silent for so long that others may take it for lost.
    pub returned: tokio::sync::Notify,
    /// The pods of this node.
    pub pods: Pods,
    /// Devices that plugins bring.
    pub devices: DevicePlugins,
    /// Images that were pulled for pods.
    pub pulled_images: Noted,
    /// What became of probes.
    pub probes: probes::Counts,
    /// What was done so far.
    pub activity: Activity,
    /// CPU used since someone asked last.
    pub rates: Rates,
    /// How often the agent was asked whether it is well, and said so.
    pub health_checks: AtomicU64,
    /// How the machine fares.
    pub health: tokio::sync::watch::Sender<Health>,
    /// Changes when a pod leaves the node or takes less of it.
    pub room: tokio::sync::watch::Sender<u64>,
    /// Changes when a claim, a PersistentVolume or a CSI driver does: volumes that could not be had may be there now.
    pub storage: tokio::sync::watch::Sender<u64>,
}

/// Writes about pods that are under way at a time.
pub const WRITES: usize = 4;

impl Context {
    /// Where the pod's things lie.
    pub fn paths(&self, pod: &Pod) -> PodPaths {
        PodPaths::new(&self.config.data_dir, self.config.secrets_dir.as_deref(), &self.config.logs, pod)
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// The node's addresses as text.
    pub fn host_ips(&self) -> Vec<String> {
        self.config.node_ips.iter().map(ToString::to_string).collect()
    }
}
