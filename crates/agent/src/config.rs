//! What an agent is told at its start.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::{
    logs::links::LogPlaces,
    node::{eviction::threshold::Eviction, image_gc::ImageLimits},
    spec::resource_reference::Allocatable,
};

/// One node's settings.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The name of its Node object.
    pub node_name: String,
    /// Where pods' volumes, logs and records live.
    pub data_dir: PathBuf,
    /// Where Secrets and tokens are written: a memory file system is mounted there unless it is one. `None` keeps them
    /// beside the other volumes.
    pub secrets_dir: Option<PathBuf>,
    /// Whether the pods' directory is made a shared mount, so that what CSI drivers mount in it arrives in pods.
    pub share_mounts: bool,
    /// The addresses of its pods, for `spec.podCIDR`; empty if unknown.
    pub pod_cidr: String,
    /// The cluster's name servers, for pods' resolv.conf.
    pub cluster_dns: Vec<IpAddr>,
    /// For instance `cluster.local`.
    pub cluster_domain: String,
    /// The node's addresses, the primary one first.
    pub node_ips: Vec<IpAddr>,
    /// Port at which the node serves what the agent says, for `status.daemonEndpoints`; 0 if at none.
    pub port: u16,
    /// Where anybody on the machine may ask whether the agent is well; port 0 for nowhere.
    pub healthz: SocketAddr,
    /// How many pods it takes.
    pub max_pods: u32,
    /// Processes and threads a pod may have; `None` is no limit.
    pub pod_pids_limit: Option<i64>,
    /// The host's resolv.conf, for `dnsPolicy: Default`.
    pub resolv_conf: PathBuf,
    /// Where logs lie.
    pub logs: LogPlaces,
    /// A log file is rotated beyond this many bytes.
    pub log_max_size: u64,
    /// Files kept per container, the current one included.
    pub log_max_files: u32,
    /// What this program calls itself, for `status.nodeInfo`, for instance `v1.36.0+hythe`.
    pub version: String,
    /// Labels beyond the usual.
    pub labels: Vec<(String, String)>,
    /// Sysctls that pods may set although they may harm others: names, or beginnings with `*` behind them.
    pub unsafe_sysctls: Vec<String>,
    /// Whether containers without a seccomp profile get the runtime's default one; otherwise they get none.
    pub seccomp_default: bool,
    /// What is kept from pods, beside the hard thresholds of eviction.
    pub reserved: Allocatable,
    /// When the node ends pods.
    pub eviction: Eviction,
    /// When the node removes images.
    pub images: ImageLimits,
    /// Between looks at the machine.
    pub housekeeping: Duration,
    /// The directory of static pods' manifests; `None` for none.
    pub manifests: Option<PathBuf>,
    /// Where device plugins register (`kubelet.sock`) and listen.
    pub device_plugins: PathBuf,
    /// How long pods may take to end when the node shuts down.
    pub shutdown_grace: Duration,
    /// The part of it that is kept for critical pods.
    pub shutdown_grace_critical: Duration,
}

impl AgentConfig {
    /// Upstream's defaults for a node of that name.
    pub fn new(node_name: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            node_name: node_name.into(),
            device_plugins: data_dir.join("device-plugins"),
            logs: LogPlaces { pods: data_dir.join("log/pods"), links: None },
            data_dir,
            secrets_dir: None,
            share_mounts: false,
            pod_cidr: String::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            node_ips: Vec::new(),
            port: 10250,
            healthz: SocketAddr::from(([127, 0, 0, 1], 10248)),
            max_pods: 110,
            pod_pids_limit: None,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            log_max_size: 10 << 20,
            log_max_files: 5,
            version: "v1.36.0".to_owned(),
            labels: Vec::new(),
            unsafe_sysctls: Vec::new(),
            seccomp_default: false,
            reserved: Allocatable::default(),
            eviction: Eviction::default(),
            images: ImageLimits::default(),
            housekeeping: Duration::from_secs(10),
            manifests: None,
            shutdown_grace: Duration::from_secs(30),
            shutdown_grace_critical: Duration::from_secs(10),
        }
    }
}
