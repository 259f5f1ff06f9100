//! EndpointSlices of Services with a selector: up to 100 endpoints each, grouped by their ports.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use futures::future::join_all;
use k8s_openapi::api::{
    core::v1::{Node, ObjectReference, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use recording::Recorder;

use super::{Backend, BackendPort, backends, listen, ports_of, selector, topology};
use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::{Change, version},
    ownership::{controller_reference, is_controlled_by},
    queue::{Key, Queue},
};

/// Endpoints in one slice (upstream's default).
const MAX: usize = 100;
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.services.synced().await;
    shared.pods.synced().await;
    shared.slices.synced().await;
    shared.nodes.synced().await;
    listen(&shared, &queue);
    let on_slice = queue.clone();
    shared.slices.listen(move |change| {
        let slice = change.object();
        if let Some(service) = slice.labels().get(SERVICE_NAME).filter(|_| is_ours(slice)) {
            on_slice.add(Key::new(slice.namespace().unwrap_or_default(), service.clone()));
        }
    });
    let (on_node, services) = (queue.clone(), shared.services.clone());
    shared.nodes.listen(move |change| {
        let (before, now): (Option<&Node>, Option<&Node>) = match change {
            Change::Applied { old, new } => (old.map(|old| &**old), Some(&**new)),
            Change::Deleted(old) => (Some(&**old), None),
        };
        // Zones are told when a node is made and hardly ever change.
        let moved = now.is_some() && before.and_then(zone) != now.and_then(zone);
        let counts = before.and_then(topology::share) != now.and_then(topology::share);
        if !moved && !counts {
            return;
        }
        for service in services.all() {
            if moved || topology::is_auto(&service) {
                on_node.add(Key::of(&*service));
            }
        }
    });
    let recorder = Recorder::start(shared.client.clone(), "endpoint-slice-controller");
    let controller = Controller { shared, written: Written::default(), recorder, hinted: Arc::default() };
    queue.work("endpointslice", 8, |key| controller.clone().reconcile(key)).await;
}

/// What was written on behalf of each Service: until the cache shows it, the cache is too old to act on.
#[derive(Clone, Default)]
pub(super) struct Written(Arc<parking_lot::Mutex<HashMap<Key, Last>>>);

#[derive(Default)]
struct Last {
    /// The newest version that a write was answered with.
    version: u64,
    /// Nobody knows whether a slice was made, nor its name: the cache can't be known to show it.
    is_in_doubt: bool,
}

impl Written {
    /// The Service's slices: of the cache, or of the API where the last answer was lost.
    ///
    /// # Errors
    /// [`Error::NotYet`] as long as the cache lags behind what was written for it; what the API says.
    pub async fn slices(
        &self,
        shared: &Shared,
        key: &Key,
        is_ours: fn(&EndpointSlice) -> bool,
    ) -> Result<Slices, Error> {
        let (version, is_in_doubt) = self.0.lock().get(key).map_or((0, false), |last| (last.version, last.is_in_doubt));
        let mut slices: Slices = if is_in_doubt {
            let api: Api<EndpointSlice> = Api::namespaced(shared.client.clone(), &key.namespace);
            let of_service = ListParams::default().labels(&format!("{SERVICE_NAME}={}", key.name));
            let slices = api.list(&of_service).await?.items;
            slices.iter().for_each(|slice| self.note(key, slice));
            self.0.lock().entry(key.clone()).or_default().is_in_doubt = false;
            slices.into_iter().map(Arc::new).collect()
        } else if shared.slices.has_seen(version) {
            shared.slices.in_namespace(&key.namespace)
        } else {
            return Err(Error::NotYet("the cache lags behind the last write"));
        };
        slices.retain(|slice| is_ours(slice) && slice.labels().get(SERVICE_NAME) == Some(&key.name));
        Ok(slices)
    }

    fn note(&self, key: &Key, slice: &EndpointSlice) {
        let mut written = self.0.lock();
        let last = written.entry(key.clone()).or_default();
        last.version = last.version.max(version(slice));
    }

    fn doubt(&self, key: &Key) {
        self.0.lock().entry(key.clone()).or_default().is_in_doubt = true;
    }

