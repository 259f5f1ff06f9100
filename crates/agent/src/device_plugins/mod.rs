//! Device plugins (`v1beta1`): programs that know hardware register over a socket, tell of their devices, and say what
//! a container needs to use one. Their resources are the node's; which pod has which device is decided here.

mod cdi;
mod choice;
mod messages;
mod plugin;
mod registration;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use cdi::inject;
pub use messages::Allocation;

use self::messages::{Device, Options};
use crate::noted::Noted;

/// How long the devices of a plugin that has gone are the node's still, none of them healthy
/// (`endpointStopGracePeriod`).
const STAYS: Duration = Duration::from_secs(300);

/// Ids of devices by resource.
pub type Devices = BTreeMap<String, Vec<String>>;

/// All plugins and their devices. Cheap to clone.
#[derive(Clone, Default)]
pub struct DevicePlugins {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    /// The resources that plugins have brought, for the next agent; none in tests.
    noted: Option<Arc<Noted>>,
    /// Held by whoever sets devices aside.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    resources: BTreeMap<String, Resource>,
    /// By UID of the pod and name of the container.
    held: HashMap<(String, String), Held>,
    registrations: u64,
}

/// What a container has of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub devices: Devices,
    /// What it needs to use them, as the plugins said when they were set aside: it is started anew by it whether they
    /// are there or not. `None` if an agent has left it that did not note it.
    pub needs: Option<Allocation>,
}

#[derive(Default)]
struct Resource {
    /// Where the plugin listens; `None` once it has gone.
    endpoint: Option<PathBuf>,
    /// Which registration this is: a later one replaces it.
    generation: u64,
    /// Ends what the registration has begun.
    over: CancellationToken,
    /// The socket in `plugins_registry`, if it registered by one.
    registered_by: Option<PathBuf>,
    options: Options,
    devices: BTreeMap<String, Device>,
}

