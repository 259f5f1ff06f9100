//! Device plugins (`v1beta1`): programs that know hardware register over a socket, tell of their devices, and say what
//! a container needs to use one. Their resources are the node's; which pod has which device is decided here.

mod messages;
mod plugin;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use messages::Allocation;

use self::messages::{Options, Registration};
use crate::spec::{
    quantity,
    resources::{Side, amount},
};

/// Ids of devices by resource.
pub type Devices = BTreeMap<String, Vec<String>>;

/// All plugins and their devices. Cheap to clone.
#[derive(Clone, Default)]
pub struct DevicePlugins {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    /// Held by whoever sets devices aside.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What a pod has of a resource while devices are set aside for it.
#[derive(Default)]
struct Own {
    /// For as long as it runs.
    kept: BTreeSet<String>,
    /// Until its init containers are done.
    passed: BTreeSet<String>,
}

impl Own {
    /// `passing` is who will be done with them before the next container starts.
    fn take(&mut self, devices: &[String], passing: bool) {
        for id in devices {
            if passing {
                self.passed.insert(id.clone());
            } else {
                self.passed.remove(id);
                self.kept.insert(id.clone());
            }
        }
    }
}

#[derive(Default)]
struct State {
    resources: BTreeMap<String, Resource>,
    /// By UID of the pod and name of the container.
    held: HashMap<(String, String), Devices>,
}

#[derive(Default)]
struct Resource {
    /// Where the plugin listens; `None` once it has gone.
    endpoint: Option<PathBuf>,
    /// Which registration this is: a later one replaces it.
    generation: u64,
    options: Options,
    /// Whether each is healthy.
    devices: BTreeMap<String, bool>,
}

impl DevicePlugins {
    /// Serves the registration socket in `dir` until `stop`. Without it pods run, so its absence is a warning.
    pub async fn serve(&self, dir: PathBuf, stop: CancellationToken) {
        let plugins = self.clone();
        let register = {
            let (dir, stop) = (dir.clone(), stop.clone());
            move |message: &[u8]| plugins.register(&dir, Registration::decode(message), stop.clone())
        };
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
        if registration.version != "v1beta1" {
            return Err(format!(
                "requested API version {:?} is not supported by kubelet. Supported version is [\"v1beta1\"]",
                registration.version
            ));
        }
        let name = &registration.resource;
        if !is_extended(name) {
            return Err(format!("the ResourceName {name:?} is invalid"));
        }
        if registration.endpoint.is_empty() || registration.endpoint.contains('/') {
            return Err(format!("the endpoint {:?} is invalid", registration.endpoint));
        }
        let endpoint = dir.join(&registration.endpoint);
        let generation = self.change(|state| {
            let resource = state.resources.entry(name.clone()).or_default();
            resource.endpoint = Some(endpoint.clone());
            resource.options = registration.options;
            resource.generation += 1;
            resource.generation
        });
        tracing::info!(resource = name, "a device plugin has registered");
        let (plugins, name) = (self.clone(), name.clone());
        tokio::spawn(async move {
            let told = |devices| plugins.tell(&name, generation, devices);
            tokio::select! {
                result = plugin::list_and_watch(&endpoint, told) => {
                    if let Err(error) = result {
                        tracing::debug!(resource = name, error, "a device plugin has gone");
                    }
                    plugins.gone(&name, generation);
                }
                () = stop.cancelled() => {}
            }
        });
        Ok(())
    }

    /// Whether that registration is still the one in force.
    fn tell(&self, name: &str, generation: u64, devices: BTreeMap<String, bool>) -> bool {
        self.change(|state| match state.resources.get_mut(name) {
            Some(resource) if resource.generation == generation => {
                resource.devices = devices;
                true
            }
            _ => false,
        })
    }

    fn gone(&self, name: &str, generation: u64) {
        self.change(|state| {
            if let Some(resource) = state.resources.get_mut(name).filter(|r| r.generation == generation) {
                resource.endpoint = None;
                resource.devices.values_mut().for_each(|healthy| *healthy = false);
            }
        });
    }

    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = work(&mut self.state.lock());
        self.changed.send_modify(|n| *n += 1);
        result
    }

