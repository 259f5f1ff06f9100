//! What whoever serves this API lends to builds.

use std::net::IpAddr;
use std::path::PathBuf;

use builder::RunNetwork;
use engine::Rlimit;
use engine::content::{PullOptions, Reference};
use futures::future::BoxFuture;

/// A place in a network for `RUN`; given back when dropped.
pub struct Place {
    /// Where `RUN` runs.
    pub network: RunNetwork,
    /// Its `/etc/resolv.conf`; the host's when `None`.
    pub resolv_conf: Option<String>,
    /// The ids of the host that `RUN`'s are; the host's own when `None`.
    pub user_ids: Option<engine::IdRange>,
    /// Held while the place is used.
    pub guard: Box<dyn Send + Sync>,
}

/// The engine around the builder.
pub trait Host: Send + Sync + 'static {
    /// The product's version.
    fn version(&self) -> String;
    /// Identifies this engine to clients.
    fn id(&self) -> String;
    /// A directory for what is under way, on the data's own file system; emptied at the next start.
    fn scratch(&self) -> PathBuf;
    /// How registries are reached, without credentials.
    fn registries(&self) -> PullOptions;
    /// Where containers reach this machine, for `--add-host NAME:host-gateway`.
    fn gateway(&self) -> Option<IpAddr>;
    /// `--ulimit`, by name with soft and hard limit.
    ///
    /// # Errors
    /// In words for a user.
    fn rlimits(&self, limits: &[(String, i64, i64)]) -> Result<Vec<Rlimit>, String>;
    /// A place by the mode of `--network`.
    fn place<'a>(&'a self, mode: &'a str) -> BoxFuture<'a, Result<Place, String>>;
    /// An image got a name.
    fn tagged(&self, image: &str, name: &Reference);
    /// Sends an image to the registry of its name, as that user.
    fn push<'a>(&'a self, name: &'a Reference, login: Option<(String, String)>) -> BoxFuture<'a, Result<(), String>>;
}