impl DevicePlugins {
    /// Resources that plugins brought to an earlier agent are the node's still, though of no device is known until its
    /// plugin comes again: pods that want one are refused, not started without it.
    pub fn after(noted: Noted) -> Self {
        let resources = noted.all().into_iter().map(|name| (name, Resource::default())).collect();
        let state = State { resources, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), noted: Some(Arc::new(noted)), ..Self::default() }
    }

    /// Whether that registration is still the one in force.
    fn tell(&self, name: &str, generation: u64, devices: BTreeMap<String, Device>) -> bool {
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
                resource.devices.values_mut().for_each(|device| device.healthy = false);
            }
        });
    }

    /// Takes back what a plugin has brought that has not come again.
    fn forget(&self, name: &str, generation: u64) {
        self.change(|state| {
            let absent = |r: &Resource| r.generation == generation && r.endpoint.is_none();
            if state.resources.get(name).is_some_and(absent) {
                state.resources.remove(name);
                if let Some(noted) = &self.noted {
                    noted.remove(name);
                }
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
        let count = |r: &Resource| (r.devices.len(), r.devices.values().filter(|d| d.healthy).count());
        state.resources.iter().map(|(name, resource)| (name.clone(), count(resource))).collect()
    }

    /// Resource, id and NUMA nodes of each healthy device.
    pub fn healthy(&self) -> Vec<(String, String, Vec<u64>)> {
        let state = self.state.lock();
        let healthy = |(name, resource): (&String, &Resource)| -> Vec<_> {
            let devices = resource.devices.iter().filter(|(_, device)| device.healthy);
            devices.map(|(id, device)| (name.clone(), id.clone(), device.nodes.clone())).collect()
        };
        state.resources.iter().flat_map(healthy).collect()
    }

    /// Resource, id and NUMA nodes of each device that a container holds.
    pub fn held_by(&self, uid: &str, container: &str) -> Vec<(String, String, Vec<u64>)> {
        let held = self.held(uid, container);
        let state = self.state.lock();
        let nodes = |name: &str, id: &str| {
            let device = state.resources.get(name).and_then(|r| r.devices.get(id));
            device.map(|device| device.nodes.clone()).unwrap_or_default()
        };
        let ids = held.devices.iter().flat_map(|(name, ids)| ids.iter().map(move |id| (name, id)));
        ids.map(|(name, id)| (name.clone(), id.clone(), nodes(name, id))).collect()
    }

    /// Sets devices aside for all containers of a pod and asks the plugins what these need to use them; the error is
    /// upstream's.
    pub async fn reserve(&self, pod: &Pod) -> Result<(), String> {
        // Of two that ask a plugin at the same time both would be offered the same devices.
        let _turn = self.turn.lock().await;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut held = HashMap::new();
        for (container, devices) in self.chosen_for(pod).await.map_err(unexpected)? {
            let needs = Some(self.ask(&devices).await.map_err(unexpected)?);
            held.insert((uid.clone(), container), Held { devices, needs });
        }
        self.state.lock().held.extend(held);
        Ok(())
    }

    /// Asks the plugins what a container needs to use these devices.
    async fn ask(&self, devices: &Devices) -> Result<Allocation, String> {
        let mut needs = Allocation::default();
        for (name, ids) in devices {
            let endpoint = self.state.lock().resources.get(name).and_then(|r| r.endpoint.clone());
            let endpoint = endpoint.ok_or_else(|| format!("endpoint of {name} has been stopped"))?;
            needs.extend(plugin::allocate(&endpoint, ids).await?);
        }
        Ok(needs)
    }

    /// What a container holds.
    pub fn held(&self, uid: &str, container: &str) -> Held {
        self.state.lock().held.get(&(uid.to_owned(), container.to_owned())).cloned().unwrap_or_default()
    }

    /// Notes what a container of an earlier agent holds.
    pub fn restore(&self, uid: &str, container: &str, held: Held) {
        if !held.devices.is_empty() {
            self.state.lock().held.insert((uid.to_owned(), container.to_owned()), held);
        }
    }

    /// A pod is gone from the node.
    pub fn release(&self, uid: &str) {
        self.state.lock().held.retain(|(holder, _), _| holder != uid);
    }

    /// What a container that is about to start needs to use its devices; plugins that want to hear of it are told. The
    /// error is that of `CreateContainerConfigError`.
    pub async fn start(&self, uid: &str, container: &str) -> Result<Allocation, String> {
        let Held { devices, needs } = self.held(uid, container);
        for (name, ids) in &devices {
            let asked = {
                let state = self.state.lock();
                state.resources.get(name).filter(|r| r.options.pre_start).map(|r| r.endpoint.clone())
            };
            if let Some(endpoint) = asked {
                let endpoint = endpoint.ok_or_else(|| format!("endpoint of {name} has been stopped"))?;
                plugin::pre_start(&endpoint, ids)
                    .await
                    .map_err(|e| format!("device plugin PreStartContainer rpc failed with err: {e}"))?;
            }
        }
        match needs {
            Some(needs) => Ok(needs),
            None => self.ask(&devices).await,
        }
    }
}

/// Why a pod that wants devices is refused.
fn unexpected(why: String) -> String {
    format!("Allocate failed due to {why}, which is unexpected")
}

/// Whether a resource is one that plugins may bring (`helper.IsExtendedResourceName`).
pub fn is_extended(name: &str) -> bool {
    let Some((domain, rest)) = name.split_once('/') else { return false };
    !domain.is_empty() && !rest.is_empty() && !domain.ends_with("kubernetes.io") && !name.starts_with("requests.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plugins(devices: &[(&str, bool)]) -> DevicePlugins {
        let plugins = DevicePlugins::default();
        plugins.change(|state| {
            let resource = state.resources.entry("example.com/gpu".to_owned()).or_default();
            let device = |healthy| Device { healthy, nodes: Vec::new() };
            resource.devices = devices.iter().map(|(id, healthy)| ((*id).to_owned(), device(*healthy))).collect();
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
        let reserve = async |pod: Pod| {
            let chosen = plugins.chosen_for(&pod).await?;
            for (container, devices) in chosen {
                plugins.restore(
                    pod.metadata.uid.as_deref().unwrap_or_default(),
                    &container,
                    Held { devices, needs: None },
                );
            }
            Ok::<_, String>(())
        };
        reserve(pod("one", 2, &[1, 1])).await.expect("there are enough");
        let ids = |uid: &str, container: &str| plugins.held(uid, container).devices.get("example.com/gpu").cloned();
        assert_eq!(ids("one", "a0"), Some(vec!["0".to_owned()]));
        assert_eq!(ids("one", "a1"), Some(vec!["2".to_owned()]));
        assert_eq!(ids("one", "init"), Some(vec!["0".to_owned(), "2".to_owned()]), "used before the others begin");
        let error = reserve(pod("two", 0, &[2])).await.expect_err("there are not enough");
        let words = "requested number of devices unavailable for example.com/gpu. Requested: 2, Available: 1";
        assert_eq!(error, words);
        plugins.release("one");
        reserve(pod("two", 0, &[2])).await.expect("there are enough now");
    }

    #[tokio::test]
    async fn what_an_earlier_agent_had_of_plugins_is_given_to_nobody_until_they_come_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let noted = || Noted::load(dir.path().join("resources.json"));
        noted().add("example.com/gpu");
        let plugins = DevicePlugins::after(noted());
        assert_eq!(plugins.amounts()["example.com/gpu"], (0, 0));
        let refused = plugins.reserve(&pod("one", 0, &[1])).await.expect_err("no device is known of");
        let words = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices example.com/gpu, which is unexpected";
        assert_eq!(refused, words);
        plugins.forget("example.com/gpu", 0);
        assert!(plugins.amounts().is_empty() && noted().all().is_empty(), "its plugin has not come again");
        assert_eq!(plugins.reserve(&pod("one", 0, &[1])).await, Ok(()), "it is nothing that plugins bring");
        let held = Held { devices: Devices::from([("example.com/gpu".into(), vec!["0".into()])]), needs: None };
        plugins.restore("two", "a0", held);
        let refused = plugins.reserve(&pod("one", 0, &[1])).await.expect_err("a pod has such a device");
        assert!(refused.contains("cannot allocate unregistered device example.com/gpu"), "{refused}");
    }

    #[test]
    fn only_extended_resources_come_from_plugins() {
        assert!(is_extended("example.com/gpu"));
        for name in ["cpu", "kubernetes.io/x", "a.kubernetes.io/x", "/x", "x/"] {
            assert!(!is_extended(name), "{name}");
        }
    }
}
