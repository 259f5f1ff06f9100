//! Follows Services, EndpointSlices and Namespaces, and puts what changed into effect: one change at once, many
//! that arrive together as one batch.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::BoxStream};
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, Client, Resource, runtime::watcher};
use network::service::ServiceId;
use tokio_util::sync::CancellationToken;

use super::{ServiceSink, ServiceVariables, translate};

type Key = (String, String);
type Changes = BoxStream<'static, Result<Change, watcher::Error>>;

/// Runs until `stop`.
pub async fn follow(
    client: Client,
    node: String,
    sink: Arc<dyn ServiceSink>,
    variables: ServiceVariables,
    stop: CancellationToken,
) {
    let services: Api<Service> = Api::all(client.clone());
    let slices: Api<EndpointSlice> = Api::all(client.clone());
    let namespaces: Api<Namespace> = Api::all(client);
    let config = watcher::Config::default;
    let changes: [Changes; 3] = [
        watching::watch(services, config()).map(|r| r.map(Change::Service)).boxed(),
        watching::watch(slices, config()).map(|r| r.map(Change::Slice)).boxed(),
        watching::watch(namespaces, config()).map(|r| r.map(Change::Namespace)).boxed(),
    ];
    let mut changes = futures::stream::select_all(changes);
    let mut state = State { node, ..State::default() };
    let mut patience = FIRST_RETRY;
    loop {
        // What could not be put into effect is tried again, with the next change or after a while.
        let again = async {
            match state.has_failed() {
                true => tokio::time::sleep(patience).await,
                false => std::future::pending().await,
            }
        };
        let first = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.next() => change,
            () = again => None,
        };
        let mut next = first;
        while let Some(change) = next {
            match change {
                Ok(change) => state.hear(change, &variables),
                Err(error) => tracing::debug!(%error, "a watch of services was interrupted"),
            }
            next = changes.next().now_or_never().flatten();
        }
        let Some(batch) = state.batch() else { continue };
        let sink = Arc::clone(&sink);
        let done = tokio::task::spawn_blocking(move || batch.put_into_effect(sink.as_ref())).await;
        match done {
            Ok(failed) => {
                patience = if failed.is_empty() { FIRST_RETRY } else { LAST_RETRY.min(patience * 2) };
                state.dirty.extend(failed);
            }
            Err(error) => tracing::error!(%error, "putting services into effect was cut off"),
        }
    }
}

/// How long to wait before what failed is tried again; doubled each time, up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Handled one by one as they come: their size costs nothing.
#[allow(clippy::large_enum_variant)]
enum Change {
    Service(watcher::Event<Service>),
    Slice(watcher::Event<EndpointSlice>),
    Namespace(watcher::Event<Namespace>),
}

#[derive(Default)]
struct State {
    node: String,
    services: BTreeMap<Key, Arc<Service>>,
    slices: HashMap<Key, BTreeMap<String, Arc<EndpointSlice>>>,
    owner_of_slice: HashMap<Key, Key>,
    namespaces: BTreeSet<String>,
    listing: Listing,
    dirty: BTreeSet<Key>,
    dirty_namespaces: BTreeSet<String>,
    services_known: bool,
    slices_known: bool,
    all_done: bool,
}

/// What a list in progress has named so far.
#[derive(Default)]
struct Listing {
    services: Option<BTreeSet<Key>>,
    slices: Option<BTreeSet<Key>>,
    namespaces: Option<BTreeSet<String>>,
}

impl State {
    fn hear(&mut self, change: Change, variables: &ServiceVariables) {
        match change {
            Change::Service(event) => self.hear_service(event, variables),
            Change::Slice(event) => self.hear_slice(event),
            Change::Namespace(event) => self.hear_namespace(event),
        }
    }

    fn hear_service(&mut self, event: watcher::Event<Service>, variables: &ServiceVariables) {
        match event {
            watcher::Event::Init => self.listing.services = Some(BTreeSet::new()),
            watcher::Event::InitApply(service) | watcher::Event::Apply(service) => {
                let key = key_of(&service);
                if let Some(listing) = &mut self.listing.services {
                    listing.insert(key.clone());
                }
                let service = Arc::new(service);
                variables.set(&key.0, &key.1, Some(Arc::clone(&service)));
                self.services.insert(key.clone(), service);
                self.dirty.insert(key);
            }
            watcher::Event::InitDone => {
                if let Some(listed) = self.listing.services.take() {
                    let gone: Vec<Key> = self.services.keys().filter(|k| !listed.contains(*k)).cloned().collect();
                    for key in gone {
                        self.remove_service(key, variables);
                    }
                }
                self.services_known = true;
                variables.mark_synced();
            }
            watcher::Event::Delete(service) => self.remove_service(key_of(&service), variables),
        }
    }

    fn remove_service(&mut self, key: Key, variables: &ServiceVariables) {
        variables.set(&key.0, &key.1, None);
        self.services.remove(&key);
        self.dirty.insert(key);
    }

