//! A cluster in a process: API server on a store of its own, controllers, and a pretended kubelet.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use apiserver::{ApiServer, Config};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{Either, Full};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Node, Pod, ServiceAccount},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use store::{Embedded, EmbeddedConfig};
use tokio::{sync::watch, task::JoinSet};
use tower::ServiceExt;

/// Nothing takes longer than this, however busy the machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// On a pod: what the pretended kubelet does with it. `ready` (also without the annotation), `pending` (nothing),
/// `running` (but not ready), `exit:N` (its first container ends with that code), `none` (there is no kubelet: not
/// even a deletion is carried out).
pub const OUTCOME: &str = "test/outcome";

/// A kind that the tests work with.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}
impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

pub struct World {
    pub client: Client,
    /// What `metrics.k8s.io` says of pods: a list, or nothing at all.
    pub metrics: Arc<Mutex<Value>>,
    /// Counts the writes that have been answered, whoever made them.
    pub writes: watch::Sender<u64>,
    server: Arc<ApiServer>,
    tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

impl World {
    /// With one node, `node-a`.
    pub async fn new() -> Self {
        Self::with_nodes(&["node-a"]).await
    }

    pub async fn with_nodes(nodes: &[&str]) -> Self {
        Self::with(nodes, Duration::from_secs(3600)).await
    }

    /// Events are kept for `event_ttl`.
    pub async fn with(nodes: &[&str], event_ttl: Duration) -> Self {
        Self::configured(nodes, controllers::Config { event_ttl, ..controllers::Config::new("CA") }).await
    }

    pub async fn configured(nodes: &[&str], config: controllers::Config) -> Self {
        let mut world = Self::without_controllers(nodes).await;
        world.tasks.spawn(controllers::run(world.client.clone(), config));
        world
            .until("the default account", |all: &[ServiceAccount]| all.iter().any(|a| a.name_any() == "default"))
            .await;
        world
    }

    /// The API and the kubelet alone.
    pub async fn without_controllers(nodes: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let store = Embedded::open(EmbeddedConfig::new(dir.path())).expect("an empty store opens");
        let server = ApiServer::new(Config::default(), store).await.expect("an empty store is enough to start");
        let metrics: Arc<Mutex<Value>> = Arc::default();
        let writes = watch::Sender::new(0);
        let client = Client::new(service(server.in_process(), metrics.clone(), writes.clone()), "default");
        for name in nodes {
            let api: Api<Node> = Api::all(client.clone());
            api.create(&PostParams::default(), &node(name)).await.expect("a node can be made");
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(kubelet(client.clone(), Arc::from(nodes.first().copied().unwrap_or_default())));
        Self { client, metrics, writes, server, tasks, _dir: dir }
    }

    /// The API as a service, for clients with something in between.
    pub fn service(&self) -> impl Service {
        service(self.server.in_process(), self.metrics.clone(), self.writes.clone())
    }

    /// A client whose writes are not counted.
    pub fn unheard(&self) -> Client {
        Client::new(self.server.in_process(), "default")
    }

    /// What `/metrics` of the server tells.
    pub async fn counted(&self) -> String {
        let request = http::Request::get("/metrics").body(Vec::new()).expect("a request");
        self.unheard().request_text(request).await.expect("it answers")
    }

    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::default_namespaced(self.client.clone())
    }

    pub async fn create<K: Kind>(&self, object: Value) -> K {
        let object: K = serde_json::from_value(object).expect("tests write valid objects");
        self.api().create(&PostParams::default(), &object).await.expect("the object is accepted")
    }

    pub async fn get<K: Kind>(&self, name: &str) -> K {
        self.api().get(name).await.expect("the object is there")
    }

    pub async fn merge<K: Kind>(&self, name: &str, patch: Value) -> K {
        self.api().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("the patch is accepted")
    }

    pub async fn merge_status<K: Kind>(&self, name: &str, status: Value) -> K {
        let patch = Patch::Merge(json!({"status": status}));
        self.api().patch_status(name, &PatchParams::default(), &patch).await.expect("the patch is accepted")
    }

    pub async fn delete<K: Kind>(&self, name: &str, how: DeleteParams) {
        self.api::<K>().delete(name, &how).await.expect("the object can be deleted");
    }

    /// Waits until all objects of a kind in the namespace are so; returns them by name.
    pub async fn until<K: Kind>(&self, what: &str, is_so: impl FnMut(&[K]) -> bool) -> Vec<K> {
        until_in(self.api(), what, is_so).await
    }

    /// Waits until the object is so.
    pub async fn until_one<K: Kind>(&self, name: &str, what: &str, mut is_so: impl FnMut(&K) -> bool) -> K {
        let all = self.until(what, |all: &[K]| all.iter().any(|o| o.name_any() == name && is_so(o))).await;
        all.into_iter().find(|o| o.name_any() == name).expect("the predicate found it")
    }

    /// Sets what the kubelet does with a pod from now on.
    pub async fn outcome(&self, pod: &str, outcome: &str) {
        self.merge::<Pod>(pod, json!({"metadata": {"annotations": {OUTCOME: outcome}}})).await;
    }
}

/// What such a client hears.
pub type Answer = http::Response<Either<apiserver::Body, Full<Bytes>>>;

/// What a client of these tests speaks to.
pub trait Service:
    tower::Service<http::Request<kube::client::Body>, Response = Answer, Error = std::convert::Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}
