//! Putting the parts together.

use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    config::AgentConfig,
    context::{Context, WRITES},
    csi,
    device_plugins::DevicePlugins,
    events::Recorder,
    local_storage,
    net::PodNetwork,
    node::{
        self, Health, Machine,
        eviction::{self, threshold::Signal},
    },
    noted::Noted,
    pod_resources,
    pods::{self, Pods},
    runtime::{Images, Runtime},
    services::{self, ServiceSink, ServiceVariables},
    spec::resource_reference::Allocatable,
    volumes::{self, Objects},
};

/// What an agent works with.
pub struct Parts {
    /// The API.
    pub client: Client,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// Images.
    pub images: Arc<dyn Images>,
    /// Pod networks.
    pub network: Arc<dyn PodNetwork>,
    /// Services.
    pub services: Arc<dyn ServiceSink>,
}

/// A node's agent. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Agent {
    pub(crate) context: Arc<Context>,
    pub(crate) pods: Pods,
    services: Arc<dyn ServiceSink>,
}

impl Agent {
    /// Must be called within a tokio runtime.
    pub fn new(mut config: AgentConfig, parts: Parts) -> Self {
        if let Some(dir) = &config.secrets_dir
            && let Err(error) = volumes::keep_in_memory(dir)
        {
            tracing::warn!(%error, "no memory file system: Secrets and tokens of pods are written to the data directory");
            config.secrets_dir = None;
        }
        if config.share_mounts
            && let Err(error) = csi::share_mounts(&config.data_dir.join("pods"))
        {
            tracing::warn!(%error, "what CSI drivers mount does not arrive in pods that are there before");
        }
        if let Err(error) = std::fs::create_dir_all(&config.data_dir) {
            tracing::warn!(%error, dir = %config.data_dir.display(), "the agent's directory can't be made");
        }
        if config.enforce_allocatable {
            config.eviction.watch_allocatable();
        }
        let mut machine = Machine::read(&config.data_dir);
        machine.reserved = Allocatable {
            memory: config.reserved.memory + config.eviction.reserved(Signal::MemoryAvailable, machine.memory_bytes),
            ephemeral_storage: config.reserved.ephemeral_storage
                + config.eviction.reserved(Signal::NodefsAvailable, machine.storage_bytes),
            ..config.reserved
        };
        let pods = Pods::default();
        let ids = engine::IdRanges::open(config.data_dir.join("ids"))
            .inspect_err(|error| tracing::warn!(%error, "pods with hostUsers false can't be run"))
            .ok();
        let context = Context {
            pods: pods.clone(),
            probes: crate::probes::Counts::default(),
            activity: Default::default(),
            rates: Default::default(),
            health_checks: std::sync::atomic::AtomicU64::new(0),
            room: tokio::sync::watch::channel(0).0,
            storage: tokio::sync::watch::channel(0).0,
            devices: DevicePlugins::after(Noted::load(config.data_dir.join("device-resources.json"))),
            pulled_images: Noted::load(config.data_dir.join("pulled-images.json")),
            health: tokio::sync::watch::channel(Health::default()).0,
            recorder: Recorder::start(parts.client.clone(), &config.node_name),
            objects: Objects::new(parts.client.clone()),
            turns: tokio::sync::Semaphore::new(WRITES),
            services: ServiceVariables::default(),
            csi: csi::Drivers::default(),
            alone: Default::default(),
            holding: csi::Holding::default(),
            images_changed: tokio::sync::Notify::new(),
            returned: tokio::sync::Notify::new(),
            node: Default::default(),
            machine,
            ids,
            config,
            client: parts.client,
            runtime: parts.runtime,
            images: parts.images,
            network: parts.network,
        };
        Self { context: Arc::new(context), pods, services: parts.services }
    }

    /// Ends all pods of the node in order, as before a shutdown of the machine; call it while [`Agent::run`] works.
    pub async fn shut_down(&self) {
        node::shut_down(&self.context).await;
    }

    /// Registers the node and works until `stop`. Containers run on after it: the next agent adopts them.
    pub async fn run(&self, stop: CancellationToken) {
        let node = async {
            if let Some(node) = node::register(&self.context, &stop).await {
                let lease = node::renew(Arc::clone(&self.context), node.clone(), stop.clone());
                let guard = eviction::watch(Arc::clone(&self.context), node.clone(), stop.clone());
                let limit = node::enforce(Arc::clone(&self.context), node.clone(), stop.clone());
                let status = node::keep(Arc::clone(&self.context), node, stop.clone());
                futures::join!(lease, status, guard, limit);
            }
        };
        let pods = pods::run(Arc::clone(&self.context), self.pods.clone(), stop.clone());
        let services = services::follow(
            self.context.client.clone(),
            self.context.config.node_name.clone(),
            Arc::clone(&self.services),
            self.context.services.clone(),
            stop.clone(),
        );
        let storage = local_storage::run(Arc::clone(&self.context), stop.clone());
        let csi = csi::run(Arc::clone(&self.context), stop.clone());
        let devices = self.context.devices.serve(self.context.config.device_plugins.clone(), stop.clone());
        let resources = pod_resources::serve(Arc::clone(&self.context), stop.clone());
        futures::join!(node, pods, services, storage, csi, devices, resources);
    }
}
