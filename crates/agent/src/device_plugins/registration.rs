//! How plugins come and go: by the kubelet's own socket, or by one of theirs in `plugins_registry`.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::{
    DevicePlugins, STAYS, is_extended,
    messages::{Options, Registration},
    plugin,
};

/// The only version that there is.
const VERSION: &str = "v1beta1";

/// A plugin that was found fit.
struct Found {
    resource: String,
    endpoint: PathBuf,
    options: Options,
    registered_by: Option<PathBuf>,
}

impl DevicePlugins {
    /// Serves the registration socket in `dir` until `stop`. Without it pods run, so its absence is a warning.
    pub async fn serve(&self, dir: PathBuf, stop: CancellationToken) {
        let plugins = self.clone();
        let register = {
            let (dir, stop) = (dir.clone(), stop.clone());
            move |message: &[u8]| plugins.register(&dir, Registration::decode(message), stop.clone())
        };
        for name in self.noted.iter().flat_map(|noted| noted.all()) {
            let (plugins, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move { plugins.forget_later(&name, 0, &stop).await });
        }
        let socket = dir.join("kubelet.sock");
        tokio::select! {
            result = registrations(&socket, register) => {
                if let Err(error) = result {
                    tracing::warn!(%error, dir = %dir.display(), "device plugins can't register");
                }
            }
            () = stop.cancelled() => {}
        }
    }

    fn register(&self, dir: &Path, registration: Registration, stop: CancellationToken) -> Result<(), String> {
        if registration.version != VERSION {
            return Err(format!(
                "requested API version {:?} is not supported by kubelet. Supported version is [\"v1beta1\"]",
                registration.version
            ));
        }
        if !is_extended(&registration.resource) {
            return Err(format!("the ResourceName {:?} is invalid", registration.resource));
        }
        if registration.endpoint.is_empty() || registration.endpoint.contains('/') {
            return Err(format!("the endpoint {:?} is invalid", registration.endpoint));
        }
        let endpoint = dir.join(&registration.endpoint);
        let (resource, options) = (registration.resource, registration.options);
        self.follow(Found { resource, endpoint, options, registered_by: None }, stop);
        Ok(())
    }

    /// A plugin that has shown itself by a socket in `plugins_registry`. Ends with `stop`, or with [`Self::withdraw`].
    ///
    /// # Errors
    /// What the plugin is told.
    pub async fn register_by(
        &self,
        socket: &Path,
        resource: &str,
        endpoint: PathBuf,
        versions: &[String],
        stop: CancellationToken,
    ) -> Result<(), String> {
        if !versions.iter().any(|version| version == VERSION) {
            return Err(format!(
                "manager version, {VERSION}, is not among plugin supported versions [{}]",
                versions.join(" ")
            ));
        }
        if !is_extended(resource) {
            return Err(format!("invalid name of device plugin socket: the ResourceName {resource:?} is invalid"));
        }
        let options = plugin::options(&endpoint).await?;
        let registered_by = Some(socket.to_path_buf());
        self.follow(Found { resource: resource.to_owned(), endpoint, options, registered_by }, stop);
        Ok(())
    }

    /// The socket by which a plugin had registered is gone.
    pub fn withdraw(&self, socket: &Path) {
        for resource in self.state.lock().resources.values() {
            if resource.registered_by.as_deref() == Some(socket) {
                resource.over.cancel();
            }
        }
    }

    /// Takes a plugin for that of its resource and hears of its devices until it goes.
    fn follow(&self, found: Found, stop: CancellationToken) {
        let over = stop.child_token();
        let Found { resource: name, endpoint, options, registered_by } = found;
        let generation = self.change(|state| {
            state.registrations += 1;
            let resource = state.resources.entry(name.clone()).or_default();
            resource.over.cancel();
            resource.over = over.clone();
            resource.endpoint = Some(endpoint.clone());
            resource.options = options;
            resource.registered_by = registered_by;
            resource.generation = state.registrations;
            resource.generation
        });
        if let Some(noted) = &self.noted {
            noted.add(&name);
        }
        tracing::info!(resource = name, "a device plugin has registered");
        let plugins = self.clone();
        tokio::spawn(async move {
            let told = |devices| plugins.tell(&name, generation, devices);
            tokio::select! {
                result = plugin::list_and_watch(&endpoint, told) => {
                    if let Err(error) = result {
                        tracing::debug!(resource = name, error, "a device plugin has gone");
                    }
                }
                () = over.cancelled() => {}
            }
            if stop.is_cancelled() {
                return;
            }
            plugins.gone(&name, generation);
            plugins.forget_later(&name, generation, &stop).await;
        });
    }

    async fn forget_later(&self, name: &str, generation: u64, stop: &CancellationToken) {
        tokio::select! {
            () = tokio::time::sleep(STAYS) => self.forget(name, generation),
            () = stop.cancelled() => {}
        }
    }
}

/// Serves registrations on a socket, which is made anew: plugins take that for the word to register again.
async fn registrations(
    socket: &Path,
    register: impl Fn(&[u8]) -> Result<(), String> + Send + Sync + 'static,
) -> std::io::Result<()> {
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir)?;
        // Sockets of plugins of another time would be taken for live ones.
        for entry in std::fs::read_dir(dir)?.flatten() {
            if std::os::unix::fs::FileTypeExt::is_socket(&entry.file_type()?) {
                std::fs::remove_file(entry.path())?;
            }
        }
    }
    grpc::serve(socket, "v1beta1.Registration/Register", register).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::messages::Device;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_plugin_brought_stays_for_a_while_after_it() {
        let plugins = DevicePlugins::default();
        let follow = |generation: u64| {
            let (resource, endpoint) = ("example.com/gpu".to_owned(), PathBuf::from("/no/such/socket"));
            let found = Found { resource, endpoint, options: Options::default(), registered_by: None };
            plugins.follow(found, CancellationToken::new());
            let devices = BTreeMap::from([("g0".to_owned(), Device { healthy: true, nodes: Vec::new() })]);
            assert!(plugins.tell("example.com/gpu", generation, devices));
            assert_eq!(plugins.amounts()["example.com/gpu"], (1, 1));
        };
        let gone = async || {
            let mut changes = plugins.changes();
            while plugins.amounts()["example.com/gpu"] != (1, 0) {
                changes.changed().await.expect("it goes at once");
            }
        };
        follow(1);
        gone().await;
        tokio::time::sleep(STAYS / 2).await;
        // One that comes again begins anew.
        follow(2);
        gone().await;
        tokio::time::sleep(STAYS - Duration::from_secs(1)).await;
        assert_eq!(plugins.amounts()["example.com/gpu"], (1, 0));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(plugins.amounts().is_empty());
    }
}
