//! The node agent: the pods that the API assigns to this node become sandboxes, containers, probes, volumes and
//! a truthful status; Services become rules and names.
//!
//! It speaks the Kubernetes API only through [`kube::Client`], and runs containers only through [`runtime::Runtime`],
//! so that it works in another process, and against fakes. Everything is driven by events; beside probes and the
//! node's lease nothing happens on a quiet node.

mod activity;
mod agent;
mod config;
mod context;
mod csi;
mod device_plugins;
mod events;
mod hooks;
mod json_file;
mod kubelet_configuration;
mod local_storage;
mod logs;
pub mod net;
mod node;
mod noted;
mod paths;
mod pod_resources;
mod pods;
mod probes;
pub mod runtime;
mod server;
pub mod services;
mod spdy;
mod spec;
mod static_pods;
mod volumes;

pub use agent::{Agent, Parts};
pub use config::AgentConfig;
pub use kubelet_configuration::{ConfigurationError, KubeletConfiguration};
pub use local_storage::block::release_all as release_block_volumes;
