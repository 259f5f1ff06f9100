//! All roles in one process: store, API server, network, engine, scheduler, controllers, agent, name server.
//! They find each other over the API only, which they reach without TCP or TLS.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agent::{
    Agent, AgentConfig, KubeletConfiguration, Parts,
    net::KernelNetwork,
    runtime::{ContentImages, EngineRuntime},
    services::KernelServices,
};
use anyhow::{Context, Result};
use apiserver::{ApiServer, CONTROLLER_MANAGER, Components, SCHEDULER, User};
use engine::{
    Engine, EngineConfig, IdRange, ShimCommand,
    content::{Content, PullOptions},
};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use network::{
    Network, NetworkConfig,
    dns::{self, DnsConfig},
};
use registry::Registry;
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use store::{Embedded, EmbeddedConfig};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{addresses, compaction, docker, nodes::LocalAgent, progress::Progress, storage_class};
use crate::{
    cli::UpFlags,
    instance::{Instance, Settings, write_private},
    kubeconfig,
    pki::Pki,
    rest,
};

const CLUSTER_DOMAIN: &str = "cluster.local";
/// The offset of the name server's address in the Service network; `.1` is the API's.
const DNS_OFFSET: u64 = 10;

/// A running platform.
pub struct Running {
    tasks: JoinSet<String>,
    stop: CancellationToken,
    agent: Option<tokio::task::JoinHandle<()>>,
    node: Agent,
    store: Arc<Embedded>,
    /// Held because dropping it ends the name server.
    _dns: Option<dns::Server>,
}

impl Running {
    /// Waits until a role ends that never should, and says which.
    pub async fn ended(&self) -> String {
        self.stop.cancelled().await;
        "a role ended unexpectedly; see the log".to_owned()
    }

    /// Ends all pods in order, as before a shutdown of the machine.
    pub async fn shut_down(&self) {
        self.node.shut_down().await;
    }

    /// Ends all roles in order. Containers go on.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(agent) = self.agent.take() {
            let _ = tokio::time::timeout(Duration::from_secs(10), agent).await;
        }
        self.tasks.shutdown().await;
        let store = self.store.clone();
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
    }
}

