//! What a pod asks for and what a node has, in whole numbers.

use std::{collections::BTreeMap, sync::Arc};

use api::quantity::Quantity as Number;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};

/// Amounts of each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Extended resources, hugepages and the like, sorted by name.
    pub scalars: Vec<(Arc<str>, i64)>,
}

type List = BTreeMap<String, Quantity>;

/// A container that asks for nothing counts as this much when nodes are compared.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

impl Resources {
    /// Reads a resource list; an unreadable quantity counts as none (the API server lets none pass).
    pub fn from_list(list: &List) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list {
            let Ok(number) = quantity.0.parse::<Number>() else { continue };
            match name.as_str() {
                "cpu" => resources.milli_cpu = number.milli_value(),
                "memory" => resources.memory = number.value(),
                "ephemeral-storage" => resources.ephemeral_storage = number.value(),
                "pods" | "storage" => {}
                // The map is sorted, so these are.
                _ => resources.scalars.push((name.as_str().into(), number.value())),
            }
        }
        resources
    }

    /// The amount of a resource that is none of the first three.
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars.binary_search_by(|(n, _)| (**n).cmp(name)).map_or(0, |i| self.scalars[i].1)
    }

    /// Adds.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    /// Takes away what was added.
    pub fn sub(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_sub(b));
    }

    fn max(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            match self.scalars.binary_search_by(|(n, _)| n.cmp(name)) {
                Ok(i) => self.scalars[i].1 = with(self.scalars[i].1, *amount),
                Err(i) => self.scalars.insert(i, (name.clone(), with(0, *amount))),
            }
        }
    }
}

/// What a pod's containers need together, as upstream's `PodRequests`: containers and sidecars side by
/// side, init containers one after another beside the sidecars started before them; then what the pod asks
/// for as a whole instead, and its overhead on top.
pub fn pod_requests(spec: &PodSpec) -> Resources {
    total(spec, |container| list_of(container).map(Resources::from_list).unwrap_or_default())
}

/// CPU and memory as [`pod_requests`], but no container counts as nothing. Only for comparing nodes.
pub fn pod_requests_for_scoring(spec: &PodSpec) -> Resources {
    let of_container = |container: &Container| {
        let list = list_of(container);
        let asks = |name| list.is_some_and(|l| l.contains_key(name));
        let mut resources = list.map(Resources::from_list).unwrap_or_default();
        if !asks("cpu") {
            resources.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if !asks("memory") {
            resources.memory = DEFAULT_MEMORY;
        }
        resources
    };
    total(spec, of_container)
}

fn list_of(container: &Container) -> Option<&List> {
    container.resources.as_ref()?.requests.as_ref()
}

fn total(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut sum = Resources::default();
    for container in &spec.containers {
        sum.add(&of(container));
    }
    let (mut sidecars, mut initial) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let mut needed = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sum.add(&needed);
            sidecars.add(&needed);
            needed = sidecars.clone();
        } else {
            needed.add(&sidecars);
        }
        initial.max(&needed);
    }
    sum.max(&initial);
    if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        override_with(&mut sum, whole);
    }
    if let Some(overhead) = &spec.overhead {
        sum.add(&Resources::from_list(overhead));
    }
    sum
}

/// Pod-level resources (KEP-2837): CPU, memory and hugepages of the pod as a whole.
fn override_with(sum: &mut Resources, whole: &List) {
    let resources = Resources::from_list(whole);
    if whole.contains_key("cpu") {
        sum.milli_cpu = resources.milli_cpu;
    }
    if whole.contains_key("memory") {
        sum.memory = resources.memory;
    }
    for (name, amount) in resources.scalars.into_iter().filter(|(n, _)| n.starts_with("hugepages-")) {
        match sum.scalars.binary_search_by(|(n, _)| n.cmp(&name)) {
            Ok(i) => sum.scalars[i].1 = amount,
            Err(i) => sum.scalars.insert(i, (name, amount)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).expect("a pod spec")
    }

    fn container(cpu: &str) -> serde_json::Value {
        serde_json::json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn an_init_container_counts_when_it_needs_more_than_all_the_others() {
        let small = spec(
            serde_json::json!({"containers": [container("1"), container("1")], "initContainers": [container("1500m")]}),
        );
        assert_eq!(pod_requests(&small).milli_cpu, 2000);
        let large = spec(
            serde_json::json!({"containers": [container("1"), container("1")], "initContainers": [container("3")]}),
        );
        assert_eq!(pod_requests(&large).milli_cpu, 3000);
    }

    #[test]
    fn a_sidecar_runs_beside_everything_started_after_it() {
        let mut sidecar = container("500m");
        sidecar["restartPolicy"] = "Always".into();
        // The first init container runs alone, the second beside the sidecar.
        let spec = |first, second| {
            spec(
                serde_json::json!({"containers": [container("1")], "initContainers": [container(first), sidecar, container(second)]}),
            )
        };
        assert_eq!(pod_requests(&spec("1", "800m")).milli_cpu, 1500);
        assert_eq!(pod_requests(&spec("1", "1200m")).milli_cpu, 1700);
        assert_eq!(pod_requests(&spec("2", "1200m")).milli_cpu, 2000);
    }

    #[test]
    fn overhead_comes_on_top_and_pod_level_requests_replace() {
        let pod = spec(serde_json::json!({
            "containers": [container("1")], "overhead": {"cpu": "250m", "memory": "64Mi"},
            "resources": {"requests": {"cpu": "4"}}
        }));
        let requests = pod_requests(&pod);
        assert_eq!((requests.milli_cpu, requests.memory), (4250, 64 << 20));
    }

    #[test]
    fn for_scoring_no_container_counts_as_nothing() {
        let pod = spec(serde_json::json!({"containers": [{"name": "a"}, container("1")]}));
        let requests = pod_requests_for_scoring(&pod);
        assert_eq!((requests.milli_cpu, requests.memory), (1100, 400 << 20));
        assert_eq!(pod_requests(&pod).memory, 0);
    }

    #[test]
    fn extended_resources_are_kept_by_name() {
        let list = |json| serde_json::from_value::<List>(json).expect("a list");
        let mut have = Resources::from_list(&list(serde_json::json!({"b.io/x": "2", "a.io/x": "1", "pods": "9"})));
        have.add(&Resources::from_list(&list(serde_json::json!({"a.io/x": "3", "c.io/x": "1"}))));
        assert_eq!(
            [have.scalar("a.io/x"), have.scalar("b.io/x"), have.scalar("c.io/x"), have.scalar("pods")],
            [4, 2, 1, 0]
        );
    }
}
