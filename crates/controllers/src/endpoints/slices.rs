//! EndpointSlices of Services with a selector: up to 100 endpoints each, grouped by their ports.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::future::join_all;
use k8s_openapi::api::{
    core::v1::{ObjectReference, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use super::{Backend, BackendPort, backends, listen, ports_of};
use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::version,
    ownership::{controller_reference, is_controlled_by},
    queue::{Key, Queue},
};

/// Endpoints in one slice (upstream's default).
const MAX: usize = 100;
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.services.synced().await;
    shared.pods.synced().await;
    shared.slices.synced().await;
    listen(&shared, &queue);
    let on_slice = queue.clone();
    shared.slices.listen(move |change| {
        let slice = change.object();
        if let Some(service) = slice.labels().get(SERVICE_NAME).filter(|_| is_ours(slice)) {
            on_slice.add(Key::new(slice.namespace().unwrap_or_default(), service.clone()));
        }
    });
    // The newest write on behalf of each Service: until the cache shows it, the cache is too old to act on.
    let written: Arc<parking_lot::Mutex<HashMap<Key, u64>>> = Arc::default();
    queue.work("endpointslice", 8, |key| reconcile(shared.clone(), written.clone(), key)).await;
}

async fn reconcile(shared: Shared, written: Arc<parking_lot::Mutex<HashMap<Key, u64>>>, key: Key) -> Result<(), Error> {
    let Some(service) = shared.services.get(&key) else {
        // Garbage collection removes the slices with their owner.
        written.lock().remove(&key);
        return Ok(());
    };
    let has_selector = service.spec.as_ref().and_then(|s| s.selector.as_ref()).is_some_and(|s| !s.is_empty());
    let external = service.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("ExternalName");
    if !has_selector || external || service.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let last = written.lock().get(&key).copied().unwrap_or(0);
    if !shared.slices.has_seen(last) {
        return Err(Error::NotYet("the cache lags behind the last write"));
    }
    let existing: Vec<Arc<EndpointSlice>> = shared
        .slices
        .in_namespace(&key.namespace)
        .into_iter()
        .filter(|s| is_ours(s) && s.labels().get(SERVICE_NAME) == Some(&key.name) && is_controlled_by(&**s, &*service))
        .collect();
    let wanted = group(&service, &backends(&service, &shared.pods.in_namespace(&key.namespace)));
    let api: Api<EndpointSlice> = Api::namespaced(shared.client.clone(), &key.namespace);
    let note = |slice: &EndpointSlice| {
        let mut written = written.lock();
        let newest = written.entry(key.clone()).or_insert(0);
        *newest = (*newest).max(version(slice));
    };
    let steps = plan(&service, wanted, &existing);
    let results = join_all(steps.into_iter().map(|step| async {
        match step {
            Step::Create(slice) => match api.create(&PostParams::default(), &slice).await.map_err(Error::from) {
                Ok(created) => note(&created),
                Err(error) if error.is_namespace_terminating() => {}
                Err(error) => return Err(error),
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
fn group(service: &Service, backends: &[Backend]) -> BTreeMap<Vec<BackendPort>, Vec<Endpoint>> {
    let mut groups: BTreeMap<Vec<BackendPort>, Vec<Endpoint>> = BTreeMap::new();
    for backend in backends {
        let headless = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None");
        let ports = ports_of(service, &backend.pod);
        if ports.is_empty() && !headless {
            continue;
        }
        groups.entry(ports).or_default().push(endpoint(backend));
    }
    if groups.is_empty() {
        // As upstream: a Service without endpoints has one empty slice.
        groups.insert(Vec::new(), Vec::new());
    }
    groups
}

fn endpoint(backend: &Backend) -> Endpoint {
    Endpoint {
        addresses: vec![backend.address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.pod.spec.as_ref().and_then(|s| s.node_name.clone()),
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

enum Step {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(String),
}

/// Keeps endpoints in the slice where they are, fills slices up, makes and removes slices as needed.
fn plan(
    service: &Service,
    wanted: BTreeMap<Vec<BackendPort>, Vec<Endpoint>>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<Step> {
    let labels = labels(service);
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
                        && labels.iter().all(|(k, v)| slice.labels().get(k) == Some(v));
                    if !same {
                        let mut changed = EndpointSlice::clone(slice);
                        changed.endpoints = Some(endpoints);
                        changed.metadata.labels.get_or_insert_default().extend(labels.clone());
                        steps.push(Step::Update(Box::new(changed)));
                    }
                }
                None => steps.push(Step::Create(Box::new(EndpointSlice {
                    metadata: ObjectMeta {
                        generate_name: Some(format!("{}-", service.name_any())),
                        labels: Some(labels.clone()),
                        owner_references: Some(vec![controller_reference(service)]),
                        ..Default::default()
                    },
                    address_type: "IPv4".into(),
                    endpoints: Some(endpoints),
                    ports: (!slice_ports.is_empty()).then(|| slice_ports.clone()),
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

    #[test]
    fn pods_with_different_port_numbers_get_different_slices() {
        let wanted = group(&service(), &backends(&service(), &[pod("a", true, 8080), pod("bb", false, 9090)]));
        assert_eq!(wanted.len(), 2);
        let steps = plan(&service(), wanted, &[]);
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
        let first = plan(&service(), group(&service(), &backends(&service(), &[pod("a", false, 80)])), &[]);
        let Some(Step::Create(slice)) = first.into_iter().next() else { panic!("a create") };
        let mut slice = *slice;
        slice.metadata.name = Some("web-x".into());
        assert_eq!(slice.endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready, Some(false));
        let existing = [Arc::new(slice)];
        let ready = group(&service(), &backends(&service(), &[pod("a", true, 80)]));
        let steps = plan(&service(), ready.clone(), &existing);
        let [Step::Update(changed)] = steps.as_slice() else { panic!("one update") };
        assert_eq!(changed.endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready, Some(true));
        assert!(plan(&service(), ready, &[Arc::new((**changed).clone())]).is_empty());
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
        let steps = plan(&service(), group(&service(), &backends(&service(), &pods)), &[]);
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
        let fewer = plan(&service(), group(&service(), &backends(&service(), &pods[1..])), &existing);
        assert_eq!(fewer.len(), 1);
    }
}