/// Starts everything and returns once the node is Ready.
pub async fn start(instance: &Instance, flags: &UpFlags, progress: &Progress) -> Result<Running> {
    let settings = Settings {
        port: flags.port,
        node_name: flags.node_name.clone().map_or_else(addresses::host_name, Ok)?,
        node_ip: addresses::node_ip(flags.bind),
        pod_cidr: flags.pod_cidr.clone(),
        service_cidr: flags.service_cidr.clone(),
    };
    let agent_config = agent_config(instance, &settings, flags)?;
    let listen = SocketAddr::from((flags.bind, flags.port));
    let listener = bind(listen).with_context(|| {
        format!("can't listen on {listen}: choose another port with --port, or another address with --bind")
    })?;
    instance.save_settings(&settings)?;
    let pki = certificates(instance, flags, &settings)?;
    progress.phase("certificates");

    let dir = instance.path("store");
    let store = tokio::task::spawn_blocking(move || Embedded::open(EmbeddedConfig::new(dir))).await??;
    progress.phase("store");

    let node = LocalAgent::default();
    let components = Components::default();
    let api_config = apiserver::Config { components: components.clone(), ..api_config(flags, &settings, &pki, &node)? };
    let server = ApiServer::new(api_config, store.clone()).await?;
    let client = |program| Client::new(server.in_process().named(program).lean(), "default");
    storage_class::ensure(client("hythe")).await?;
    progress.phase("api server");

    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(watched("api listener", stop.clone(), serve(server.clone(), listener, tls(&pki)?)));
    tasks.spawn(watched("compaction", stop.clone(), compaction::run(store.clone())));
    tasks.spawn(watched("rest", stop.clone(), rest::run()));
    let scheduler = scheduler::run(client("kube-scheduler"), scheduler::Config::default());
    let scheduler = with(components.running(SCHEDULER), scheduler);
    tasks.spawn(watched("scheduler", stop.clone(), scheduler));
    let signing = controllers::Authority { certificate: pki.ca.clone(), key: pki.ca_key.clone() };
    let signer = server.clone();
    let tokens = controllers::TokenSigner::new(move |namespace, account, uid, secret| {
        signer.secret_token(namespace, account, uid, secret)
    });
    let controllers = controllers::Config {
        signing: Some(signing),
        tokens: Some(tokens),
        ..controllers::Config::new(pki.ca.clone())
    };
    let controllers = controllers::run(client("kube-controller-manager"), controllers);
    let controllers = with(components.running(CONTROLLER_MANAGER), controllers);
    tasks.spawn(watched("controllers", stop.clone(), controllers));
    if !flags.no_patterns {
        patterns::edge::ensure_classes(&client("hythe")).await?;
        tasks.spawn(watched(
            "patterns",
            stop.clone(),
            patterns::run(client("hythe-patterns"), pattern_settings(flags, agent_config.port)),
        ));
    }
    write_private(
        &instance.kubeconfig(),
        kubeconfig::administrator(&pki, &format!("https://127.0.0.1:{}", flags.port)).as_bytes(),
    )?;

    let network_config = network_config(instance, &settings)?;
    let (network, engine) = tokio::join!(tokio::task::spawn_blocking(move || Network::open(network_config)), async {
        let engine = Engine::open(engine_config(instance)).await?;
        engine.adopt().await?;
        Ok::<_, engine::Error>(engine)
    });
    let (network, engine) = (network??, engine?);
    progress.phase("network and engine");

    let dns = name_server(&settings).await;
    let content = Content::open(instance.path("content"))?;
    crate::patterns_image::provide(&content);
    if flags.registry_port != 0 {
        tasks.spawn(registry(content.clone(), flags.registry_port));
    }
    let socket = flags.docker_socket.clone().unwrap_or_else(|| docker::default_socket(instance));
    if socket != Path::new("none") {
        let ids = docker::ids(instance, flags.userns_remap)?;
        tasks.spawn(docker_api(instance.clone(), content.clone(), socket, ids, flags.registries.options()));
    }
    if agent_config.healthz.port() != 0 {
        tasks.spawn(health(node.clone(), agent_config.healthz));
    }
    if agent_config.port != 0 {
        tasks.spawn(kubelet(
            server.clone(),
            settings.node_name.clone(),
            (flags.bind, agent_config.port).into(),
            tls(&pki)?,
        ));
    }
    let agent = Agent::new(
        agent_config,
        Parts {
            client: client("kubelet"),
            runtime: Arc::new(EngineRuntime::new(engine)),
            images: Arc::new(ContentImages::new(content, flags.registries.options())),
            services: Arc::new(KernelServices::new(network.services().clone(), dns.as_ref().map(|d| d.zone().clone()))),
            network: Arc::new(KernelNetwork::new(network)),
        },
    );
    node.set(agent.clone());
    let on_node = agent.clone();
    let agent = tokio::spawn({
        let stop = stop.clone();
        async move { agent.run(stop).await }
    });
    wait_until_ready(client("hythe"), &settings.node_name).await?;
    progress.phase("node");
    progress.ready();
    Ok(Running { tasks, stop, agent: Some(agent), node: on_node, store, _dns: dns })
}

/// A listener that thousands of clients may meet at once.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    const BACKLOG: u32 = 4096;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A part of the control plane, which counts as running until it ends.
async fn with<T>(_running: apiserver::Running, role: impl Future<Output = T>) -> T {
    role.await
}

/// A role that ends takes the platform down, since nothing works without it; the next start repairs what it left.
async fn watched<T>(name: &'static str, stop: CancellationToken, role: impl Future<Output = T>) -> String {
    role.await;
    if !stop.is_cancelled() {
        tracing::error!(role = name, "ended");
        stop.cancel();
    }
    name.to_owned()
}

fn certificates(instance: &Instance, flags: &UpFlags, settings: &Settings) -> Result<Pki> {
    let services = addresses::parse("--service-cidr", &flags.service_cidr)?;
    let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), settings.node_ip.into(), services.nth(1).into()];
    if !flags.bind.is_unspecified() {
        all.push(flags.bind.into());
    }
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([settings.node_name.clone()])
    .collect::<Vec<_>>();
    Pki::load_or_create(instance, &all, &names).context("certificates")
}

