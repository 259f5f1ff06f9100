//! Nodes that fall silent: their Ready turns Unknown, taints keep new pods away, and pods that do not tolerate
//! that leave.

mod taints;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition, ObjectReference, Pod, Taint},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use parking_lot::Mutex;
use recording::{Recorder, Severity};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Error, Shared, counts, disruption_target,
    error::gone_is_fine,
    informer::{self, Change, Informer},
    pods,
    queue::{Key, Queue},
};

const LEASES: &str = "kube-node-lease";

struct Controller {
    shared: Shared,
    queue: Queue,
    recorder: Recorder,
    grace: Duration,
    /// When each node's lease was last seen to change, by this process's clock: the node's own may be off.
    renewed: Mutex<HashMap<String, (String, Instant)>>,
    /// Pods that may stay on their tainted node for a while, by node and UID, and when that was first seen.
    waiting: Mutex<HashMap<String, HashMap<String, Timestamp>>>,
    /// Nodes that were told of, as events name them.
    registered: Mutex<HashMap<String, ObjectReference>>,
}

pub(crate) async fn run(shared: Shared, grace: Duration) {
    let mut tasks = JoinSet::new();
    let leases: Informer<Lease> = Informer::start(shared.client.clone(), informer::untouched, &mut tasks);
    let queue = Queue::default();
    shared.nodes.synced().await;
    shared.pods.synced().await;
    leases.synced().await;
    let recorder = Recorder::start(shared.client.clone(), "node-controller");
    let controller = Arc::new(Controller {
        shared: shared.clone(),
        queue: queue.clone(),
        recorder,
        grace,
        renewed: Mutex::default(),
        waiting: Mutex::default(),
        registered: Mutex::default(),
    });
    let on_node = queue.clone();
    shared.nodes.listen(move |change| on_node.add(Key::of(&**change.object())));
    let on_lease = controller.clone();
    leases.listen(move |change| {
        if let Change::Applied { new: lease, .. } = change
            && lease.namespace().as_deref() == Some(LEASES)
        {
            on_lease.note(lease);
        }
    });
    // A pod that arrives on a tainted node, or whose toleration runs out.
    let (on_pod, nodes) = (queue.clone(), shared.nodes.clone());
    shared.pods.listen(move |change| {
        let Change::Applied { new: pod, .. } = change else { return };
        let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.clone()) else { return };
        let key = Key::new("", node);
        if nodes.get(&key).is_some_and(|n| taints::of(&n).any(|t| t.effect == "NoExecute")) {
            on_pod.add(key);
        }
    });
    queue.work("node-lifecycle", 4, |key| controller.clone().reconcile(key)).await;
}

impl Controller {
    /// A renewal is only worth a reconciliation if the node was silent.
    fn note(&self, lease: &Lease) {
        let name = lease.name_any();
        let stamp = lease.resource_version().unwrap_or_default();
        let now = Instant::now();
        let before = self.renewed.lock().insert(name.clone(), (stamp, now));
        if before.is_none_or(|(_, at)| now - at > self.grace) {
            self.queue.add(Key::new("", name));
        }
    }

    async fn reconcile(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(node) = self.shared.nodes.get(&key) else {
            self.renewed.lock().remove(&key.name);
            self.waiting.lock().remove(&key.name);
            let gone = self.registered.lock().remove(&key.name);
            if let Some(node) = gone {
                self.tell(node, "RemovingNode", &format!("Removing Node {} from Controller", key.name));
            }
            return Ok(());
        };
        let about = node.object_ref(&());
        if self.registered.lock().insert(key.name.clone(), about.clone()).is_none() {
            self.tell(about, "RegisteredNode", &format!("Registered Node {} in Controller", key.name));
        }
        let now = Instant::now();
        let last = {
            let mut renewed = self.renewed.lock();
            renewed.entry(key.name.clone()).or_insert_with(|| (String::new(), now)).1
        };
        let silent = now - last >= self.grace;
        let node = if silent { self.mark_unknown(node).await? } else { node };
        if silent {
            // Also when the node is known to be silent: whoever marked it may not have come this far.
            self.mark_pods_not_ready(&key.name).await?;
        } else {
            self.queue.add_after(key.clone(), self.grace.saturating_sub(now - last) + Duration::from_millis(100));
        }
        let node = self.put_taints(node).await?;
        self.evict(&key, &node).await
    }

