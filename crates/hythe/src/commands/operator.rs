//! `hythe operator`: the controllers of the patterns, of Ingress and of the Gateway API against any Kubernetes cluster.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use patterns::{
    Settings, definitions, edge,
    lease::Candidate,
    manifests::{self, InCluster},
    webhook::{self, Reached},
};
use tokio::net::TcpListener;

use super::session::block_on;

/// How the operator runs.
#[derive(Args)]
pub struct OperatorFlags {
    /// The cluster [default: that of the pod that it runs in, or of the environment].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Print the CustomResourceDefinitions that it installs, and end.
    #[arg(long)]
    pub print_crds: bool,
    /// Print what runs it within a cluster (Namespace, ServiceAccount, roles, Service, Deployment), and end.
    #[arg(long)]
    pub print_manifests: bool,
    /// For --print-manifests: its own image (see `hythe image operator`).
    #[arg(long, value_name = "IMAGE", default_value = pattern_containers::image::OPERATOR)]
    pub operator_image: String,
    /// For --print-manifests: how many of it; one works, the others stand by.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub operator_replicas: i32,
    /// The image of the pattern containers (see `hythe image patterns`).
    #[arg(long, value_name = "IMAGE", default_value = pattern_containers::image::NAME)]
    pub image: String,
    /// Where its Lease, its Secrets and the edge are.
    #[arg(long, value_name = "NAMESPACE", default_value = "hythe-system")]
    pub namespace: String,
    /// The domain of the cluster's Services.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The port of nodes for HTTP; 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub edge_http_port: u16,
    /// The port of nodes for HTTPS; 0 for none.
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    pub edge_https_port: u16,
    /// Run the edge in its node's network.
    #[arg(long)]
    pub edge_host_network: bool,
    /// Put a Service of this type before the edge (LoadBalancer, NodePort or ClusterIP) instead of ports of its nodes:
    /// then its pods change without a gap.
    #[arg(long, value_name = "TYPE", value_parser = ["LoadBalancer", "NodePort", "ClusterIP"])]
    pub edge_service_type: Option<String>,
    /// How many pods the edge has.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub edge_replicas: i32,
    /// Where the webhook that injects Sidecars listens, or "none".
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:9443")]
    pub webhook: String,
    /// How API servers reach the webhook of an operator that runs outside of the cluster: https://HOST:PORT
    /// [default: by the Service hythe-operator].
    #[arg(long, value_name = "URL")]
    pub webhook_url: Option<String>,
}

