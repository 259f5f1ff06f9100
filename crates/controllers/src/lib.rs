//! The built-in controllers: each watches objects and brings the world nearer to what they say. One reconcile
//! loop a file. They speak the Kubernetes API through a [`kube::Client`] and nothing else, so they run beside
//! the API server or on another machine alike.

mod certificates;
mod claim;
mod counts;
mod cronjob;
mod daemonset;
mod deletion_rank;
mod deployment;
mod disruption;
mod disruption_target;
mod endpoints;
mod error;
mod event_expiry;
mod expectations;
mod garbage;
mod hash;
mod history;
mod hpa;
pub mod informer;
mod job;
mod job_ttl;
mod legacy_tokens;
mod namespace;
mod node_lifecycle;
mod node_selection;
mod node_ttl;
pub mod ownership;
mod percent;
mod pod_collection;
mod pod_control;
mod pods;
pub mod queue;
mod quota;
mod replicaset;
mod root_ca;
mod service_account;
mod statefulset;
mod token_secrets;
mod volume;

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{
        Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service, ServiceAccount,
    },
    discovery::v1::EndpointSlice,
    storage::v1::{StorageClass, VolumeAttributesClass},
};
use kube::Client;
use tokio::task::JoinSet;

pub use certificates::Authority;
pub use error::Error;
use informer::Informer;
pub use token_secrets::TokenSigner;

/// What the controllers need to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// PEM of the cluster's authority, published to every namespace as `kube-root-ca.crt`.
    pub cluster_ca: String,
    /// What signs CertificateSigningRequests; `None` leaves them to others.
    pub signing: Option<Authority>,
    /// What makes the tokens of Secrets of type `kubernetes.io/service-account-token`; `None` leaves them to others.
    pub tokens: Option<TokenSigner>,
    /// How long an event is kept after it was last seen (upstream: one hour).
    pub event_ttl: Duration,
    /// How often autoscalers ask for metrics (upstream: `horizontal-pod-autoscaler-sync-period`, 15 s).
    pub autoscaler_period: Duration,
    /// A node is taken for lost when its lease is older (upstream: `node-monitor-grace-period`, 50 s).
    pub node_grace: Duration,
}

impl Config {
    /// Upstream's times.
    pub fn new(cluster_ca: impl Into<String>) -> Self {
        Self {
            cluster_ca: cluster_ca.into(),
            signing: None,
            tokens: None,
            event_ttl: Duration::from_secs(3600),
            autoscaler_period: Duration::from_secs(15),
            node_grace: Duration::from_secs(50),
        }
    }
}

/// The informers that controllers share: one watch a kind.
#[derive(Clone)]
struct Shared {
    client: Client,
    pods: Informer<Pod>,
    replica_sets: Informer<ReplicaSet>,
    replication_controllers: Informer<ReplicationController>,
    deployments: Informer<Deployment>,
    stateful_sets: Informer<StatefulSet>,
    daemon_sets: Informer<DaemonSet>,
    revisions: Informer<ControllerRevision>,
    jobs: Informer<Job>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    attributes_classes: Informer<VolumeAttributesClass>,
}

/// Runs all controllers until the future is dropped. A failed request is tried again with backoff; nothing
/// that goes wrong ends it.
pub async fn run(client: Client, config: Config) {
    counts::register();
    let mut tasks = JoinSet::new();
    let shared = Shared {
        pods: Informer::start(client.clone(), pods::trim, &mut tasks),
        replica_sets: Informer::start(client.clone(), informer::untouched, &mut tasks),
        replication_controllers: Informer::start(client.clone(), informer::untouched, &mut tasks),
        deployments: Informer::start(client.clone(), informer::untouched, &mut tasks),
        stateful_sets: Informer::start(client.clone(), informer::untouched, &mut tasks),
        daemon_sets: Informer::start(client.clone(), informer::untouched, &mut tasks),
        revisions: Informer::start(client.clone(), informer::untouched, &mut tasks),
        jobs: Informer::start(client.clone(), informer::untouched, &mut tasks),
        services: Informer::start(client.clone(), informer::untouched, &mut tasks),
        slices: Informer::start(client.clone(), informer::untouched, &mut tasks),
        nodes: Informer::start(client.clone(), informer::untouched, &mut tasks),
        namespaces: Informer::start(client.clone(), informer::untouched, &mut tasks),
        accounts: Informer::start(client.clone(), informer::untouched, &mut tasks),
        claims: Informer::start(client.clone(), informer::untouched, &mut tasks),
        volumes: Informer::start(client.clone(), informer::untouched, &mut tasks),
        classes: Informer::start(client.clone(), informer::untouched, &mut tasks),
        attributes_classes: Informer::start(client.clone(), informer::untouched, &mut tasks),
        client: client.clone(),
    };
    tasks.spawn(namespace::run(shared.clone()));
    tasks.spawn(service_account::run(shared.clone()));
    if let Some(signer) = config.tokens {
        tasks.spawn(token_secrets::run(shared.clone(), config.cluster_ca.clone(), signer));
    }
    tasks.spawn(legacy_tokens::run(shared.clone()));
    tasks.spawn(root_ca::run(shared.clone(), config.cluster_ca));
    if let Some(authority) = config.signing {
        tasks.spawn(certificates::run(shared.clone(), authority));
    }
    tasks.spawn(deployment::run(shared.clone()));
    tasks.spawn(replicaset::run(shared.clone(), shared.replica_sets.clone()));
    tasks.spawn(replicaset::run(shared.clone(), shared.replication_controllers.clone()));
    tasks.spawn(statefulset::run(shared.clone()));
    tasks.spawn(daemonset::run(shared.clone()));
    tasks.spawn(job::run(shared.clone()));
    tasks.spawn(job_ttl::run(shared.clone()));
    tasks.spawn(cronjob::run(shared.clone()));
    tasks.spawn(disruption::run(shared.clone()));
    tasks.spawn(disruption_target::withdraw(shared.clone()));
    tasks.spawn(hpa::run(shared.clone(), config.autoscaler_period));
    tasks.spawn(endpoints::slices::run(shared.clone()));
    tasks.spawn(endpoints::legacy::run(shared.clone()));
    tasks.spawn(endpoints::mirror::run(shared.clone()));
    tasks.spawn(node_lifecycle::run(shared.clone(), config.node_grace));
    tasks.spawn(node_ttl::run(shared.clone()));
    tasks.spawn(pod_collection::run(shared.clone()));
    tasks.spawn(volume::run(shared.clone()));
    tasks.spawn(volume::protection::claims(shared.clone()));
    tasks.spawn(volume::protection::volumes(shared.clone()));
    tasks.spawn(volume::protection::attributes_classes(shared.clone()));
    tasks.spawn(volume::ephemeral::run(shared.clone()));
    tasks.spawn(volume::attach::run(shared.clone()));
    tasks.spawn(volume::expand::run(shared.clone()));
    let comings = garbage::Comings::default();
    tasks.spawn(quota::run(shared.clone(), comings.clone()));
    tasks.spawn(garbage::run(client.clone(), comings));
    tasks.spawn(event_expiry::run(client, config.event_ttl));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller ended");
        }
    }
}
