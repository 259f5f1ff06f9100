//! One node with its agent, and what tests ask of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use agent::{Agent, AgentConfig, Parts, services::ServiceSink};
use network::{
    dns::{EndpointRecord, ServiceRecord},
    service::{ServiceId, ServiceRules},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{fake_api::FakeApi, fake_runtime::Fake};

pub const PODS: &str = "/api/v1/namespaces/default/pods";

/// A node. Dropping it stops the agent; what "runs" goes on in `fake`.
pub struct Node {
    pub api: FakeApi,
    pub fake: Fake,
    pub agent: Agent,
    pub rules: Rules,
    pub directory: Arc<tempfile::TempDir>,
    edit: Edit,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

type Edit = Arc<dyn Fn(&mut AgentConfig) + Send + Sync>;

/// Rules of Services by id, and how many changes of them are still to be refused.
#[derive(Clone, Default)]
pub struct Rules(pub Arc<Mutex<std::collections::BTreeMap<String, ServiceRules>>>, pub Arc<AtomicUsize>);

impl Rules {
    fn refuse(&self) -> Result<(), String> {
        let one_less = self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        one_less.map_or(Ok(()), |_| Err("the kernel has no room".into()))
    }
}

impl ServiceSink for Rules {
    fn replace_all(&self, all: Vec<(ServiceId, ServiceRules)>) -> Result<(), String> {
        self.refuse()?;
        *self.0.lock() = all.into_iter().map(|(id, rules)| (id.0, rules)).collect();
        Ok(())
    }

    fn apply(&self, id: &ServiceId, rules: Option<ServiceRules>) -> Result<(), String> {
        self.refuse()?;
        match rules {
            Some(rules) => self.0.lock().insert(id.0.clone(), rules),
            None => self.0.lock().remove(&id.0),
        };
        Ok(())
    }

    fn set_service(&self, _namespace: &str, _name: &str, _record: ServiceRecord) {}
    fn remove_service(&self, _namespace: &str, _name: &str) {}
    fn set_endpoints(&self, _namespace: &str, _name: &str, _endpoints: Vec<EndpointRecord>) {}
    fn set_namespace(&self, _namespace: &str, _exists: bool) {}
}

impl Node {
    pub fn start() -> Self {
        Self::start_as(|_| {})
    }

    /// With other settings.
    pub fn start_as(edit: impl Fn(&mut AgentConfig) + Send + Sync + 'static) -> Self {
        let fake = Fake::new();
        fake.add_image("app:1");
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        Self::start_with(FakeApi::new(), fake, directory, Arc::new(edit))
    }

    fn start_with(api: FakeApi, fake: Fake, directory: Arc<tempfile::TempDir>, edit: Edit) -> Self {
        let mut config = AgentConfig::new("node", directory.path());
        // The machine that tests run on may be short of something; what they test is not that.
        config.eviction.thresholds.clear();
        edit(&mut config);
        config.node_ips = vec!["192.0.2.1".parse().expect("an address")];
        config.cluster_dns = vec!["10.43.0.10".parse().expect("an address")];
        let rules = Rules::default();
        let parts = Parts {
            client: api.client(),
            runtime: Arc::new(fake.clone()),
            images: Arc::new(fake.clone()),
            network: Arc::new(fake.clone()),
            services: Arc::new(rules.clone()),
        };
        let agent = Agent::new(config, parts);
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (agent, stop) = (agent.clone(), stop.clone());
            async move { agent.run(stop).await }
        });
        Self { api, fake, agent, rules, directory, edit, stop, task: Some(task) }
    }

    /// Ends the agent and starts another one on what is left; `meanwhile` happens in between.
    pub async fn restart(mut self, meanwhile: impl FnOnce(&FakeApi, &Fake)) -> Self {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            task.await.expect("the agent ends");
        }
        meanwhile(&self.api, &self.fake);
        Self::start_with(self.api.clone(), self.fake.clone(), Arc::clone(&self.directory), Arc::clone(&self.edit))
    }

    /// Declares a pod with one container named `c`; returns its UID.
    pub fn declare(&self, name: &str, edit: impl FnOnce(&mut Value)) -> String {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": "node", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
                "containers": [{"name": "c", "image": "app:1", "terminationMessagePath": "/dev/termination-log"}]},
        });
        edit(&mut pod);
        let pod = self.api.put(PODS, pod);
        pod["metadata"]["uid"].as_str().expect("a uid").to_owned()
    }

    /// Waits until `check` holds for the pod.
    pub async fn pod<T>(&self, name: &str, check: impl Fn(&Value) -> Option<T>) -> T {
        self.api.until(&format!("{PODS}/{name}"), |pod| pod.and_then(&check)).await
    }

    pub async fn ready(&self, name: &str) -> Value {
        self.pod(name, |pod| (condition(pod, "Ready") == "True").then(|| pod.clone())).await
    }

    /// Asks for the pod's deletion, as the API marks it.
    pub fn delete(&self, name: &str, grace: i64) {
        self.api.edit(&format!("{PODS}/{name}"), |pod| {
            pod["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        });
    }

    pub async fn gone(&self, name: &str) {
        self.api.until(&format!("{PODS}/{name}"), |pod| pod.is_none().then_some(())).await;
    }

    /// Waits for an event with that reason and returns its message.
    pub async fn event(&self, reason: &str) -> String {
        let find = || {
            let all = self.api.all("/api/v1/namespaces/default/events");
            all.iter().find(|e| e["reason"] == reason).map(|e| e["message"].as_str().unwrap_or_default().to_owned())
        };
        self.api.until("", |_| find()).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn condition<'a>(pod: &'a Value, kind: &str) -> &'a str {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter(|c| c["type"] == kind).find_map(|c| c["status"].as_str()).unwrap_or_default()
}

pub fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}