pub fn run(flags: OperatorFlags) -> Result<ExitCode> {
    if flags.print_crds {
        for definition in api::openapi::custom_resource_definitions() {
            print!("---\n{}", serde_yaml_ng::to_string(&definition)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if flags.print_manifests {
        for object in manifests::manifests(&in_cluster(&flags)) {
            print!("---\n{}", serde_yaml_ng::to_string(&object)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    crate::up::log();
    block_on(operate(flags))
}

/// The same flags for the operator that runs in the cluster.
fn in_cluster(flags: &OperatorFlags) -> InCluster {
    let mut arguments = vec![
        format!("--image={}", flags.image),
        format!("--namespace={}", flags.namespace),
        format!("--cluster-domain={}", flags.cluster_domain),
        format!("--edge-http-port={}", flags.edge_http_port),
        format!("--edge-https-port={}", flags.edge_https_port),
        format!("--edge-replicas={}", flags.edge_replicas),
    ];
    arguments.extend(flags.edge_host_network.then(|| "--edge-host-network".to_owned()));
    arguments.extend(flags.edge_service_type.as_ref().map(|of_type| format!("--edge-service-type={of_type}")));
    InCluster {
        namespace: flags.namespace.clone(),
        image: flags.operator_image.clone(),
        arguments,
        replicas: flags.operator_replicas,
    }
}

async fn operate(flags: OperatorFlags) -> Result<ExitCode> {
    let client = connect(&flags).await?;
    let identity = format!("{}_{}", host_name(), std::process::id());
    let candidate = Candidate::new(client.clone(), &flags.namespace, "hythe-operator", &identity);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let code = tokio::select! {
        ended = work(&flags, client, &candidate, &identity) => return ended,
        _ = terminate.recv() => ExitCode::SUCCESS,
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    };
    // Who stands by need not wait. Without an answer the Lease runs out by itself.
    let _ = tokio::time::timeout(PATIENCE, candidate.release()).await;
    Ok(code)
}

/// How long the end waits for the cluster.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries to reach a cluster that does not answer.
const RETRY: Duration = Duration::from_secs(2);

async fn work(flags: &OperatorFlags, client: Client, candidate: &Candidate, identity: &str) -> Result<ExitCode> {
    let webhook = match webhook_of(flags)? {
        Some(reached) => Some((TcpListener::bind(reached.listen).await.context(flags.webhook.clone())?, reached)),
        None => None,
    };
    say(&format!("cluster of {}", until_it_answers(&client).await));
    definitions::install(&client).await.context("the CustomResourceDefinitions")?;
    say("kinds are installed");
    ensure_namespace(&client, &flags.namespace).await?;
    if let Some((listener, reached)) = webhook {
        tokio::spawn(webhook::run(listener, client.clone(), reached, flags.image.clone()));
    }
    loop {
        let leading = candidate.lead().await;
        say(&format!("{identity} leads"));
        tokio::select! {
            () = controllers(&client, flags) => bail!("the controllers ended"),
            // Somebody else may lead by now: two must not.
            () = leading.lost() => say("the lease is lost"),
        }
    }
}

async fn until_it_answers(client: &Client) -> String {
    let mut told = false;
    loop {
        match client.apiserver_version().await {
            Ok(version) => return version.git_version,
            Err(error) if !told => say(&format!("the cluster does not answer yet: {error}")),
            Err(_) => {}
        }
        told = true;
        tokio::time::sleep(RETRY).await;
    }
}

async fn controllers(client: &Client, flags: &OperatorFlags) {
    while let Err(error) = edge::ensure_classes(client).await {
        say(&format!("the classes: {error}"));
        tokio::time::sleep(RETRY).await;
    }
    patterns::run(client.clone(), settings(flags)).await;
}

fn settings(flags: &OperatorFlags) -> Settings {
    let mut settings = Settings::new(&flags.image);
    settings.domain.clone_from(&flags.cluster_domain);
    settings.edge.namespace.clone_from(&flags.namespace);
    settings.edge.http_port = flags.edge_http_port;
    settings.edge.https_port = flags.edge_https_port;
    settings.edge.host_network = flags.edge_host_network;
    settings.edge.replicas = flags.edge_replicas;
    settings.edge.service_type.clone_from(&flags.edge_service_type);
    settings
}

async fn connect(flags: &OperatorFlags) -> Result<Client> {
    let config = match &flags.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("can't read {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await.context("no cluster: name one with --kubeconfig")?,
    };
    Ok(Client::try_from(config)?)
}

/// How the webhook is reached, if it is served.
fn webhook_of(flags: &OperatorFlags) -> Result<Option<Reached>> {
    if flags.webhook == "none" {
        return Ok(None);
    }
    let listen: SocketAddr = flags.webhook.parse().with_context(|| format!("--webhook {}", flags.webhook))?;
    Ok(Some(Reached { listen, namespace: flags.namespace.clone(), url: flags.webhook_url.clone() }))
}

async fn ensure_namespace(client: &Client, name: &str) -> Result<()> {
    use k8s_openapi::api::core::v1::Namespace;
    use kube::{
        Api,
        api::{ObjectMeta, PostParams},
    };
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
    let namespace = Namespace { metadata, ..Default::default() };
    match Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        other => other.map(drop).with_context(|| format!("the namespace {name}")),
    }
}

fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "operator".to_owned())
}

fn say(line: &str) {
    eprintln!("{line}");
}