    /// Nothing is written for the Service any more.
    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

type Slices = Vec<Arc<EndpointSlice>>;

#[derive(Clone)]
struct Controller {
    shared: Shared,
    written: Written,
    recorder: Recorder,
    /// Services whose endpoints have hints by topology.
    hinted: Arc<parking_lot::Mutex<HashSet<Key>>>,
}

impl Controller {
    async fn reconcile(self, key: Key) -> Result<(), Error> {
        let Controller { shared, written, .. } = &self;
        let Some(service) = shared.services.get(&key) else {
            // Garbage collection removes the slices with their owner.
            written.forget(&key);
            self.hinted.lock().remove(&key);
            return Ok(());
        };
        let external = service.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("ExternalName");
        if selector(&service).is_none() || external || service.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let mut existing = written.slices(shared, &key, is_ours).await?;
        existing.retain(|slice| is_controlled_by(&**slice, &*service));
        let zone_of = |node: &str| shared.nodes.get(&Key::new("", node)).as_deref().and_then(zone);
        let mut wanted = group(&service, &backends(&service, &shared.pods.in_namespace(&key.namespace)), zone_of);
        self.give_hints(&service, &key, &mut wanted);
        let steps = plan(&template(&service), wanted, &existing);
        carry_out(shared, &key, written, steps).await
    }

    /// Hints by topology, and upstream's events about them.
    fn give_hints(&self, service: &Service, key: &Key, wanted: &mut BTreeMap<Vec<BackendPort>, Vec<Endpoint>>) {
        if !topology::is_auto(service) {
            if self.hinted.lock().remove(key) {
                let note = "Topology Aware Hints has been disabled, addressType: IPv4";
                self.recorder.warning(service, topology::DISABLED, note);
            }
            return;
        }
        let nodes = self.shared.nodes.all();
        let zones = topology::zones(nodes.iter().map(|node| topology::share(node)));
        let mut endpoints: Vec<&mut Endpoint> = wanted.values_mut().flatten().collect();
        match topology::give(zones.as_ref(), &mut endpoints) {
            Ok(()) => {
                if self.hinted.lock().insert(key.clone()) {
                    let note = "Topology Aware Hints has been enabled, addressType: IPv4";
                    self.recorder.normal(service, topology::ENABLED, note);
                }
            }
            Err(error) => {
                self.hinted.lock().remove(key);
                self.recorder.warning(service, topology::DISABLED, error.to_string());
            }
        }
    }
}

/// Writes; remembers the newest one.
pub(super) async fn carry_out(shared: &Shared, key: &Key, written: &Written, steps: Vec<Step>) -> Result<(), Error> {
    let api: Api<EndpointSlice> = Api::namespaced(shared.client.clone(), &key.namespace);
    let note = |slice: &EndpointSlice| written.note(key, slice);
    let results = join_all(steps.into_iter().map(|step| async {
        match step {
            Step::Create(slice) => match api.create(&PostParams::default(), &slice).await.map_err(Error::from) {
                Ok(created) => note(&created),
                Err(error) if error.is_namespace_terminating() => {}
                Err(error) => {
                    if error.is_in_doubt() {
                        written.doubt(key);
                    }
                    return Err(error);
                }
            },
            Step::Update(slice) => note(&api.replace(&slice.name_any(), &PostParams::default(), &slice).await?),
            Step::Delete(name) => gone_is_fine(api.delete(&name, &DeleteParams::default()).await)?,
        }
        Ok(())
    }))
    .await;
    results.into_iter().collect()
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|m| m == MANAGER)
}

/// Endpoints by the ports that they serve (named target ports may differ between pods).
fn group(
    service: &Service,
    backends: &[Backend],
    zone_of: impl Fn(&str) -> Option<String>,
) -> BTreeMap<Vec<BackendPort>, Vec<Endpoint>> {
    let near = service.spec.as_ref().and_then(|s| s.traffic_distribution.as_deref());
    let near = near.filter(|_| !topology::is_auto(service)).unwrap_or_default();
    let mut groups: BTreeMap<Vec<BackendPort>, Vec<Endpoint>> = BTreeMap::new();
    for backend in backends {
        let headless = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None");
        let ports = ports_of(service, &backend.pod);
        if ports.is_empty() && !headless {
            continue;
        }
        groups.entry(ports).or_default().push(endpoint(backend, near, &zone_of));
    }
    if groups.is_empty() {
        // As upstream: a Service without endpoints has one empty slice.
        groups.insert(Vec::new(), Vec::new());
    }
    groups
}

