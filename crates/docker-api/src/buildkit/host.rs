//! What the daemon lends to builds: a place in a network, registries, its events.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use ::buildkit::{Host, Place};
use builder::RunNetwork;
use engine::content::{PullOptions, Reference};
use engine::{Namespace, Rlimit};
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::containers::{self, HostOptions};
use crate::daemon::Daemon;
use crate::error::blocking;
use crate::images;
use crate::networks::{self, Lent};
use crate::system::AuthConfig;

/// The daemon, which holds the API that holds this.
pub(super) struct Lender(pub Weak<Daemon>);

impl Lender {
    /// It lives as long as a connection does.
    fn daemon(&self) -> Result<Arc<Daemon>, String> {
        self.0.upgrade().ok_or_else(|| "the engine is ending".to_owned())
    }
}

impl Host for Lender {
    fn version(&self) -> String {
        self.daemon().map(|daemon| daemon.config.version.clone()).unwrap_or_default()
    }

    fn id(&self) -> String {
        self.daemon().map(|daemon| daemon.id.clone()).unwrap_or_default()
    }

    fn scratch(&self) -> PathBuf {
        self.daemon().map(|daemon| daemon.scratch()).unwrap_or_else(|_| std::env::temp_dir())
    }

    fn registries(&self) -> PullOptions {
        self.daemon().map(|daemon| daemon.config.registries.clone()).unwrap_or_default()
    }

    fn gateway(&self) -> Option<IpAddr> {
        self.daemon().ok()?.networks.by_name("bridge")?.gateway().map(IpAddr::V4)
    }

    fn rlimits(&self, limits: &[(String, i64, i64)]) -> Result<Vec<Rlimit>, String> {
        let limits: Vec<_> = limits
            .iter()
            .map(|(name, soft, hard)| serde_json::json!({"Name": name, "Soft": soft, "Hard": hard}))
            .collect();
        let options: HostOptions =
            serde_json::from_value(serde_json::json!({"Ulimits": limits})).map_err(|error| error.to_string())?;
        containers::rlimits(&options).map_err(|error| error.message)
    }

    fn place<'a>(&'a self, mode: &'a str) -> BoxFuture<'a, Result<Place, String>> {
        Box::pin(async move {
            let (daemon, mode) = (self.daemon()?, mode.to_owned());
            let lent = blocking(move || {
                let lent = networks::lend(&daemon, &mode)?;
                // From here on it is given back, whoever still waits for it.
                Ok(Taken { daemon, lent })
            });
            let taken = lent.await.map_err(|error| error.message)?;
            let network = match &taken.lent.namespace {
                Namespace::Host => RunNetwork::Host,
                Namespace::New => RunNetwork::None,
                Namespace::Path(path) => RunNetwork::Path(path.clone()),
            };
            let user_ids = taken.daemon.config.user_ids;
            Ok(Place { network, resolv_conf: taken.lent.resolv_conf.clone(), user_ids, guard: Box::new(taken) })
        })
    }

    fn tagged(&self, image: &str, name: &Reference) {
        if let Ok(daemon) = self.daemon() {
            daemon.events.emit("image", "tag", image, BTreeMap::from([("name".into(), name.familiar())]));
        }
    }

    fn push<'a>(&'a self, name: &'a Reference, login: Option<(String, String)>) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let auth = login.map(|(username, password)| match username.as_str() {
                "" => AuthConfig { registrytoken: password, ..AuthConfig::default() },
                _ => AuthConfig { username, password, ..AuthConfig::default() },
            });
            // Nobody listens to what `docker push` would show.
            let (say, _) = mpsc::unbounded_channel();
            let daemon = self.daemon()?;
            images::send(&daemon, name, auth, &say).await.map_err(|error| error.message)
        })
    }
}

/// A place in a network until it is dropped.
struct Taken {
    daemon: Arc<Daemon>,
    lent: Lent,
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Links are taken away by netlink, which may block; nobody waits for it.
        let (daemon, lent) = (self.daemon.clone(), std::mem::take(&mut self.lent));
        tokio::task::spawn_blocking(move || {
            if let Err(error) = networks::give_back(&daemon, &lent) {
                tracing::warn!(%error, "a build's place in a network stays until the next start");
            }
        });
    }
}