    fn tell(&self, node: ObjectReference, reason: &str, what: &str) {
        let message = format!("Node {} event: {what}", node.name.as_deref().unwrap_or_default());
        self.recorder.record(node, Severity::Normal, reason, message);
    }

    /// All conditions that the node itself would report become Unknown.
    async fn mark_unknown(&self, node: Arc<Node>) -> Result<Arc<Node>, Error> {
        if condition(&node, "Ready") == Some("Unknown") {
            return Ok(node);
        }
        let mut changed = Node::clone(&node);
        let now = Time(Timestamp::now());
        let conditions = changed.status.get_or_insert_default().conditions.get_or_insert_default();
        for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
            let fresh = NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusUnknown".into()),
                message: Some("Kubelet stopped posting node status.".into()),
                last_transition_time: Some(now.clone()),
                last_heartbeat_time: conditions
                    .iter()
                    .find(|c| c.type_ == kind)
                    .and_then(|c| c.last_heartbeat_time.clone()),
            };
            conditions.retain(|c| c.type_ != kind);
            conditions.push(fresh);
        }
        let api: Api<Node> = Api::all(self.shared.client.clone());
        let written = api.replace_status(&node.name_any(), &PostParams::default(), &changed).await?;
        self.recorder.normal(&written, "NodeNotReady", format!("Node {} status is now: NodeNotReady", node.name_any()));
        Ok(Arc::new(written))
    }

    /// Pods of a silent node get no traffic.
    async fn mark_pods_not_ready(&self, node: &str) -> Result<(), Error> {
        for pod in self.pods_of(node).into_iter().filter(|p| pods::is_ready(p)) {
            let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [{
                "type": "Ready", "status": "False", "lastTransitionTime": Timestamp::now().strftime("%FT%TZ").to_string(),
            }]}});
            let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &pod.namespace().unwrap_or_default());
            gone_is_fine(api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await)?;
        }
        Ok(())
    }

    async fn put_taints(&self, node: Arc<Node>) -> Result<Arc<Node>, Error> {
        let wanted = taints::wanted(&node, Timestamp::now());
        let before: Vec<Taint> = taints::of(&node).cloned().collect();
        if wanted == before {
            return Ok(node);
        }
        let patch = json!({
            "metadata": {"uid": node.uid(), "resourceVersion": node.resource_version()},
            "spec": {"taints": (!wanted.is_empty()).then_some(&wanted)},
        });
        let begins = taints::evict(&wanted) && !taints::evict(&before);
        let api: Api<Node> = Api::all(self.shared.client.clone());
        let node = api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        if begins {
            counts::node_evicted(&taints::zone(&node));
        }
        Ok(Arc::new(node))
    }

    async fn evict(&self, key: &Key, node: &Node) -> Result<(), Error> {
        let effects: Vec<&Taint> = taints::of(node).filter(|t| t.effect == "NoExecute").collect();
        let waited = self.waiting.lock().remove(&key.name).unwrap_or_default();
        if effects.is_empty() {
            return Ok(());
        }
        let now = Timestamp::now();
        let mut doomed = Vec::new();
        for pod in self.pods_of(&key.name).into_iter().filter(|p| p.metadata.deletion_timestamp.is_none()) {
            let uid = pod.uid().unwrap_or_default();
            let seen = waited.get(&uid).copied().unwrap_or(now);
            match taints::leaves_at(&pod, &effects, seen, now) {
                None => {}
                Some(at) if at > now => {
                    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
                    self.queue.add_after(key.clone(), wait + Duration::from_millis(100));
                    self.waiting.lock().entry(key.name.clone()).or_default().insert(uid, seen);
                }
                Some(_) => doomed.push(pod),
            }
        }
        for pod in doomed {
            let namespace = pod.namespace().unwrap_or_default();
            let note = format!("Marking for deletion Pod {namespace}/{}", pod.name_any());
            self.recorder.normal(&*pod, "TaintManagerEviction", note);
            let words = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
            disruption_target::mark(&self.shared.client, &pod, None, Some(words)).await?;
            let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &namespace);
            let same = Preconditions { uid: pod.uid(), resource_version: None };
            gone_is_fine(api.delete(&pod.name_any(), &DeleteParams::default().preconditions(same)).await)?;
        }
        Ok(())
    }

    fn pods_of(&self, node: &str) -> Vec<Arc<Pod>> {
        let mut all = self.shared.pods.all();
        all.retain(|p| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node));
        all
    }
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind).map(|c| c.status.as_str())
}
