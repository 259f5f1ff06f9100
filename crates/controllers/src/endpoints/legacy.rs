//! Endpoints, the older kind: all addresses of a Service in one object, at most 1,000.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, PartialObjectMeta, PostParams},
    runtime::watcher,
};

use super::{Backend, BackendPort, TRIGGER_TIME, backends, listen, ports_of, selector};
use crate::{
    Error, Shared,
    error::gone_is_fine,
    queue::{Key, Queue},
};

/// Addresses in one object; more are cut off, as upstream, with an annotation.
const MAX: usize = 1_000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.services.synced().await;
    shared.pods.synced().await;
    listen(&shared, &queue);
    // What was made here comes back if someone deletes it.
    let ours: Api<PartialObjectMeta<Endpoints>> = Api::all(shared.client.clone());
    let selected = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let (on_end, services) = (queue.clone(), shared.services.clone());
    let follow = async move {
        let mut events = watching::watch(ours, selected);
        let mut listed = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(one)) => drop(listed.insert(Key::of(&one))),
                // What went or was left behind while nobody watched.
                Ok(watcher::Event::InitDone) => {
                    let wanted: HashSet<Key> =
                        services.all().iter().filter(|s| selector(s).is_some()).map(|s| Key::of(&**s)).collect();
                    wanted.symmetric_difference(&std::mem::take(&mut listed)).for_each(|key| on_end.add(key.clone()));
                }
                Ok(watcher::Event::Delete(gone)) => on_end.add(Key::of(&gone)),
                Ok(watcher::Event::Apply(_)) | Err(_) => {}
            }
        }
    };
    let work = queue.work("endpoints", 4, |key| reconcile(shared.clone(), key));
    futures::join!(follow, work);
}

async fn reconcile(shared: Shared, key: Key) -> Result<(), Error> {
    let api: Api<Endpoints> = Api::namespaced(shared.client.clone(), &key.namespace);
    let Some(service) = shared.services.get(&key) else {
        return gone_is_fine(api.delete(&key.name, &DeleteParams::default()).await);
    };
    if selector(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let found = backends(&service, &shared.pods.in_namespace(&key.namespace));
    let mut by_ports: BTreeMap<Vec<BackendPort>, Vec<&Backend>> = BTreeMap::new();
    for backend in found.iter().filter(|b| b.ready || !b.terminating).take(MAX) {
        by_ports.entry(ports_of(&service, &backend.pod)).or_default().push(backend);
    }
    let subsets: Vec<EndpointSubset> =
        by_ports.into_iter().map(|(ports, backends)| subset(&ports, &backends)).collect();
    let subsets = (!subsets.is_empty()).then_some(subsets);
    let mut labels = service.labels().clone();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    let over = found.len() > MAX;
    let current = api.get_opt(&key.name).await?;
    match current {
        Some(current) => {
            let marked = current.annotations().contains_key(OVER_CAPACITY);
            if current.subsets == subsets && *current.labels() == labels && marked == over {
                return Ok(());
            }
            let mut changed = current;
            changed.subsets = subsets;
            changed.metadata.labels = Some(labels);
            let annotations = changed.metadata.annotations.get_or_insert_default();
            annotations.remove(TRIGGER_TIME);
            annotations.remove(OVER_CAPACITY);
            if over {
                annotations.insert(OVER_CAPACITY.into(), "truncated".into());
            }
            gone_is_fine(api.replace(&key.name, &PostParams::default(), &changed).await)
        }
        None => {
            let fresh = Endpoints {
                metadata: ObjectMeta {
                    name: Some(key.name.clone()),
                    labels: Some(labels),
                    annotations: over.then(|| BTreeMap::from([(OVER_CAPACITY.into(), "truncated".into())])),
                    ..Default::default()
                },
                subsets,
            };
            match api.create(&PostParams::default(), &fresh).await.map_err(Error::from) {
                Err(error) if error.is_namespace_terminating() => Ok(()),
                other => other.map(drop),
            }
        }
    }
}

fn subset(ports: &[BackendPort], backends: &[&Backend]) -> EndpointSubset {
    let addresses = |ready: bool| {
        let some: Vec<EndpointAddress> = backends.iter().filter(|b| b.ready == ready).map(|b| address(b)).collect();
        (!some.is_empty()).then_some(some)
    };
    let ports: Vec<EndpointPort> = ports
        .iter()
        .map(|p| EndpointPort {
            name: Some(p.name.clone()).filter(|n| !n.is_empty()),
            port: p.port,
            protocol: Some(p.protocol.clone()),
            app_protocol: p.app_protocol.clone(),
        })
        .collect();
    EndpointSubset {
        addresses: addresses(true),
        not_ready_addresses: addresses(false),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

fn address(backend: &Backend) -> EndpointAddress {
    let pod = Arc::clone(&backend.pod);
    EndpointAddress {
        ip: backend.address.clone(),
        hostname: backend.hostname.clone(),
        node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..Default::default()
        }),
    }
}