impl<S> Service for S where
    S: tower::Service<
            http::Request<kube::client::Body>,
            Response = Answer,
            Error = std::convert::Infallible,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// The API, with pod metrics beside it once there are some.
fn service(api: apiserver::InProcess, metrics: Arc<Mutex<Value>>, writes: watch::Sender<u64>) -> impl Service {
    tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (api, metrics) = (api.clone(), metrics.lock().expect("no test panics with it").clone());
        let writes = (request.method() != http::Method::GET).then(|| writes.clone());
        async move {
            if request.uri().path().starts_with("/apis/metrics.k8s.io/") && !metrics.is_null() {
                return Ok(http::Response::new(Either::Right(Full::new(Bytes::from(metrics.to_string())))));
            }
            let answer = api.oneshot(request).await?.map(Either::Left);
            if let Some(writes) = writes {
                writes.send_modify(|count| *count += 1);
            }
            Ok(answer)
        }
    })
}

/// As [`World::until`], anywhere.
pub async fn until_in<K>(api: Api<K>, what: &str, mut is_so: impl FnMut(&[K]) -> bool) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut last = Vec::new();
    let found = tokio::time::timeout(DEADLINE, async {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        let mut objects: BTreeMap<String, K> = BTreeMap::new();
        let mut complete = false;
        loop {
            match events.next().await.expect("a watcher never ends") {
                Ok(watcher::Event::Init) => (complete, objects) = (false, BTreeMap::new()),
                Ok(watcher::Event::InitDone) => complete = true,
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                    objects.insert(object.name_any(), object);
                }
                Ok(watcher::Event::Delete(object)) => {
                    objects.remove(&object.name_any());
                }
                Err(_) => {}
            }
            last = objects.values().cloned().collect();
            if complete && is_so(&last) {
                return;
            }
        }
    })
    .await;
    assert!(found.is_ok(), "waited in vain for {what}: {last:#?}");
    last
}

pub fn node(name: &str) -> Node {
    let node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "500"},
        },
    });
    serde_json::from_value(node).expect("a node")
}

/// Binds pods to a node (the one that they ask for by name, else the first), and plays their life.
async fn kubelet(client: Client, first: Arc<str>) {
    let all: Api<Pod> = Api::all(client.clone());
    let mut events = std::pin::pin!(watcher(all, watcher::Config::default()).default_backoff().touched_objects());
    let mut work = JoinSet::new();
    while let Some(event) = events.next().await {
        if let Ok(pod) = event {
            let (client, first) = (client.clone(), first.clone());
            work.spawn(async move {
                // Lost against another write: the event of that one brings us here again.
                let _ = play(&client, &pod, &first).await;
            });
        }
        while work.try_join_next().is_some() {}
    }
}

async fn play(client: &Client, pod: &Pod, first: &str) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let outcome = pod.annotations().get(OUTCOME).map_or("ready", String::as_str);
    if outcome == "none" {
        return Ok(());
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending");
        if pod.finalizers().is_empty() {
            let now = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
            api.delete(&name, &now).await?;
        } else if matches!(phase, "Pending" | "Running") {
            let status = json!({"metadata": {"uid": pod.uid()}, "status": {"phase": "Failed"}});
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
            let now = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
            api.delete(&name, &now).await?;
        }
        return Ok(());
    }
    let spec = pod.spec.as_ref().expect("a pod has a spec");
    if spec.node_name.is_none() {
        let wanted = serde_json::to_value(&spec.affinity).expect("it is JSON");
        let terms =
            "/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
        let node = wanted.pointer(terms).and_then(Value::as_str).unwrap_or(first);
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
        let request = http::Request::post(format!(
            "/api/v1/namespaces/{}/pods/{name}/binding",
            pod.namespace().unwrap_or_default()
        ))
        .header("Content-Type", "application/json")
        .body(binding.to_string().into_bytes())
        .expect("a valid request");
        client.request::<Value>(request).await?;
        return Ok(());
    }
    let container = spec.containers[0].name.clone();
    let now = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let status = match outcome.split_once(':') {
        Some(("exit", code)) => {
            let code: i32 = code.parse().expect("a number");
            json!({"phase": if code == 0 { "Succeeded" } else { "Failed" },
                "containerStatuses": [{"name": container, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code, "finishedAt": now}}}]})
        }
        _ if outcome == "pending" => return Ok(()),
        _ => {
            let ready = if outcome == "ready" { "True" } else { "False" };
            let is = |c: &k8s_openapi::api::core::v1::PodCondition| c.type_ == "Ready" && c.status == ready;
            let status = pod.status.as_ref();
            let running = status.and_then(|s| s.phase.as_deref()) == Some("Running");
            if running && status.and_then(|s| s.conditions.as_ref()).is_some_and(|all| all.iter().any(is)) {
                return Ok(());
            }
            json!({"phase": "Running", "podIP": address(&name), "podIPs": [{"ip": address(&name)}],
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}]})
        }
    };
    if matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")) {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid()}, "status": status}));
    api.patch_status(&name, &PatchParams::default(), &patch).await.map(drop)
}

/// An address that no two pods of a test share but by bad luck.
fn address(name: &str) -> String {
    let hash = name.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let [_, a, b, c] = hash.to_be_bytes();
    format!("10.{a}.{b}.{c}")
}

/// The template of a pod labelled `app: NAME`.
pub fn template(name: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": image,
        "ports": [{"name": "http", "containerPort": 8080}]}]}})
}
