//! What an API is opened with.

use std::path::PathBuf;

use builder::Builder;
use engine::Engine;
use engine::content::{Content, PullOptions};
use network::Cidr;

/// Everything a [`crate::DockerApi`] stands on.
#[derive(Clone)]
pub struct Config {
    /// Durable state: containers' records and logs, volumes, networks.
    pub data_dir: PathBuf,
    /// State that need not survive a reboot (network namespaces).
    pub run_dir: PathBuf,
    /// The engine, with what an earlier process left already taken over ([`Engine::adopt`]).
    pub engine: Engine,
    /// The ids of the host that containers' ids from 0 are (`--userns-remap`), but for those that ask for the host's.
    pub user_ids: Option<engine::IdRange>,
    /// The image store; may be shared with pods.
    pub content: Content,
    /// Bridges and addresses.
    pub network: NetworkSettings,
    /// What `docker build` runs; without one it answers 501.
    pub builder: Option<Builder>,
    /// Registries without TLS and certificates to trust; credentials come with each request.
    pub registries: PullOptions,
    /// The product's version.
    pub version: String,
}

/// Names and ranges of the networks.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// Prefix of the names on the host; two APIs on a machine need different ones. 1 to 16 of `[a-z0-9-]`.
    pub name: String,
    /// The default network, `bridge`.
    pub bridge: Cidr,
    /// Where user-defined networks get their ranges from, each with the prefix length to cut.
    pub pools: Vec<(Cidr, u8)>,
}

impl Default for NetworkSettings {
    /// Docker's ranges.
    fn default() -> Self {
        let range = |text: &str| text.parse().expect("the ranges below are well-formed");
        let sixteen = (18..32).map(|second| (range(&format!("172.{second}.0.0/16")), 16));
        Self {
            name: "docker".into(),
            bridge: range("172.17.0.0/16"),
            pools: sixteen.chain([(range("192.168.0.0/16"), 20)]).collect(),
        }
    }
}
