//! Garbage collection: what is owned goes when its owners are gone; `Foreground` deletion waits for dependents,
//! `Orphan` lets them go.
//!
//! Only metadata is watched, of every kind that can be deleted. Of objects without owners only the UID is kept.

mod graph;

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, PartialObjectMeta, Patch, PatchParams, Preconditions, PropagationPolicy},
    core::ApiResource,
    discovery::{Discovery, Scope, verbs},
    runtime::watcher,
};
use parking_lot::{Mutex, RwLock};
use recording::{Recorder, Severity};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    Error,
    error::gone_is_fine,
    queue::{Key, Queue},
};
use graph::{Graph, Node, Owner, OwnerState};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// A kind that is watched.
#[derive(Clone)]
struct Kind {
    resource: ApiResource,
    namespaced: bool,
}

/// Tells of namespaces in which objects of any kind came or went: the collector sees them all anyway.
#[derive(Clone, Default)]
pub(crate) struct Comings(Arc<RwLock<Vec<Listener>>>);

type Listener = Box<dyn Fn(&str) + Send + Sync>;

impl Comings {
    /// Calls `listener` from now on. It must not block.
    pub fn listen(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        self.0.write().push(Box::new(listener));
    }

    fn tell(&self, namespace: Option<String>) {
        if let Some(namespace) = namespace {
            self.0.read().iter().for_each(|listener| listener(&namespace));
        }
    }
}

struct Collector {
    comings: Comings,
    client: Client,
    kinds: Vec<Kind>,
    graph: Mutex<Graph>,
    queue: Queue,
    recorder: Recorder,
    /// How many kinds the graph knows completely.
    known: watch::Sender<usize>,
}

pub(crate) async fn run(client: Client, comings: Comings) {
    let kinds = loop {
        match discover(&client).await {
            Ok(kinds) => break kinds,
            Err(error) => {
                tracing::warn!(%error, "garbage collection can't learn what kinds there are");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    let (graph, queue, known) = (Mutex::default(), Queue::default(), watch::Sender::new(0));
    let recorder = Recorder::start(client.clone(), "garbage-collector-controller");
    let collector = Arc::new(Collector { comings, client, kinds, graph, queue, recorder, known });
    let mut watches = JoinSet::new();
    for index in 0..collector.kinds.len() as u32 {
        watches.spawn(collector.clone().watch(index));
    }
    // Who seems to have no dependents may have some of a kind that is not listed yet: an owner that orphans them would
    // be let go, and they would be collected.
    let mut known = collector.known.subscribe();
    // The sender lives in the collector.
    let _ = known.wait_for(|known| *known == collector.kinds.len()).await;
    let queue = collector.queue.clone();
    queue.work("garbage", 8, |key| collector.clone().reconcile(key.name)).await;
}

async fn discover(client: &Client) -> Result<Vec<Kind>, Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let mut kinds = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let works = [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|v| capabilities.supports_operation(v));
            // Events are many, own nothing and expire by themselves (upstream ignores them too).
            if works && resource.kind != "Event" {
                kinds.push(Kind { resource, namespaced: capabilities.scope == Scope::Namespaced });
            }
        }
    }
    Ok(kinds)
}

impl Kind {
    /// Whether the owner is said to be of this kind. Any version of it names the same objects.
    fn is_of(&self, owner: &Owner) -> bool {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        self.resource.kind == owner.kind && self.resource.group == group
    }
}

impl Collector {
    fn kind(&self, index: u32) -> &Kind {
        &self.kinds[index as usize]
    }

