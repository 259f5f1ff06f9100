//! Putting the parts together.

use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    config::AgentConfig,
    context::Context,
    events::Recorder,
    net::PodNetwork,
    node::{self, Machine},
    pods::{self, Pods},
    runtime::{Images, Runtime},
    services::{self, ServiceSink, ServiceVariables},
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
        let ids = engine::IdRanges::open(config.data_dir.join("ids"))
            .inspect_err(|error| tracing::warn!(%error, "pods with hostUsers false can't be run"))
            .ok();
        let machine = Machine::read(&config.data_dir);
        let context = Context {
            recorder: Recorder::start(parts.client.clone(), &config.node_name),
            objects: Objects::new(parts.client.clone()),
            services: ServiceVariables::default(),
            images_changed: tokio::sync::Notify::new(),
            machine,
            ids,
            config,
            client: parts.client,
            runtime: parts.runtime,
            images: parts.images,
            network: parts.network,
        };
        Self { context: Arc::new(context), pods: Pods::default(), services: parts.services }
    }

    /// Registers the node and works until `stop`. Containers run on after it: the next agent adopts them.
    pub async fn run(&self, stop: CancellationToken) {
        let node = async {
            if let Some(node) = node::register(&self.context, &stop).await {
                let lease = node::renew(self.context.client.clone(), node.clone(), stop.clone());
                let status = node::keep(Arc::clone(&self.context), node, stop.clone());
                futures::join!(lease, status);
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
        futures::join!(node, pods, services);
    }
}