fn endpoint(backend: &Backend, near: &str, zone_of: impl Fn(&str) -> Option<String>) -> Endpoint {
    let node = backend.pod.spec.as_ref().and_then(|s| s.node_name.clone());
    let zone = node.as_deref().and_then(zone_of);
    Endpoint {
        hints: hints(near, node.as_deref(), zone.as_deref()).filter(|_| backend.ready),
        zone,
        addresses: vec![backend.address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: node,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: backend.pod.namespace(),
            name: Some(backend.pod.name_any()),
            uid: backend.pod.uid(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// From where an endpoint is to be used, by the Service's `trafficDistribution`.
fn hints(near: &str, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    match near {
        "PreferClose" | "PreferSameZone" => {
            for_zones.map(|zones| EndpointHints { for_zones: Some(zones), for_nodes: None })
        }
        "PreferSameNode" => {
            node.map(|node| EndpointHints { for_nodes: Some(vec![ForNode { name: node.to_owned() }]), for_zones })
        }
        _ => None,
    }
}

fn zone(node: &Node) -> Option<String> {
    node.labels().get("topology.kubernetes.io/zone").filter(|zone| !zone.is_empty()).cloned()
}

/// What slices are to become.
pub(super) enum Step {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(String),
}

/// Keeps endpoints in the slice where they are, fills slices up, makes and removes slices as needed.
/// `template` is what all new slices have in common.
pub(super) fn plan(
    template: &EndpointSlice,
    wanted: BTreeMap<Vec<BackendPort>, Vec<Endpoint>>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<Step> {
    let (labels, annotations) = (template.labels(), template.annotations());
    let mut steps = Vec::new();
    let mut unused: Vec<&Arc<EndpointSlice>> = existing.iter().collect();
    for (ports, endpoints) in wanted {
        let slice_ports: Vec<EndpointPort> = ports.iter().map(slice_port).collect();
        let (mine, rest): (Vec<_>, Vec<_>) =
            unused.into_iter().partition(|s| s.ports.clone().unwrap_or_default() == slice_ports);
        unused = rest;
        let mut left: BTreeMap<String, Endpoint> = endpoints.into_iter().map(|e| (identity(&e), e)).collect();
        let mut bins: Vec<(Option<&Arc<EndpointSlice>>, Vec<Endpoint>)> = mine
            .iter()
            .map(|slice| {
                let kept =
                    slice.endpoints.iter().flatten().filter_map(|e| left.remove(&identity(e))).take(MAX).collect();
                (Some(*slice), kept)
            })
            .collect();
        for (_, endpoint) in left {
            match bins.iter_mut().find(|(_, bin)| bin.len() < MAX) {
                Some((_, bin)) => bin.push(endpoint),
                None => bins.push((None, vec![endpoint])),
            }
        }
        if bins.is_empty() {
            bins.push((None, Vec::new()));
        }
        let all_empty = bins.iter().all(|(_, bin)| bin.is_empty());
        for (index, (slice, endpoints)) in bins.into_iter().enumerate() {
            match slice {
                Some(slice) if endpoints.is_empty() && !(all_empty && index == 0) => {
                    steps.push(Step::Delete(slice.name_any()))
                }
                Some(slice) => {
                    let same = slice.endpoints.as_deref().unwrap_or_default() == endpoints.as_slice()
                        && labels.iter().all(|(k, v)| slice.labels().get(k) == Some(v))
                        && annotations.iter().all(|(k, v)| slice.annotations().get(k) == Some(v));
                    if !same {
                        let mut changed = EndpointSlice::clone(slice);
                        changed.endpoints = Some(endpoints);
                        changed.metadata.labels.get_or_insert_default().extend(labels.clone());
                        if !annotations.is_empty() {
                            changed.metadata.annotations.get_or_insert_default().extend(annotations.clone());
                        }
                        steps.push(Step::Update(Box::new(changed)));
                    }
                }
                None => steps.push(Step::Create(Box::new(EndpointSlice {
                    endpoints: Some(endpoints),
                    ports: (!slice_ports.is_empty()).then(|| slice_ports.clone()),
                    ..template.clone()
                }))),
            }
        }
    }
    steps.extend(unused.into_iter().map(|slice| Step::Delete(slice.name_any())));
    steps
}

fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|r| r.uid.clone()).unwrap_or_default();
    format!("{uid}/{}", endpoint.addresses.join(","))
}

fn slice_port(port: &BackendPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn template(service: &Service) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_reference(service)]),
            ..Default::default()
        },
        address_type: "IPv4".into(),
        ..Default::default()
    }
}