    async fn watch(self: Arc<Self>, kind: u32) {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.client.clone(), &self.kind(kind).resource);
        let mut events = watching::watch(api, watcher::Config::default());
        let mut listed: Vec<String> = Vec::new();
        let mut known = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    listed.extend(object.uid());
                    self.seen(kind, &object);
                }
                Ok(watcher::Event::InitDone) => {
                    // What vanished while the watch was broken.
                    let gone = self.graph.lock().missing_of(kind, &std::mem::take(&mut listed));
                    gone.iter().for_each(|uid| self.gone(uid));
                    if !std::mem::replace(&mut known, true) {
                        self.known.send_modify(|known| *known += 1);
                    }
                }
                Ok(watcher::Event::Apply(object)) => self.seen(kind, &object),
                Ok(watcher::Event::Delete(object)) => {
                    self.gone(&object.uid().unwrap_or_default());
                    self.comings.tell(object.namespace());
                }
                Err(error) => tracing::debug!(%error, kind = self.kind(kind).resource.kind, "watch interrupted"),
            }
        }
    }

    fn seen(&self, kind: u32, object: &PartialObjectMeta<DynamicObject>) {
        let uid = object.uid().unwrap_or_default();
        let deleting = object.metadata.deletion_timestamp.is_some();
        let has = |finalizer: &str| object.finalizers().iter().any(|f| f == finalizer);
        let node = Node {
            kind,
            key: Key::new(object.namespace().unwrap_or_default(), object.name_any()),
            version: object.resource_version().unwrap_or_default(),
            owners: object
                .owner_references()
                .iter()
                .map(|o| Owner {
                    uid: o.uid.clone(),
                    api_version: o.api_version.clone(),
                    kind: o.kind.clone(),
                    name: o.name.clone(),
                    blocks: o.block_owner_deletion.unwrap_or(false),
                })
                .collect(),
            deleting,
            foreground: deleting && has(FOREGROUND),
            orphan: deleting && has(ORPHAN),
        };
        let (is_new, interesting) = {
            let mut graph = self.graph.lock();
            (!graph.knows(&uid), graph.insert(&uid, node))
        };
        // A claim may grow.
        if is_new || self.kind(kind).resource.kind == "PersistentVolumeClaim" {
            self.comings.tell(object.namespace());
        }
        for uid in interesting {
            self.queue.add(Key::new("", uid));
        }
    }

    fn gone(&self, uid: &str) {
        let affected = self.graph.lock().remove(uid);
        for uid in affected {
            self.queue.add(Key::new("", uid));
        }
    }

    async fn reconcile(self: Arc<Self>, uid: String) -> Result<(), Error> {
        let Some(node) = self.graph.lock().node(&uid) else { return Ok(()) };
        if node.orphan {
            return self.orphan_dependents(&uid, &node).await;
        }
        if node.foreground {
            return self.delete_dependents(&uid, &node).await;
        }
        if node.deleting || node.owners.is_empty() {
            return Ok(());
        }
        let (mut solid, mut dangling, mut waiting) = (0, Vec::new(), Vec::new());
        for owner in &node.owners {
            let known = self.graph.lock().owner_state(owner, &node.key.namespace, |kind| self.kind(kind).is_of(owner));
            let state = match known {
                OwnerState::Unknown => self.ask(owner, &node).await?,
                OwnerState::Elsewhere => {
                    self.tell_misplaced(owner, &uid, &node);
                    self.ask(owner, &node).await?
                }
                known => known,
            };
            match state {
                OwnerState::Alive => solid += 1,
                OwnerState::WaitsForDependents => waiting.push(owner.uid.clone()),
                OwnerState::Gone | OwnerState::Unknown | OwnerState::Elsewhere => dangling.push(owner.uid.clone()),
            }
        }
        if solid > 0 {
            dangling.extend(waiting);
            return if dangling.is_empty() { Ok(()) } else { self.remove_owners(&uid, &node, &dangling).await };
        }
        let dependents = self.graph.lock().dependents(&uid);
        if waiting.is_empty() || dependents.is_empty() {
            return self.delete(&uid, &node, PropagationPolicy::Background).await;
        }
        // Owners that wait for one another in a circle would wait forever.
        let circular = {
            let graph = self.graph.lock();
            dependents.iter().any(|(d, _)| graph.node(d).is_some_and(|n| n.deleting && n.foreground))
        };
        if circular {
            self.unblock_owners(&uid, &node).await?;
        }
        self.delete(&uid, &node, PropagationPolicy::Foreground).await
    }

    fn tell_misplaced(&self, owner: &Owner, uid: &str, dependent: &Node) {
        let resource = &self.kind(dependent.kind).resource;
        let Key { namespace, name } = &dependent.key;
        let about = ObjectReference {
            api_version: Some(resource.api_version.clone()),
            kind: Some(resource.kind.clone()),
            namespace: (!namespace.is_empty()).then(|| namespace.clone()),
            name: Some(name.clone()),
            uid: Some(uid.to_owned()),
            ..Default::default()
        };
        let Owner { api_version, kind, name, uid, .. } = owner;
        let note = format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in namespace {namespace:?}"
        );
        self.recorder.record(about, Severity::Warning, "OwnerRefInvalidNamespace", note);
    }

    /// The owner is not in the graph: perhaps its kind is not watched, perhaps its watch lags. Ask.
    async fn ask(&self, owner: &Owner, dependent: &Node) -> Result<OwnerState, Error> {
        let kind = self.kinds.iter().find(|kind| kind.is_of(owner));
        // Not to be judged here: a kind that this server does not serve, or one in namespaces that is said to own
        // something outside of them.
        let Some(kind) = kind.filter(|k| !k.namespaced || !dependent.key.namespace.is_empty()) else {
            return Ok(OwnerState::Alive);
        };
        let api = self.api(kind, &dependent.key.namespace);
        match api.get_metadata(&owner.name).await {
            Ok(found) if found.uid().as_deref() == Some(&owner.uid) => Ok(OwnerState::Alive),
            Ok(_) => Ok(OwnerState::Gone),
            Err(error) => {
                let error = Error::from(error);
                if error.is_not_found() { Ok(OwnerState::Gone) } else { Err(error) }
            }
        }
    }

    /// Deletes the object as it was when its owners were judged: an owner may have let it go since, which its watch is
    /// yet to tell.
    async fn delete(&self, uid: &str, node: &Node, policy: PropagationPolicy) -> Result<(), Error> {
        let as_judged = Preconditions { uid: Some(uid.to_owned()), resource_version: Some(node.version.clone()) };
        let params =
            DeleteParams { propagation_policy: Some(policy), preconditions: Some(as_judged), ..Default::default() };
        let api = self.api(self.kind(node.kind), &node.key.namespace);
        match api.delete(&node.key.name, &params).await.map_err(Error::from) {
            Err(error) if error.is_not_found() => Ok(()),
            // Changed meanwhile, or another object took the name, which the watch is going to tell.
            Err(error) if error.is_conflict() => Err(Error::NotYet("the object changed while it was to be deleted")),
            other => other.map(drop),
        }
    }

    async fn delete_dependents(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let dependents = self.graph.lock().dependents(uid);
        let mut blocking = false;
        for (dependent, block) in dependents {
            blocking |= block;
            self.queue.add(Key::new("", dependent));
        }
        // The last dependent's end brings us here again.
        if blocking { Ok(()) } else { self.remove_finalizer(uid, node, FOREGROUND).await }
    }

    async fn orphan_dependents(&self, uid: &str, node: &Node) -> Result<(), Error> {
        let dependents = self.graph.lock().dependents(uid);
        for (dependent, _) in dependents {
            let Some(other) = self.graph.lock().node(&dependent) else { continue };
            self.remove_owners(&dependent, &other, &[uid.to_owned()]).await?;
        }
        self.remove_finalizer(uid, node, ORPHAN).await
    }

    async fn remove_owners(&self, uid: &str, node: &Node, owners: &[String]) -> Result<(), Error> {
        self.change(uid, node, |object| {
            object.owner_references_mut().retain(|o| !owners.contains(&o.uid));
            json!({"ownerReferences": object.owner_references()})
        })
        .await
    }

    /// Has no owner wait for this object any more.
    async fn unblock_owners(&self, uid: &str, node: &Node) -> Result<(), Error> {
        self.change(uid, node, |object| {
            for owner in object.owner_references_mut() {
                owner.block_owner_deletion = Some(false);
            }
            json!({"ownerReferences": object.owner_references()})
        })
        .await
    }

    async fn remove_finalizer(&self, uid: &str, node: &Node, finalizer: &str) -> Result<(), Error> {
        self.change(uid, node, |object| {
            object.finalizers_mut().retain(|f| f != finalizer);
            json!({"finalizers": object.finalizers()})
        })
        .await
    }

    /// Patches metadata computed from the live object, if it is still the same object.
    async fn change(
        &self,
        uid: &str,
        node: &Node,
        edit: impl FnOnce(&mut PartialObjectMeta<DynamicObject>) -> serde_json::Value,
    ) -> Result<(), Error> {
        let api = self.api(self.kind(node.kind), &node.key.namespace);
        let mut live = match api.get_metadata(&node.key.name).await.map_err(Error::from) {
            Ok(live) => live,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        if live.uid().as_deref() != Some(uid) {
            return Ok(());
        }
        let mut metadata = edit(&mut live);
        metadata["uid"] = json!(uid);
        metadata["resourceVersion"] = json!(live.resource_version());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        gone_is_fine(api.patch_metadata(&node.key.name, &PatchParams::default(), &patch).await)
    }

    fn api(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        match kind.namespaced {
            true => Api::namespaced_with(self.client.clone(), namespace, &kind.resource),
            false => Api::all_with(self.client.clone(), &kind.resource),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn what_an_owner_may_have_let_go_since_is_not_collected() {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let server = tower::service_fn(move |request: http::Request<Body>| {
            let tell = tell.clone();
            async move {
                let body = request.into_body().collect().await?.to_bytes();
                let _ = tell.send(serde_json::from_slice::<serde_json::Value>(&body)?);
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409,
                    "message": "the ResourceVersion in the precondition (7) does not match the ResourceVersion in record (8)"});
                let response = http::Response::builder().status(409).body(Body::from(status.to_string().into_bytes()));
                Ok::<_, tower::BoxError>(response?)
            }
        });
        let kinds = vec![Kind { resource: ApiResource::erase::<ReplicaSet>(&()), namespaced: true }];
        let client = Client::new(server, "default");
        let recorder = Recorder::start(client.clone(), "garbage-collector-controller");
        let collector = Collector {
            comings: Comings::default(),
            client,
            kinds,
            graph: Mutex::default(),
            queue: Queue::default(),
            recorder,
            known: watch::Sender::new(0),
        };
        let node = Node {
            kind: 0,
            key: Key::new("default", "web"),
            version: "7".into(),
            owners: Vec::new(),
            deleting: false,
            foreground: false,
            orphan: false,
        };
        let outcome = collector.delete("u", &node, PropagationPolicy::Background).await;
        assert!(matches!(outcome, Err(Error::NotYet(_))), "{outcome:?}");
        let asked = told.recv().await.expect("it asks");
        assert_eq!(asked["preconditions"], json!({"uid": "u", "resourceVersion": "7"}));
    }
}
