//! Controllers of the pattern resources, of Ingress and of the Gateway API: each brings Deployments, Services and
//! configuration nearer to what an object says. They speak the Kubernetes API and nothing else, so that they run inside
//! `hythe up` and as `hythe operator` against any other cluster.
//!
//! Nothing but the kinds themselves is watched before the first object of one exists.

mod apply;
mod cache;
mod conditions;
pub mod definitions;
pub mod edge;
pub mod lease;
mod limit;
pub mod manifests;
mod pattern;
mod plan;
mod scatter_gather;
mod sharded;
mod sidecar;
mod split;
pub mod webhook;
mod world;

use kube::Client;
use tokio::task::JoinSet;

/// In whose name fields are owned and objects labelled.
pub const MANAGER: &str = "hythe-patterns";

/// What the controllers need to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image of the pattern containers.
    pub image: String,
    /// The domain of Services' names.
    pub domain: String,
    /// Whether configuration lists the endpoints of Services, as it should where a ConfigMap reaches its pods at once;
    /// otherwise it names the Services.
    pub list_endpoints: bool,
    /// The edge.
    pub edge: edge::EdgeSettings,
}

impl Settings {
    /// What fits a cluster of Kubernetes as it mostly is.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            domain: "cluster.local".to_owned(),
            list_endpoints: false,
            edge: edge::EdgeSettings::default(),
        }
    }
}

/// Runs all controllers until the future is dropped. A failed request is tried again with backoff.
pub async fn run(client: Client, settings: Settings) {
    use pattern_kinds::patterns::{CacheTier, RateLimit, RequestSplit, ScatterGather, ShardedService};
    let mut tasks = JoinSet::new();
    let world = world::World::new(client.clone(), settings);
    pattern::start::<ShardedService>(&world, &mut tasks);
    pattern::start::<RequestSplit>(&world, &mut tasks);
    pattern::start::<CacheTier>(&world, &mut tasks);
    pattern::start::<RateLimit>(&world, &mut tasks);
    pattern::start::<ScatterGather>(&world, &mut tasks);
    sidecar::start(&world, &mut tasks);
    edge::start(&world, &mut tasks);
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller of the patterns ended");
        }
    }
}
