//! Endpoints that someone made by hand, for a Service without a selector, are mirrored to EndpointSlices, which is
//! where proxies and DNS look (`endpointslicemirroring-controller`).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
};
use kube::{
    Api, ResourceExt,
    api::ObjectMeta,
    runtime::{WatchStreamExt, watcher},
};

use super::{
    BackendPort, TRIGGER_TIME, selector,
    slices::{MANAGED_BY, SERVICE_NAME, Step, Written, carry_out, plan},
};
use crate::{
    Error, Shared,
    ownership::controller_reference,
    queue::{Key, Queue},
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of a subset that are mirrored (upstream's default).
const MAX: usize = 1_000;

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.services.synced().await;
    shared.slices.synced().await;
    let on_service = queue.clone();
    shared.services.listen(move |change| on_service.add(Key::of(&**change.object())));
    let on_slice = queue.clone();
    shared.slices.listen(move |change| {
        let slice = change.object();
        if let Some(service) = slice.labels().get(SERVICE_NAME).filter(|_| is_ours(slice)) {
            on_slice.add(Key::new(slice.namespace().unwrap_or_default(), service.clone()));
        }
    });
    // Those of Services with a selector are made by the controller beside this one.
    let all: Api<Endpoints> = Api::all(shared.client.clone());
    let by_hand = watcher::Config::default().labels("endpoints.kubernetes.io/managed-by!=endpoint-controller");
    let on_endpoints = queue.clone();
    let follow = async move {
        let mut events = watching::watch(all, by_hand).touched_objects();
        while let Some(event) = events.next().await {
            if let Ok(endpoints) = event {
                on_endpoints.add(Key::of(&endpoints));
            }
        }
    };
    let written = Written::default();
    let work = queue.work("endpointslicemirroring", 4, |key| reconcile(shared.clone(), written.clone(), key));
    futures::join!(follow, work);
}

async fn reconcile(shared: Shared, written: Written, key: Key) -> Result<(), Error> {
    let existing = written.slices(&shared, &key, is_ours).await?;
    let service = shared.services.get(&key);
    let endpoints = match service.as_deref().is_some_and(is_mirrored_for) {
        true => {
            let api: Api<Endpoints> = Api::namespaced(shared.client.clone(), &key.namespace);
            api.get_opt(&key.name).await?.filter(is_mirrored)
        }
        false => None,
    };
    let steps = match &endpoints {
        Some(endpoints) => mirror(endpoints, &existing),
        None => existing.iter().map(|slice| Step::Delete(slice.name_any())).collect(),
    };
    let done = carry_out(&shared, &key, &written, steps).await;
    if endpoints.is_none() {
        written.forget(&key);
    }
    done
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
}

/// Services with a selector have slices of their own.
fn is_mirrored_for(service: &Service) -> bool {
    selector(service).is_none() && service.metadata.deletion_timestamp.is_none()
}

/// Not what says that it is none, nor what is only a lock of an election.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    endpoints.labels().get(SKIP).is_none_or(|skip| skip != "true")
        && !endpoints.annotations().contains_key(LEADER)
        && endpoints.metadata.deletion_timestamp.is_none()
}

/// The slices that show the same as the Endpoints: a set for each kind of address.
fn mirror(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>]) -> Vec<Step> {
    let mut wanted: BTreeMap<&str, BTreeMap<Vec<BackendPort>, Vec<Endpoint>>> =
        BTreeMap::from([("IPv4", BTreeMap::new()), ("IPv6", BTreeMap::new())]);
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(others).take(MAX) {
            let family = match address.ip.parse() {
                Ok(IpAddr::V4(_)) => "IPv4",
                Ok(IpAddr::V6(_)) => "IPv6",
                Err(_) => continue,
            };
            let of_family = wanted.entry(family).or_default();
            of_family.entry(ports.clone()).or_default().push(endpoint(address, ready));
        }
    }
    let mut steps = Vec::new();
    for (family, wanted) in wanted {
        let existing: Vec<_> = existing.iter().filter(|slice| slice.address_type == family).cloned().collect();
        steps.extend(plan(&template(endpoints, family), wanted, &existing));
    }
    steps
}

fn template(endpoints: &Endpoints, family: &str) -> EndpointSlice {
    let name = endpoints.name_any();
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_NAME.into(), name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|key, _| key != LAST_APPLIED && key != TRIGGER_TIME);
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![controller_reference(endpoints)]),
            ..Default::default()
        },
        address_type: family.into(),
        ..Default::default()
    }
}

fn ports(subset: &EndpointSubset) -> Vec<BackendPort> {
    let all = subset.ports.iter().flatten().map(|port| BackendPort {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        port: port.port,
        app_protocol: port.app_protocol.clone(),
    });
    all.collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..Default::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subsets_become_slices_by_their_ports_and_kind_of_address() {
        let endpoints: Endpoints = serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "n", "uid": "e", "labels": {"a": "b"},
                "annotations": {LAST_APPLIED: "{}", "note": "x"}},
            "subsets": [
                {"addresses": [{"ip": "10.0.0.1", "hostname": "one"}, {"ip": "fd00::1"}],
                    "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "sql", "port": 5432}]},
                {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "admin", "port": 80}, {"name": "more", "port": 81}]},
            ],
        }))
        .unwrap();
        let steps = mirror(&endpoints, &[]);
        let slices: Vec<EndpointSlice> = steps
            .into_iter()
            .map(|step| match step {
                Step::Create(slice) => *slice,
                _ => panic!("only creates"),
            })
            .collect();
        let facts: Vec<(String, usize, usize)> = slices
            .iter()
            .map(|s| (s.address_type.clone(), s.endpoints.iter().flatten().count(), s.ports.iter().flatten().count()))
            .collect();
        assert_eq!(facts, [("IPv4".to_owned(), 1, 2), ("IPv4".to_owned(), 2, 1), ("IPv6".to_owned(), 1, 1)]);
        let ready: Vec<_> = slices[1].endpoints.iter().flatten().map(|e| e.conditions.clone().unwrap().ready).collect();
        assert_eq!(ready, [Some(true), Some(false)]);
        let metadata = &slices[0].metadata;
        assert_eq!(metadata.labels.as_ref().unwrap()[MANAGED_BY], MANAGER);
        assert_eq!(metadata.annotations, Some(BTreeMap::from([("note".to_owned(), "x".to_owned())])));
        // Nothing changed, nothing to do.
        let existing: Vec<Arc<EndpointSlice>> = slices
            .into_iter()
            .enumerate()
            .map(|(i, mut slice)| {
                slice.metadata.name = Some(format!("s{i}"));
                Arc::new(slice)
            })
            .collect();
        assert!(mirror(&endpoints, &existing).is_empty());
        assert_eq!(mirror(&Endpoints::default(), &existing).len(), 3);
    }
}