fn api_config(flags: &UpFlags, settings: &Settings, pki: &Pki, node: &LocalAgent) -> Result<apiserver::Config> {
    let key = PrivateKeyDer::from_pem_slice(pki.service_account_key.as_bytes()).context("pki/service-account.key")?;
    Ok(apiserver::Config {
        service_cidr: addresses::parse("--service-cidr", &flags.service_cidr)?,
        advertise: (settings.node_ip.into(), flags.port),
        tokens: HashMap::from([(pki.admin_token.clone(), User::admin("admin"))]),
        cluster_ca_pem: pki.ca.clone(),
        service_account_key: Some(key.secret_der().to_vec()),
        nodes: Arc::new(node.clone()),
        ..Default::default()
    })
}

/// What the API and the agent prove themselves with, and whose certificates they take.
fn tls(pki: &Pki) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.ca.as_bytes())?)?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let certificate = CertificateDer::from_pem_slice(pki.server.certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(pki.server.key.as_bytes())?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_client_cert_verifier(clients).with_single_cert(vec![certificate], key)?)
}

async fn serve(server: Arc<ApiServer>, listener: TcpListener, tls: ServerConfig) {
    if let Err(error) = server.serve(listener, tls).await {
        tracing::error!(%error, "the API can't be served any more");
    }
}

/// The agent at a port of its own. The API reaches it without, so a port that is taken is a warning.
async fn kubelet(server: Arc<ApiServer>, node: String, listen: SocketAddr, tls: ServerConfig) -> String {
    let serve = async { server.serve_node(&node, bind(listen)?, tls).await };
    if let Err(error) = serve.await {
        tracing::warn!(%error, %listen, "no port of the node's agent: choose another with --kubelet-port, or 0 for none");
    }
    "kubelet".to_owned()
}

