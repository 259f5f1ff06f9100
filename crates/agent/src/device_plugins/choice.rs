//! Which devices a pod's containers get of those that are free and healthy.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{DevicePlugins, Devices, plugin};
use crate::spec::{
    quantity,
    resources::{Side, amount},
};

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

impl DevicePlugins {
    /// The devices that each container of a pod is to get, by its name.
    pub(super) async fn chosen_for(&self, pod: &Pod) -> Result<HashMap<String, Devices>, String> {
        let mut chosen: HashMap<String, Devices> = HashMap::new();
        let Some(spec) = &pod.spec else { return Ok(chosen) };
        let names: BTreeSet<String> = {
            let state = self.state.lock();
            let held = state.held.values().flat_map(|held| held.devices.keys());
            state.resources.keys().chain(held).cloned().collect()
        };
        let containers: Vec<(bool, &Container)> = spec
            .init_containers
            .iter()
            .flatten()
            .map(|c| (c.restart_policy.as_deref() != Some("Always"), c))
            .chain(spec.containers.iter().map(|c| (false, c)))
            .collect();
        for name in names {
            let mut own = Own::default();
            for (passing, container) in &containers {
                let wanted = wanted(container, &name);
                if wanted == 0 {
                    continue;
                }
                let devices = self.choose(&name, wanted, &own).await?;
                own.take(&devices, *passing);
                chosen.entry(container.name.clone()).or_default().insert(name.clone(), devices);
            }
        }
        Ok(chosen)
    }

    /// So many devices for one container: first those that the pod's init containers are done with by then, then those
    /// that the plugin prefers, if it wants to be asked, then any.
    async fn choose(&self, name: &str, wanted: usize, own: &Own) -> Result<Vec<String>, String> {
        let (healthy, taken, asked) = {
            let state = self.state.lock();
            let Some(resource) = state.resources.get(name) else {
                return Err(format!("cannot allocate unregistered device {name}"));
            };
            let healthy: Vec<String> =
                resource.devices.iter().filter(|(_, d)| d.healthy).map(|(id, _)| id.clone()).collect();
            if healthy.is_empty() {
                return Err(format!("no healthy devices present; cannot allocate unhealthy devices {name}"));
            }
            let held = state.held.values().filter_map(|held| held.devices.get(name));
            let taken: BTreeSet<String> = held.flatten().chain(&own.kept).cloned().collect();
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
}

fn wanted(container: &Container, name: &str) -> usize {
    let asked = amount(container.resources.as_ref(), Side::Limits, name, quantity::whole).unwrap_or(0);
    usize::try_from(asked).unwrap_or(0)
}
