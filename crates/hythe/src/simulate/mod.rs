//! `hythe simulate`: many nodes in one process. Each has the real agent, over a machine that only remembers what it was
//! asked for ([`machine`]). The control plane can't tell them from others, so that its limits can be measured.

mod machine;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use agent::{Agent, AgentConfig, Parts};
use anyhow::{Context, Result, bail};
use clap::Args;
use futures::{StreamExt, stream};
use http::header::{HeaderName, HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use machine::Machine;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::instance::Instance;

/// Which nodes, and where.
#[derive(Args)]
pub struct SimulateFlags {
    /// How many nodes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=4096))]
    nodes: u16,
    /// How many pods each of them takes.
    #[arg(long, default_value_t = 110, value_parser = clap::value_parser!(u8).range(1..=250))]
    pods_per_node: u8,
    /// The nodes are called PREFIX-0, PREFIX-1…
    #[arg(long, default_value = "simulated")]
    prefix: String,
    /// The cluster [default: the instance's own]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Runs the nodes until a signal comes, then takes them away.
pub fn run(instance: &Instance, flags: SimulateFlags) -> Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let path = flags.kubeconfig.clone().unwrap_or_else(|| instance.kubeconfig());
        if !path.exists() {
            bail!("there is no {}: run `hythe up` first, or name another with --kubeconfig", path.display());
        }
        let directory = std::env::temp_dir().join(format!("hythe-simulate-{}", std::process::id()));
        let result = simulate(&path, &directory, &flags).await;
        let _ = std::fs::remove_dir_all(&directory);
        result
    })
}

async fn simulate(kubeconfig: &Path, directory: &Path, flags: &SimulateFlags) -> Result<ExitCode> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut ended = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let mut agents = Vec::new();
    let mut first = None;
    for index in 0..flags.nodes {
        // A connection of its own for each, as between machines.
        let client = connect(kubeconfig).await?;
        let agent = agent(&client, index, directory, flags)?;
        first.get_or_insert(client);
        let stop = stop.clone();
        agents.push(tokio::spawn(async move { agent.run(stop).await }));
    }
    let client = first.context("--nodes is at least 1")?;
    let nodes: Api<Node> = Api::all(client);
    tokio::select! {
        result = all_ready(&nodes, flags) => {
            result?;
            println!("hythe: {} simulated nodes are ready", flags.nodes);
        }
        _ = interrupted.recv() => return leave(&nodes, flags, stop, agents).await,
        _ = ended.recv() => return leave(&nodes, flags, stop, agents).await,
    }
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = ended.recv() => {}
    }
    leave(&nodes, flags, stop, agents).await
}

async fn connect(kubeconfig: &Path) -> Result<Client> {
    let text = Kubeconfig::read_from(kubeconfig).with_context(|| format!("can't read {}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    // As agents do: nothing in them reads these.
    config.headers.push((HeaderName::from_static("hythe-omit"), HeaderValue::from_static("managedFields")));
    config.headers.push((USER_AGENT, HeaderValue::from_static("kubelet")));
    Ok(Client::try_from(config)?)
}

fn agent(client: &Client, index: u16, directory: &Path, flags: &SimulateFlags) -> Result<Agent> {
    let name = name(flags, index);
    let data = directory.join(&name);
    std::fs::create_dir_all(&data).with_context(|| format!("can't make {}", data.display()))?;
    let mut config = AgentConfig::new(&name, data);
    // For benchmarks of networks (RFC 2544): it leads nowhere.
    config.node_ips = vec![IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + u32::from(index)))];
    config.max_pods = flags.pods_per_node.into();
    config.version = api::discovery::VERSION.to_owned();
    config.labels = vec![("hythe.io/simulated".to_owned(), "true".to_owned())];
    // No hardware to ask for, and nothing of this machine's to limit.
    config.pod_resources = None;
    config.enforce_allocatable = false;
    let machine = Arc::new(Machine::new(index));
    let parts = Parts {
        client: client.clone(),
        runtime: machine.clone(),
        images: machine.clone(),
        network: machine.clone(),
        services: machine,
    };
    Ok(Agent::new(config, parts))
}

fn name(flags: &SimulateFlags, index: u16) -> String {
    format!("{}-{index}", flags.prefix)
}

/// Waits until the cluster says so of each node.
async fn all_ready(nodes: &Api<Node>, flags: &SimulateFlags) -> Result<()> {
    let is_ready = |node: Node| {
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    for name in (0..flags.nodes).map(|index| name(flags, index)) {
        let wait = kube::runtime::wait::await_condition(nodes.clone(), &name, |node: Option<&Node>| {
            node.cloned().is_some_and(is_ready)
        });
        tokio::time::timeout(Duration::from_secs(120), wait)
            .await
            .with_context(|| format!("node {name} was not ready in time"))??;
    }
    Ok(())
}

/// Ends the agents and removes their nodes; the cluster then takes the pods away.
async fn leave(
    nodes: &Api<Node>,
    flags: &SimulateFlags,
    stop: CancellationToken,
    agents: Vec<tokio::task::JoinHandle<()>>,
) -> Result<ExitCode> {
    stop.cancel();
    futures::future::join_all(agents).await;
    let deleted = stream::iter(0..flags.nodes)
        .map(|index| async move { nodes.delete(&name(flags, index), &Default::default()).await.map(drop) })
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await;
    for error in deleted.into_iter().filter_map(Result::err) {
        eprintln!("warning: a simulated node stays: {error}");
    }
    Ok(ExitCode::SUCCESS)
}