/// Tells whoever is on this machine that the agent is well. Another instance may have the port: that is a warning.
async fn health(node: LocalAgent, listen: SocketAddr) -> String {
    let listener = match bind(listen) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, %listen, "nobody is told that the node's agent is well: choose another with --healthz-port, or 0 for none");
            return "healthz".to_owned();
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => node.tell_health(stream),
            // For instance, too many files are open: some will be closed.
            Err(error) => {
                tracing::warn!(%error, "a connection that asks for the agent's health was not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// How the engine of an instance's pods is opened.
fn engine_config(instance: &Instance) -> EngineConfig {
    engine_of(instance, "engine", "")
}

/// How the engine of `hythe build` is opened: apart from that of pods, because builds are other processes' business.
pub fn build_engine_config(instance: &Instance) -> EngineConfig {
    engine_of(instance, "build-engine", "-build")
}

/// How the engine of Docker's containers is opened.
pub fn docker_engine_config(instance: &Instance) -> EngineConfig {
    engine_of(instance, "docker-engine", "-docker")
}

/// All engines of an instance, for `down`.
pub fn engine_configs(instance: &Instance) -> [EngineConfig; 3] {
    [engine_config(instance), build_engine_config(instance), docker_engine_config(instance)]
}

fn engine_of(instance: &Instance, directory: &str, suffix: &str) -> EngineConfig {
    EngineConfig {
        data_dir: instance.path(directory),
        run_dir: instance.run_dir().join(directory),
        cgroup_root: format!("{}{suffix}", instance.name),
        shim: ShimCommand::current_exe(),
    }
}

/// How the network of an instance is opened; `down` needs the same.
pub fn network_config(instance: &Instance, settings: &Settings) -> Result<NetworkConfig> {
    let services = addresses::parse("--service-cidr", &settings.service_cidr)?;
    Ok(NetworkConfig {
        bridge_name: None,
        mtu: None,
        name: instance.name.clone(),
        data_dir: instance.path("network"),
        run_dir: instance.run_dir().join("network"),
        pod_cidr: settings.pod_cidr.parse().context("--pod-cidr")?,
        gateway: None,
        alone: false,
        reserved: Vec::new(),
        service_cidr: settings.service_cidr.parse().context("--service-cidr")?,
        node_ip: settings.node_ip,
        cluster_dns: Some(services.nth(DNS_OFFSET)),
        isolation: None,
    })
}

fn agent_config(instance: &Instance, settings: &Settings, flags: &UpFlags) -> Result<AgentConfig> {
    let services = addresses::parse("--service-cidr", &settings.service_cidr)?;
    let mut config = AgentConfig::new(&settings.node_name, instance.path("agent"));
    config.secrets_dir = Some(instance.run_dir().join("secrets"));
    config.share_mounts = true;
    config.pod_cidr = settings.pod_cidr.clone();
    config.cluster_dns = vec![services.nth(DNS_OFFSET).into()];
    config.cluster_domain = CLUSTER_DOMAIN.to_owned();
    config.node_ips = vec![settings.node_ip.into()];
    config.version = api::discovery::VERSION.to_owned();
    config.manifests = Some(instance.path("manifests"));
    config.device_plugins = instance.path("device-plugins");
    if let Some(path) = &flags.kubelet_config {
        configure(&mut config, path).with_context(|| path.display().to_string())?;
    }
    config.port = flags.kubelet_port.unwrap_or(config.port);
    config.healthz.set_port(flags.healthz_port.unwrap_or(config.healthz.port()));
    config.seccomp_default |= flags.seccomp_default;
    Ok(config)
}

/// Reads a KubeletConfiguration.
fn configure(config: &mut AgentConfig, path: &Path) -> Result<()> {
    let document = serde_yaml_ng::from_slice(&std::fs::read(path)?)?;
    Ok(KubeletConfiguration::parse(document)?.apply(config)?)
}

/// How the controllers of the patterns work here: volumes follow their ConfigMaps at once, so these may list endpoints.
fn pattern_settings(flags: &UpFlags, kubelet_port: u16) -> patterns::Settings {
    let mut settings = patterns::Settings::new(pattern_containers::image::NAME);
    settings.domain = CLUSTER_DOMAIN.to_owned();
    settings.list_endpoints = true;
    settings.edge.http_port = flags.edge_http_port;
    settings.edge.https_port = flags.edge_https_port;
    settings.edge.host_network = flags.edge_host_network;
    settings.edge.reserved = vec![flags.port, flags.registry_port, kubelet_port];
    if !flags.edge_host_network {
        settings.edge.service_type = Some("LoadBalancer".to_owned());
        settings.edge.open_on_nodes = true;
    }
    settings
}

/// The registry of this machine. Pods run without it, so a port that is taken is a warning.
async fn registry(content: Content, port: u16) -> String {
    let serve = async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        Registry::open(registry::Config::new(content))?.serve(listener, None).await?;
        Ok::<_, anyhow::Error>(())
    };
    if let Err(error) = serve.await {
        tracing::warn!(%error, port, "no registry: choose another port with --registry-port, or 0 for none");
    }
    "registry".to_owned()
}

/// The Docker API of this machine. Pods run without it.
async fn docker_api(
    instance: Instance,
    content: Content,
    socket: PathBuf,
    ids: Option<IdRange>,
    registries: PullOptions,
) -> String {
    if let Err(error) = docker::serve(&instance, content, &socket, ids, registries).await {
        tracing::warn!(%error, socket = %socket.display(), "no Docker API");
    }
    "docker api".to_owned()
}

/// The cluster's name server; without it pods still run, so its absence is a warning.
async fn name_server(settings: &Settings) -> Option<dns::Server> {
    let services = addresses::parse("--service-cidr", &settings.service_cidr).ok()?;
    let address = IpAddr::from(services.nth(DNS_OFFSET));
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let config = DnsConfig {
        listen: vec![SocketAddr::new(address, 53)],
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        reverse: [&settings.pod_cidr, &settings.service_cidr].into_iter().filter_map(|c| c.parse().ok()).collect(),
        upstream: dns::upstream_from(&resolv_conf, &[address]),
        ttl: Duration::from_secs(5),
        upstream_timeout: Duration::from_secs(2),
    };
    dns::Server::start(config)
        .await
        .inspect_err(|error| tracing::warn!(%error, %address, "no name server: pods will not find Services by name"))
        .ok()
}

async fn wait_until_ready(client: Client, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(client);
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = std::pin::pin!(watcher(nodes, only).applied_objects());
    let ready = |node: &Node| {
        let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    while let Some(node) = changes.try_next().await? {
        if ready(&node) {
            return Ok(());
        }
    }
    anyhow::bail!("the watch of the node ended")
}