    fn hear_slice(&mut self, event: watcher::Event<EndpointSlice>) {
        match event {
            watcher::Event::Init => self.listing.slices = Some(BTreeSet::new()),
            watcher::Event::InitApply(slice) | watcher::Event::Apply(slice) => {
                let key = key_of(&slice);
                if let Some(listing) = &mut self.listing.slices {
                    listing.insert(key.clone());
                }
                self.remove_slice(&key);
                let service = slice.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name")).cloned();
                let Some(service) = service else { return };
                let owner = (key.0.clone(), service);
                self.slices.entry(owner.clone()).or_default().insert(key.1.clone(), Arc::new(slice));
                self.owner_of_slice.insert(key, owner.clone());
                self.dirty.insert(owner);
            }
            watcher::Event::InitDone => {
                if let Some(listed) = self.listing.slices.take() {
                    let gone: Vec<Key> = self.owner_of_slice.keys().filter(|k| !listed.contains(*k)).cloned().collect();
                    for key in gone {
                        self.remove_slice(&key);
                    }
                }
                self.slices_known = true;
            }
            watcher::Event::Delete(slice) => self.remove_slice(&key_of(&slice)),
        }
    }

    fn remove_slice(&mut self, key: &Key) {
        if let Some(owner) = self.owner_of_slice.remove(key) {
            if let Some(slices) = self.slices.get_mut(&owner) {
                slices.remove(&key.1);
                if slices.is_empty() {
                    self.slices.remove(&owner);
                }
            }
            self.dirty.insert(owner);
        }
    }

    fn hear_namespace(&mut self, event: watcher::Event<Namespace>) {
        match event {
            watcher::Event::Init => self.listing.namespaces = Some(BTreeSet::new()),
            watcher::Event::InitApply(namespace) | watcher::Event::Apply(namespace) => {
                let Some(name) = namespace.metadata.name else { return };
                if let Some(listing) = &mut self.listing.namespaces {
                    listing.insert(name.clone());
                }
                if self.namespaces.insert(name.clone()) {
                    self.dirty_namespaces.insert(name);
                }
            }
            watcher::Event::InitDone => {
                if let Some(listed) = self.listing.namespaces.take() {
                    let gone: Vec<String> = self.namespaces.difference(&listed).cloned().collect();
                    for name in gone {
                        self.namespaces.remove(&name);
                        self.dirty_namespaces.insert(name);
                    }
                }
            }
            watcher::Event::Delete(namespace) => {
                if let Some(name) = namespace.metadata.name
                    && self.namespaces.remove(&name)
                {
                    self.dirty_namespaces.insert(name);
                }
            }
        }
    }

    /// Whether some of the last batch failed: else it has taken all that was to be done.
    fn has_failed(&self) -> bool {
        self.all_done && !self.dirty.is_empty()
    }

    /// What is to be put into effect now; nothing before Services and slices are known, so that rules of an earlier
    /// agent are not replaced by half the truth.
    fn batch(&mut self) -> Option<Batch> {
        let namespaces = std::mem::take(&mut self.dirty_namespaces);
        let namespaces: Vec<_> =
            namespaces.into_iter().map(|n| (self.namespaces.contains(&n), n)).map(|(e, n)| (n, e)).collect();
        let ready = self.services_known && self.slices_known;
        if !ready || self.dirty.is_empty() {
            return (!namespaces.is_empty()).then(|| Batch { namespaces, changes: Vec::new(), all: false });
        }
        let all = !std::mem::replace(&mut self.all_done, true);
        let dirty = std::mem::take(&mut self.dirty);
        let changes = dirty.into_iter().map(|key| {
            let service = self.services.get(&key).cloned();
            let slices = self.slices.get(&key).map(|s| s.values().cloned().collect()).unwrap_or_default();
            (key, service, slices)
        });
        Some(Batch { changes: changes.map(|(k, s, l)| Entry::new(k, s, l, &self.node)).collect(), namespaces, all })
    }
}

struct Batch {
    changes: Vec<Entry>,
    namespaces: Vec<(String, bool)>,
    all: bool,
}

struct Entry {
    key: Key,
    rules: Option<network::service::ServiceRules>,
    names: Option<(network::dns::ServiceRecord, Vec<network::dns::EndpointRecord>)>,
}

impl Entry {
    fn new(key: Key, service: Option<Arc<Service>>, slices: Vec<Arc<EndpointSlice>>, node: &str) -> Self {
        let slices: Vec<&EndpointSlice> = slices.iter().map(Arc::as_ref).collect();
        let service = service.as_deref();
        Self {
            rules: service.and_then(|s| translate::rules(s, &slices, node)),
            names: service.map(|s| (translate::record(s), translate::endpoint_records(s, &slices))),
            key,
        }
    }
}

impl Batch {
    /// Returns the Services that failed, to be tried again.
    fn put_into_effect(self, sink: &dyn ServiceSink) -> Vec<Key> {
        for (name, exists) in &self.namespaces {
            sink.set_namespace(name, *exists);
        }
        let (mut failed, mut everything, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for Entry { key, rules, names } in self.changes {
            let (namespace, name) = (&key.0, &key.1);
            match names {
                Some((record, endpoints)) => {
                    sink.set_service(namespace, name, record);
                    sink.set_endpoints(namespace, name, endpoints);
                }
                None => sink.remove_service(namespace, name),
            }
            let id = ServiceId::new(namespace, name);
            if self.all {
                everything.extend(rules.map(|rules| (id, rules)));
                all.push(key);
            } else if let Err(error) = sink.apply(&id, rules) {
                tracing::warn!(service = %id, error, "the rules of a service could not be changed");
                failed.push(key);
            }
        }
        if self.all
            && let Err(error) = sink.replace_all(everything)
        {
            tracing::error!(error, "the rules of the services could not be set");
            failed = all;
        }
        failed
    }
}

fn key_of<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