/// The Service's own labels, and those by which slices are found.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_NAME.into(), service.name_any());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "s"},
            "spec": {"clusterIP": "10.43.0.9", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}}))
        .unwrap()
    }

    fn pod(name: &str, ready: bool, port: i32) -> Arc<Pod> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"podIP": format!("10.42.0.{}", name.len()), "phase": "Running",
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}}))
        .unwrap();
        Arc::new(pod)
    }

    fn nowhere(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn hints_say_from_where_an_endpoint_is_to_be_used() {
        let hints_of = |near: &str, ready: bool, zone: Option<&str>| {
            let mut service = service();
            service.spec.as_mut().unwrap().traffic_distribution = Some(near.into());
            let groups = group(&service, &backends(&service, &[pod("a", ready, 80)]), |_| zone.map(str::to_owned));
            let endpoint = groups.into_values().next().unwrap().remove(0);
            assert_eq!(endpoint.zone.as_deref(), zone);
            endpoint.hints.map(|hints| {
                (hints.for_zones.map(|zones| zones[0].name.clone()), hints.for_nodes.map(|nodes| nodes[0].name.clone()))
            })
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(hints_of("PreferClose", true, Some("z")), Some((text("z"), None)));
        assert_eq!(hints_of("PreferSameZone", true, None), None);
        assert_eq!(hints_of("PreferSameNode", true, Some("z")), Some((text("z"), text("node"))));
        assert_eq!(hints_of("PreferSameZone", false, Some("z")), None);
        assert_eq!(hints_of("", true, Some("z")), None);
    }

    #[test]
    fn pods_with_different_port_numbers_get_different_slices() {
        let wanted = group(&service(), &backends(&service(), &[pod("a", true, 8080), pod("bb", false, 9090)]), nowhere);
        assert_eq!(wanted.len(), 2);
        let steps = plan(&template(&service()), wanted, &[]);
        let ports: Vec<i32> = steps
            .iter()
            .map(|s| match s {
                Step::Create(slice) => slice.ports.as_ref().unwrap()[0].port.unwrap(),
                _ => panic!("only creates"),
            })
            .collect();
        assert_eq!(ports, [8080, 9090]);
    }

    #[test]
    fn a_pod_that_becomes_ready_changes_its_slice_and_a_second_look_changes_nothing() {
        let first =
            plan(&template(&service()), group(&service(), &backends(&service(), &[pod("a", false, 80)]), nowhere), &[]);
        let Some(Step::Create(slice)) = first.into_iter().next() else { panic!("a create") };
        let mut slice = *slice;
        slice.metadata.name = Some("web-x".into());
        assert_eq!(slice.endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready, Some(false));
        let existing = [Arc::new(slice)];
        let ready = group(&service(), &backends(&service(), &[pod("a", true, 80)]), nowhere);
        let steps = plan(&template(&service()), ready.clone(), &existing);
        let [Step::Update(changed)] = steps.as_slice() else { panic!("one update") };
        assert_eq!(changed.endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready, Some(true));
        assert!(plan(&template(&service()), ready, &[Arc::new((**changed).clone())]).is_empty());
    }

    #[test]
    fn more_than_a_hundred_endpoints_take_several_slices_and_stay_where_they_are() {
        let pods: Vec<Arc<Pod>> = (0..250)
            .map(|i| {
                let mut one = Pod::clone(&pod("a", true, 80));
                one.metadata.name = Some(format!("p{i:03}"));
                one.metadata.uid = Some(format!("u{i}"));
                Arc::new(one)
            })
            .collect();
        let steps = plan(&template(&service()), group(&service(), &backends(&service(), &pods), nowhere), &[]);
        assert_eq!(steps.len(), 3);
        let existing: Vec<Arc<EndpointSlice>> = steps
            .into_iter()
            .enumerate()
            .map(|(i, s)| match s {
                Step::Create(mut slice) => {
                    slice.metadata.name = Some(format!("s{i}"));
                    Arc::new(*slice)
                }
                _ => panic!("only creates"),
            })
            .collect();
        let fewer =
            plan(&template(&service()), group(&service(), &backends(&service(), &pods[1..]), nowhere), &existing);
        assert_eq!(fewer.len(), 1);
    }
}
