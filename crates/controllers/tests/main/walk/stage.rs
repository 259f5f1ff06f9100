//! A namespace in which a user and the controllers act.

use std::sync::Mutex;

use futures::{StreamExt, stream};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::normal;
use crate::{nodes, world::World};

/// What the state consists of: group and version, plural.
const KINDS: [(&str, &str); 16] = [
    ("api/v1", "pods"),
    ("api/v1", "services"),
    ("api/v1", "endpoints"),
    ("api/v1", "configmaps"),
    ("api/v1", "persistentvolumeclaims"),
    ("api/v1", "replicationcontrollers"),
    ("apis/apps/v1", "deployments"),
    ("apis/apps/v1", "replicasets"),
    ("apis/apps/v1", "statefulsets"),
    ("apis/apps/v1", "daemonsets"),
    ("apis/apps/v1", "controllerrevisions"),
    ("apis/batch/v1", "jobs"),
    ("apis/batch/v1", "cronjobs"),
    ("apis/autoscaling/v2", "horizontalpodautoscalers"),
    ("apis/policy/v1", "poddisruptionbudgets"),
    ("apis/discovery.k8s.io/v1", "endpointslices"),
];

pub struct Stage {
    pub namespace: String,
    client: Client,
    writes: watch::Receiver<u64>,
    unheard: Client,
    /// What keeps the node alive that bears the namespace's name.
    life: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Stage {
    pub async fn new(world: &World, namespace: &str) -> Self {
        let stage = Self {
            namespace: namespace.to_owned(),
            client: world.client.clone(),
            writes: world.writes.subscribe(),
            unheard: world.unheard(),
            life: Mutex::default(),
        };
        stage.request(Method::POST, "/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await;
        stage
    }

    /// Waits for what the controllers put into each namespace.
    pub async fn furnished(&self) {
        let wanted = [("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")];
        let mut writes = self.writes();
        for (plural, name) in wanted {
            let path = self.path("api/v1", plural, name);
            while self.get(&path).await.is_null() {
                tokio::time::timeout(super::DEADLINE, writes.changed()).await.expect("furnished in time").unwrap();
            }
        }
    }

    /// Empties the namespace without any controller, so that the next runs are not slowed down by it.
    pub async fn leave(&self) {
        for (group, plural) in KINDS {
            self.request(Method::DELETE, &self.path(group, plural, ""), &json!({"gracePeriodSeconds": 0})).await;
        }
        drop(self.life.lock().expect("no test panics with it").take());
        self.request(Method::DELETE, &format!("/api/v1/nodes/{}", self.namespace), &json!({})).await;
    }

    /// Has the node that bears the namespace's name live on from here.
    pub fn revive(&self) {
        // Its signs of life never end: who waits until nobody writes any more is not to hear of them.
        let (client, name) = (self.unheard.clone(), &self.namespace);
        *self.life.lock().expect("no test panics with it") = Some(nodes::live(client, name));
    }

    pub fn writes(&self) -> watch::Receiver<u64> {
        self.writes.clone()
    }

    /// Path of an object, or of all of them.
    pub fn path(&self, group: &str, plural: &str, name: &str) -> String {
        let separator = if name.is_empty() { "" } else { "/" };
        format!("/{group}/namespaces/{}/{plural}{separator}{name}", self.namespace)
    }

    pub async fn create(&self, group: &str, plural: &str, object: Value) {
        self.request(Method::POST, &self.path(group, plural, ""), &object).await.expect("it can be made");
    }

    pub async fn patch(&self, path: &str, patch: Value) {
        self.request(Method::PATCH, path, &patch).await.expect("it can be changed");
    }

    pub async fn delete(&self, group: &str, plural: &str, name: &str, propagation: &str) {
        let how = json!({"propagationPolicy": propagation});
        self.request(Method::DELETE, &self.path(group, plural, name), &how).await.expect("it can be deleted");
    }

    /// `null` if there is none.
    pub async fn get(&self, path: &str) -> Value {
        let request = http::Request::get(path).body(Vec::new()).expect("a valid request");
        self.client.request(request).await.unwrap_or_default()
    }

    pub async fn request(&self, method: Method, path: &str, body: &Value) -> Option<Value> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("Content-Type", kind);
        let request = request.body(body.to_string().into_bytes()).expect("a valid request");
        self.client.request(request).await.ok()
    }

    /// All that is there but for what differs from run to run.
    pub async fn state(&self) -> Value {
        let namespaced = KINDS.map(|(group, plural)| (plural, self.path(group, plural, "")));
        let volumes = ("persistentvolumes", "/api/v1/persistentvolumes".to_owned());
        let lists = stream::iter(namespaced.into_iter().chain([volumes]))
            .then(async |(plural, path)| (plural.to_owned(), self.get(&path).await["items"].take()));
        let mut state: serde_json::Map<String, Value> = lists.collect().await;
        let class = json!(self.namespace);
        if let Some(volumes) = state["persistentvolumes"].as_array_mut() {
            volumes.retain(|volume| volume["spec"]["storageClassName"] == class);
        }
        let node = self.get(&format!("/api/v1/nodes/{}", self.namespace)).await;
        if !node.is_null() {
            state.insert("nodes".to_owned(), json!([node]));
        }
        let namespace = self.get(&format!("/api/v1/namespaces/{}", self.namespace)).await;
        state.insert("namespace".to_owned(), namespace["status"].clone());
        normal::normal(Value::Object(state), &self.namespace)
    }
}
