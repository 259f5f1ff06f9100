//! `hythe operator`: the controllers of the patterns, of Ingress and of the Gateway API against any Kubernetes cluster.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use patterns::{
    Settings, definitions, edge,
    lease::Candidate,
    webhook::{self, Reached},
};

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
    crate::up::log();
    block_on(operate(flags))
}

async fn operate(flags: OperatorFlags) -> Result<ExitCode> {
    let client = connect(&flags).await?;
    let version = client.apiserver_version().await.context("the cluster does not answer")?;
    say(&format!("cluster of {}", version.git_version));
    definitions::install(&client).await.context("the CustomResourceDefinitions")?;
    say("kinds are installed");
    ensure_namespace(&client, &flags.namespace).await?;
    let webhook =
        webhook_of(&flags)?.map(|reached| tokio::spawn(webhook::run(client.clone(), reached, flags.image.clone())));
    let identity = format!("{}_{}", host_name(), std::process::id());
    let leading = Candidate::new(client.clone(), &flags.namespace, "hythe-operator", &identity).lead().await;
    say(&format!("{identity} leads"));
    edge::ensure_classes(&client).await.context("the classes")?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let webhook = async {
        match webhook {
            Some(task) => task.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = patterns::run(client, settings(&flags)) => bail!("the controllers ended"),
        // Somebody else may lead by now: two must not.
        () = leading.lost() => bail!("the lease is lost"),
        ended = webhook => match ended {
            Ok(Err(error)) => Err(error).context("the webhook ended"),
            _ => bail!("the webhook ended"),
        },
        _ = terminate.recv() => Ok(ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
    }
}

fn settings(flags: &OperatorFlags) -> Settings {
    let mut settings = Settings::new(&flags.image);
    settings.domain.clone_from(&flags.cluster_domain);
    settings.edge.namespace.clone_from(&flags.namespace);
    settings.edge.http_port = flags.edge_http_port;
    settings.edge.https_port = flags.edge_https_port;
    settings.edge.host_network = flags.edge_host_network;
    settings.edge.replicas = flags.edge_replicas;
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