    /// Changes when a resource does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Capacity and allocatable amount of each resource.
    pub fn amounts(&self) -> BTreeMap<String, (usize, usize)> {
        let state = self.state.lock();
        let count = |r: &Resource| (r.devices.len(), r.devices.values().filter(|healthy| **healthy).count());
        state.resources.iter().map(|(name, resource)| (name.clone(), count(resource))).collect()
    }

    /// Sets devices aside for all containers of a pod; the error is upstream's.
    pub async fn reserve(&self, pod: &Pod) -> Result<(), String> {
        // Of two that ask a plugin at the same time both would be offered the same devices.
        let _turn = self.turn.lock().await;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let Some(spec) = &pod.spec else { return Ok(()) };
        let names: Vec<String> = self.state.lock().resources.keys().cloned().collect();
        let containers: Vec<(bool, &Container)> = spec
            .init_containers
            .iter()
            .flatten()
            .map(|c| (c.restart_policy.as_deref() != Some("Always"), c))
            .chain(spec.containers.iter().map(|c| (false, c)))
            .collect();
        let mut held: HashMap<String, Devices> = HashMap::new();
        for name in names {
            let mut own = Own::default();
            for (passing, container) in &containers {
                let wanted = wanted(container, &name);
                if wanted == 0 {
                    continue;
                }
                let chosen = self.choose(&name, wanted, &own).await;
                let devices = chosen.map_err(|why| format!("Allocate failed due to {why}, which is unexpected"))?;
                own.take(&devices, *passing);
                held.entry(container.name.clone()).or_default().insert(name.clone(), devices);
            }
        }
        let mut state = self.state.lock();
        for (container, devices) in held {
            state.held.insert((uid.clone(), container), devices);
        }
        Ok(())
    }

    /// So many devices for one container: first those that the pod's init containers are done with by then, then those
    /// that the plugin prefers, if it wants to be asked, then any.
    async fn choose(&self, name: &str, wanted: usize, own: &Own) -> Result<Vec<String>, String> {
        let (healthy, taken, asked) = {
            let state = self.state.lock();
            let Some(resource) = state.resources.get(name) else { return Ok(Vec::new()) };
            let healthy: Vec<String> = resource.devices.iter().filter(|(_, h)| **h).map(|(id, _)| id.clone()).collect();
            let taken: BTreeSet<String> =
                state.held.values().filter_map(|d| d.get(name)).flatten().chain(&own.kept).cloned().collect();
            (healthy, taken, resource.endpoint.clone().filter(|_| resource.options.preferred))
        };
        let (again, free): (Vec<String>, Vec<String>) =
            healthy.into_iter().filter(|id| !taken.contains(id)).partition(|id| own.passed.contains(id));
        let mut chosen: Vec<String> = again.into_iter().take(wanted).collect();
        let needed = wanted - chosen.len();
        if free.len() < needed {
            let free = free.len();
            return Err(format!(
                "requested number of devices unavailable for {name}. Requested: {needed}, Available: {free}"
            ));
        }
        let preferred = match asked {
            Some(endpoint) if needed > 0 => plugin::preferred(&endpoint, &free, &chosen, wanted)
                .await
                .map_err(|e| format!("device plugin GetPreferredAllocation rpc failed with err: {e}"))?,
            _ => Vec::new(),
        };
        // A plugin can only choose among what is free.
        let (first, rest): (Vec<String>, Vec<String>) = free.into_iter().partition(|id| preferred.contains(id));
        chosen.extend(first.into_iter().chain(rest).take(needed));
        Ok(chosen)
    }

    /// The devices that a container holds.
    pub fn held(&self, uid: &str, container: &str) -> Devices {
        self.state.lock().held.get(&(uid.to_owned(), container.to_owned())).cloned().unwrap_or_default()
    }

    /// Notes what a container of an earlier agent holds.
    pub fn restore(&self, uid: &str, container: &str, devices: Devices) {
        if !devices.is_empty() {
            self.state.lock().held.insert((uid.to_owned(), container.to_owned()), devices);
        }
    }

