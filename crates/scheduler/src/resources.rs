//! What a pod asks for and what a node has, in whole numbers.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use api::quantity::Quantity as Number;
use k8s_openapi::{
    api::core::v1::{Container, PodSpec, PodStatus},
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

    /// Adds to what there is some of.
    fn combine_present(&mut self, other: &Self) {
        let more = |a: i64, b: i64| if a == 0 { 0 } else { a.saturating_add(b) };
        self.combine(other, more);
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
///
/// A pod that is being resized holds what it has until it has what it asks for: the larger counts. What its node can
/// never grant counts for nothing.
pub fn pod_requests(spec: &PodSpec, status: Option<&PodStatus>) -> Resources {
    let granted = Granted::of(status);
    total(spec, &granted, |container| granted.list(container).map(|l| Resources::from_list(&l)).unwrap_or_default())
}

/// What a pod's containers may have together, as upstream's `PodLimits`: counted as what they ask for is, but that the
/// pod's overhead is added only to what is limited.
pub fn pod_limits(spec: &PodSpec) -> Resources {
    let limits = |container: &Container| {
        let list = container.resources.as_ref().and_then(|r| r.limits.as_ref());
        list.map(Resources::from_list).unwrap_or_default()
    };
    let mut sum = of_containers(spec, limits);
    if let Some(whole) = spec.resources.as_ref().and_then(|r| r.limits.as_ref()) {
        override_with(&mut sum, whole);
    }
    let overhead = spec.overhead.as_ref().map(Resources::from_list).unwrap_or_default();
    sum.combine_present(&overhead);
    sum
}

/// CPU and memory as [`pod_requests`], but no container counts as nothing. Only for comparing nodes.
pub fn pod_requests_for_scoring(spec: &PodSpec, status: Option<&PodStatus>) -> Resources {
    let granted = Granted::of(status);
    let of_container = |container: &Container| {
        let list = granted.list(container);
        let asks = |name| list.as_ref().is_some_and(|l| l.contains_key(name));
        let mut resources = list.as_ref().map(|l| Resources::from_list(l)).unwrap_or_default();
        if !asks("cpu") {
            resources.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if !asks("memory") {
            resources.memory = DEFAULT_MEMORY;
        }
        resources
    };
    total(spec, &granted, of_container)
}

/// What the node says of a pod's resources (KEP-1287).
struct Granted<'a> {
    status: Option<&'a PodStatus>,
    infeasible: bool,
}

impl<'a> Granted<'a> {
    fn of(status: Option<&'a PodStatus>) -> Self {
        let mut conditions = status.into_iter().flat_map(|s| s.conditions.iter().flatten());
        let infeasible = conditions.any(|c| c.type_ == "PodResizePending" && c.reason.as_deref() == Some("Infeasible"));
        Self { status, infeasible }
    }

    fn list<'b>(&self, container: &'b Container) -> Option<Cow<'b, List>>
    where
        'a: 'b,
    {
        let declared = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let statuses = self
            .status
            .into_iter()
            .flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()));
        let Some(told) = statuses.into_iter().find(|told| told.name == container.name) else {
            return declared.map(Cow::Borrowed);
        };
        let actual = told.resources.as_ref().and_then(|r| r.requests.as_ref());
        self.larger(declared, actual, told.allocated_resources.as_ref())
    }

    /// Of the pod as a whole.
    fn whole<'b>(&self, spec: &'b PodSpec) -> Option<Cow<'b, List>>
    where
        'a: 'b,
    {
        let declared = spec.resources.as_ref().and_then(|r| r.requests.as_ref())?;
        let actual = self.status.and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
        self.larger(Some(declared), actual, self.status.and_then(|s| s.allocated_resources.as_ref()))
    }

    fn larger<'b>(
        &self,
        declared: Option<&'b List>,
        actual: Option<&'b List>,
        allocated: Option<&'b List>,
    ) -> Option<Cow<'b, List>> {
        let told = actual.is_some() || allocated.is_some();
        let declared = declared.filter(|_| !(self.infeasible && told));
        let mut lists = [declared, actual, allocated].into_iter().flatten();
        let mut most = Cow::Borrowed(lists.next()?);
        for (name, quantity) in lists.flatten() {
            let number = |quantity: &Quantity| quantity.0.parse::<Number>().ok();
            let known = most.get(name);
            if known != Some(quantity) && known.and_then(number) < number(quantity) {
                most.to_mut().insert(name.clone(), quantity.clone());
            }
        }
        Some(most)
    }
}

fn total(spec: &PodSpec, granted: &Granted<'_>, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut sum = of_containers(spec, of);
    if let Some(whole) = granted.whole(spec) {
        override_with(&mut sum, &whole);
    }
    if let Some(overhead) = &spec.overhead {
        sum.add(&Resources::from_list(overhead));
    }
    sum
}

/// Containers and sidecars side by side, or what the start needs, if that is more.
fn of_containers(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
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
        assert_eq!(pod_requests(&small, None).milli_cpu, 2000);
        let large = spec(
            serde_json::json!({"containers": [container("1"), container("1")], "initContainers": [container("3")]}),
        );
        assert_eq!(pod_requests(&large, None).milli_cpu, 3000);
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
        assert_eq!(pod_requests(&spec("1", "800m"), None).milli_cpu, 1500);
        assert_eq!(pod_requests(&spec("1", "1200m"), None).milli_cpu, 1700);
        assert_eq!(pod_requests(&spec("2", "1200m"), None).milli_cpu, 2000);
    }

    #[test]
    fn overhead_comes_on_top_and_pod_level_requests_replace() {
        let pod = spec(serde_json::json!({
            "containers": [container("1")], "overhead": {"cpu": "250m", "memory": "64Mi"},
            "resources": {"requests": {"cpu": "4"}}
        }));
        let requests = pod_requests(&pod, None);
        assert_eq!((requests.milli_cpu, requests.memory), (4250, 64 << 20));
    }

    #[test]
    fn for_scoring_no_container_counts_as_nothing() {
        let pod = spec(serde_json::json!({"containers": [{"name": "a"}, container("1")]}));
        let requests = pod_requests_for_scoring(&pod, None);
        assert_eq!((requests.milli_cpu, requests.memory), (1100, 400 << 20));
        assert_eq!(pod_requests(&pod, None).memory, 0);
    }

    #[test]
    fn what_is_resized_counts_as_the_larger_unless_the_node_can_never_grant_it() {
        let with_status = |asked: &str, status: serde_json::Value| {
            let status = serde_json::from_value(status).expect("a status");
            let spec = spec(serde_json::json!({"containers": [container(asked)]}));
            let scoring = pod_requests_for_scoring(&spec, Some(&status)).milli_cpu;
            assert_eq!(scoring, pod_requests(&spec, Some(&status)).milli_cpu);
            scoring
        };
        let told = |allocated: &str, actual: &str| {
            serde_json::json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": allocated}, "resources": {"requests": {"cpu": actual}}}]})
        };
        assert_eq!(with_status("100m", serde_json::json!({})), 100);
        assert_eq!(with_status("200m", told("100m", "100m")), 200);
        assert_eq!(with_status("100m", told("100m", "300m")), 300);
        assert_eq!(with_status("100m", told("1", "0.3")), 1000);
        let mut never = told("100m", "100m");
        never["conditions"] =
            serde_json::json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
        assert_eq!(with_status("900", never.clone()), 100);
        never["conditions"][0]["reason"] = "Deferred".into();
        assert_eq!(with_status("2", never), 2000);
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
