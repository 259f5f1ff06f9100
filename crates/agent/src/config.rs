//! What an agent is told at its start.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use k8s_openapi::api::core::v1::Taint;

use crate::{
    logs::links::LogPlaces,
    node::{
        eviction::threshold::Eviction,
        image_gc::ImageLimits,
        shutdown::{Turn, turns},
    },
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
    /// How late a rotation may be.
    pub log_rotation: LogRotation,
    /// What this program calls itself, for `status.nodeInfo`, for instance `v1.36.0+hythe`.
    pub version: String,
    /// Labels beyond the usual.
    pub labels: Vec<(String, String)>,
    /// Taints that its Node object is created with.
    pub register_with_taints: Vec<Taint>,
    /// Sysctls that pods may set although they may harm others: names, or beginnings with `*` behind them.
    pub unsafe_sysctls: Vec<String>,
    /// Whether containers without a seccomp profile get the runtime's default one; otherwise they get none.
    pub seccomp_default: bool,
    /// What is kept from pods, beside the hard thresholds of eviction.
    pub reserved: Allocatable,
    /// Whether the kernel keeps all pods together from using memory that is reserved.
    pub enforce_allocatable: bool,
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
    /// Where programs of this machine ask which pod has which device (`kubelet.sock`); `None` for nowhere.
    pub pod_resources: Option<PathBuf>,
    /// Where files of the Container Device Interface are; a later place goes before an earlier one.
    pub cdi: Vec<PathBuf>,
    /// How long pods may take to end when the node shuts down, the lowest priority first.
    pub shutdown: Vec<Turn>,
}

/// How upstream's kubelet looks after logs. Here each container's shim rotates its log at the line that would be too
/// much, so that all of it is kept whatever it says; `/configz` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotation {
    /// Between two looks at a log's size.
    pub interval: Duration,
    /// Logs that are rotated at a time.
    pub workers: u32,
}

impl AgentConfig {
    /// Upstream's defaults for a node of that name.
    pub fn new(node_name: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            node_name: node_name.into(),
            device_plugins: data_dir.join("device-plugins"),
            pod_resources: Some(data_dir.join("pod-resources")),
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
            log_rotation: LogRotation { interval: Duration::from_secs(10), workers: 1 },
            version: "v1.36.0".to_owned(),
            labels: Vec::new(),
            register_with_taints: Vec::new(),
            unsafe_sysctls: Vec::new(),
            seccomp_default: false,
            reserved: Allocatable::default(),
            enforce_allocatable: true,
            eviction: Eviction::default(),
            images: ImageLimits::default(),
            housekeeping: Duration::from_secs(10),
            manifests: None,
            cdi: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            shutdown: turns(Duration::from_secs(30), Duration::from_secs(10)),
        }
    }
}