    /// A pod is gone from the node.
    pub fn release(&self, uid: &str) {
        self.state.lock().held.retain(|(holder, _), _| holder != uid);
    }

    /// Asks the plugins what a container needs to use its devices; the error is that of `CreateContainerError`.
    pub async fn allocate(&self, uid: &str, container: &str) -> Result<Allocation, String> {
        let mut all = Allocation::default();
        for (name, ids) in self.held(uid, container) {
            let (endpoint, pre_start) = {
                let state = self.state.lock();
                let resource = state.resources.get(&name);
                (resource.and_then(|r| r.endpoint.clone()), resource.is_some_and(|r| r.options.pre_start))
            };
            let endpoint = endpoint.ok_or_else(|| format!("device plugin of {name} is not registered"))?;
            all.extend(plugin::allocate(&endpoint, &ids).await?);
            if pre_start {
                plugin::pre_start(&endpoint, &ids).await?;
            }
        }
        Ok(all)
    }
}

/// Whether a resource is one that plugins may bring (`helper.IsExtendedResourceName`).
pub fn is_extended(name: &str) -> bool {
    let Some((domain, rest)) = name.split_once('/') else { return false };
    !domain.is_empty() && !rest.is_empty() && !domain.ends_with("kubernetes.io") && !name.starts_with("requests.")
}

fn wanted(container: &Container, name: &str) -> usize {
    let asked = amount(container.resources.as_ref(), Side::Limits, name, quantity::whole).unwrap_or(0);
    usize::try_from(asked).unwrap_or(0)
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
    use serde_json::json;

    use super::*;

    fn plugins(devices: &[(&str, bool)]) -> DevicePlugins {
        let plugins = DevicePlugins::default();
        plugins.change(|state| {
            let resource = state.resources.entry("example.com/gpu".to_owned()).or_default();
            resource.devices = devices.iter().map(|(id, healthy)| ((*id).to_owned(), *healthy)).collect();
        });
        plugins
    }

    fn pod(uid: &str, init: usize, apps: &[usize]) -> Pod {
        let container =
            |name: String, n: usize| json!({"name": name, "resources": {"limits": {"example.com/gpu": n.to_string()}}});
        let apps: Vec<_> = apps.iter().enumerate().map(|(i, n)| container(format!("a{i}"), *n)).collect();
        serde_json::from_value(json!({"metadata": {"uid": uid},
            "spec": {"initContainers": [container("init".into(), init)], "containers": apps}}))
        .expect("a pod")
    }

    #[tokio::test]
    async fn each_healthy_device_has_one_holder() {
        let plugins = plugins(&[("0", true), ("1", false), ("2", true), ("3", true)]);
        assert_eq!(plugins.amounts()["example.com/gpu"], (4, 3));
        plugins.reserve(&pod("one", 2, &[1, 1])).await.expect("there are enough");
        let ids = |uid: &str, container: &str| plugins.held(uid, container).get("example.com/gpu").cloned();
        assert_eq!(ids("one", "a0"), Some(vec!["0".to_owned()]));
        assert_eq!(ids("one", "a1"), Some(vec!["2".to_owned()]));
        assert_eq!(ids("one", "init"), Some(vec!["0".to_owned(), "2".to_owned()]), "used before the others begin");
        let error = plugins.reserve(&pod("two", 0, &[2])).await.expect_err("there are not enough");
        assert_eq!(
            error,
            "Allocate failed due to requested number of devices unavailable for example.com/gpu. Requested: 2, Available: 1, which is unexpected"
        );
        plugins.release("one");
        plugins.reserve(&pod("two", 0, &[2])).await.expect("there are enough now");
    }

    #[test]
    fn only_extended_resources_come_from_plugins() {
        assert!(is_extended("example.com/gpu"));
        for name in ["cpu", "kubernetes.io/x", "a.kubernetes.io/x", "/x", "x/"] {
            assert!(!is_extended(name), "{name}");
        }
    }
}
