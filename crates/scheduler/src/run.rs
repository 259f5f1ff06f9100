//! The loop: watches keep the snapshot and the queue true, the queue feeds the decision, and each decision
//! is bound. One task owns all state; the requests it makes run beside it.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    policy::v1::PodDisruptionBudget,
    storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass},
};
use kube::{Api, Client, Resource, runtime::watcher};
use tokio::{task::JoinSet, time};
use watching::Held;

use crate::{
    binding::{self, BindError, Outcome},
    counts::{self, Attempt, Step},
    events::{Notice, Recorder},
    eviction,
    node::NodeInfo,
    pod::PodInfo,
    preempt::{Budget, Victims, preempt},
    queue::Queue,
    schedule::schedule,
    snapshot::Snapshot,
    unschedulable::{Preemption, Unschedulable},
    usage,
    volumes::{Progress, Wait, Waiting},
};

/// Requests under way at a time.
const REQUESTS: usize = 128;
/// How long a pod's volumes may take before it is placed anew (upstream's `bindTimeoutSeconds`).
const VOLUMES: Duration = Duration::from_secs(600);

/// How the scheduler presents itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods with this `spec.schedulerName` are its own; also the reporting controller of its events.
    pub scheduler_name: String,
    /// The reporting instance of its events, usually `<scheduler name>-<host name>`.
    pub instance: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { scheduler_name: "default-scheduler".into(), instance: "default-scheduler".into() }
    }
}

/// Schedules until dropped. Errors of the API are retried, never returned.
pub async fn run(client: Client, config: Config) -> Infallible {
    counts::register();
    let _page = usage::serve(client.clone());
    let (recorder, publish) = Recorder::new(client.clone(), config.scheduler_name.clone(), config.instance.clone());
    let mut requests = JoinSet::new();
    requests.spawn(async move {
        publish.await;
        Outcome::Nothing
    });
    let mut pods = changes::<Held<Pod>>(&client);
    let mut nodes = changes::<Held<Node>>(&client);
    let mut namespaces = changes::<Namespace>(&client);
    let mut budgets = changes::<PodDisruptionBudget>(&client);
    let mut claims = changes::<PersistentVolumeClaim>(&client);
    let mut volumes = changes::<PersistentVolume>(&client);
    let mut classes = changes::<StorageClass>(&client);
    let mut limits = changes::<CSINode>(&client);
    let mut drivers = changes::<CSIDriver>(&client);
    let mut capacities = changes::<CSIStorageCapacity>(&client);
    let mut this = Scheduler {
        client,
        config,
        recorder,
        requests,
        snapshot: Snapshot::new(),
        budgets: Vec::new(),
        queue: Queue::default(),
        waiting: Waiting::default(),
        gated: HashSet::new(),
        trying: HashMap::new(),
        told: [0; 4],
        listing: Listing::default(),
        decisions: 0,
    };
    loop {
        this.tell_lengths();
        let now = Instant::now();
        // The publisher is always among the requests.
        let complete = this.listing.complete() && this.snapshot.volumes.known();
        let may_schedule = complete && this.requests.len() <= REQUESTS;
        let due =
            this.queue.due().filter(|_| may_schedule).into_iter().chain(this.waiting.0.values().map(|w| w.until)).min();
        tokio::select! {
            biased;
            Some(change) = nodes.next() => this.node_changed(change),
            // Before pods: a claim that was made for a pod is seen first.
            Some(change) = claims.next() => if this.snapshot.volumes.claims.hear(change) { this.volumes_changed() },
            Some(change) = volumes.next() => if this.snapshot.volumes.volumes.hear(change) { this.volumes_changed() },
            Some(change) = classes.next() => if this.snapshot.volumes.classes.hear(change) { this.volumes_changed() },
            Some(change) = limits.next() => if this.snapshot.volumes.limits.hear(change) { this.volumes_changed() },
            Some(change) = drivers.next() => {
                if this.snapshot.volumes.capacities.drivers.hear(change) { this.volumes_changed() }
            }
            Some(change) = capacities.next() => {
                if this.snapshot.volumes.capacities.told.hear(change) { this.volumes_changed() }
            }
            Some(change) = pods.next() => this.pod_changed(change),
            Some(change) = namespaces.next() => this.namespace_changed(change),
            Some(change) = budgets.next() => this.budget_changed(change),
            Some(done) = this.requests.join_next() => match done {
                Ok(outcome) => this.request_done(outcome),
                Err(error) => tracing::error!(%error, "a request of the scheduler panicked"),
            },
            () = std::future::ready(()), if may_schedule && this.queue.is_ready(now) => this.schedule_one(now),
            () = time::sleep_until(due.unwrap_or(now).into()), if due.is_some() => this.look_at_waiting(),
        }
    }
}

fn changes<K>(client: &Client) -> BoxStream<'static, watcher::Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let watch = watching::watch(Api::<K>::all(client.clone()), watcher::Config::default());
    let logged = watch.filter_map(|change| async {
        change.inspect_err(|error| tracing::warn!(kind = %K::kind(&()), %error, "a watch of the scheduler failed")).ok()
    });
    logged.boxed()
}

struct Scheduler {
    client: Client,
    config: Config,
    recorder: Recorder,
    /// Bindings and status patches under way, and the publisher of events.
    requests: JoinSet<Outcome>,
    snapshot: Snapshot,
    budgets: Vec<Budget>,
    queue: Queue,
    /// Pods that have a node and wait for their volumes.
    waiting: Waiting,
    /// Pods that are held back by gates.
    gated: HashSet<Arc<str>>,
    /// The attempts that are under way, by the pods' UIDs.
    trying: HashMap<Arc<str>, Trying>,
    /// What was last told of the queue's length.
    told: [usize; 4],
    listing: Listing,
    decisions: u64,
}

/// A pod that has a node in mind.
struct Trying {
    begin: Instant,
    attempts: u32,
    /// When it came into the queue.
    came: Instant,
}

/// What the lists under way have shown so far; what they don't show is gone when they end.
#[derive(Default)]
struct Listing {
    nodes: HashSet<Arc<str>>,
    pods: HashSet<Arc<str>>,
    nodes_known: bool,
    pods_known: bool,
    namespaces_known: bool,
}

impl Listing {
    fn complete(&self) -> bool {
        self.nodes_known && self.pods_known && self.namespaces_known
    }
}

impl Scheduler {
    fn node_changed(&mut self, change: watcher::Event<Held<Node>>) {
        match change {
            watcher::Event::Init => self.listing.nodes.clear(),
            watcher::Event::InitApply(node) => {
                let node = NodeInfo::new(&node);
                self.listing.nodes.insert(node.name.clone());
                self.set_node(node);
            }
            watcher::Event::InitDone => {
                let seen = std::mem::take(&mut self.listing.nodes);
                let gone: Vec<_> = self.snapshot.node_names().filter(|n| !seen.contains(*n)).cloned().collect();
                for name in gone {
                    self.snapshot.remove_node(&name);
                }
                self.listing.nodes_known = true;
            }
            watcher::Event::Apply(node) => self.set_node(NodeInfo::new(&node)),
            watcher::Event::Delete(node) => {
                self.snapshot.remove_node(node.metadata.name.as_deref().unwrap_or_default());
                // Skews and the absence of nodes are seen anew.
                self.queue.lift(Instant::now(), "NodeDelete", |blocks| blocks.lifted_by_departure());
            }
        }
    }

    fn set_node(&mut self, node: NodeInfo) {
        let change = self.snapshot.update_node(node);
        if change != crate::snapshot::NodeChange::default() {
            let event = if change.added { "NodeAdd" } else { "NodeUpdate" };
            self.queue.lift(Instant::now(), event, |blocks| blocks.lifted_by_node(change));
        }
    }

    fn pod_changed(&mut self, change: watcher::Event<Held<Pod>>) {
        match change {
            watcher::Event::Init => self.listing.pods.clear(),
            watcher::Event::InitApply(pod) => {
                let pod = PodInfo::new(&pod);
                self.listing.pods.insert(pod.uid.clone());
                if let (None, Some(node)) = (&pod.node_name, &pod.nominated)
                    && self.snapshot.nomination(&pod.uid).is_none()
                {
                    // An earlier scheduler was making room for it.
                    self.snapshot.nominate(Arc::new(pod.clone()), node);
                }
                self.set_pod(pod);
            }
            watcher::Event::InitDone => {
                let seen = std::mem::take(&mut self.listing.pods);
                let known = self.snapshot.pod_uids().chain(self.queue.uids());
                let gone: Vec<_> = known.filter(|uid| !seen.contains(*uid)).cloned().collect();
                for uid in gone {
                    self.remove_pod(&uid);
                }
                self.listing.pods_known = true;
            }
            watcher::Event::Apply(pod) => self.set_pod(PodInfo::new(&pod)),
            watcher::Event::Delete(pod) => self.remove_pod(pod.metadata.uid.as_deref().unwrap_or_default()),
        }
    }

    fn set_pod(&mut self, pod: PodInfo) {
        if pod.finished {
            return self.remove_pod(&pod.uid);
        }
        if pod.gated && *pod.scheduler_name == *self.config.scheduler_name {
            self.gated.insert(pod.uid.clone());
        } else {
            self.gated.remove(&pod.uid);
        }
        if pod.node_name.is_some() {
            self.queue.remove(&pod.uid);
            let arrived = self.snapshot.node_of(&pod.uid).is_none();
            self.snapshot.set_pod(Arc::new(pod));
            if arrived {
                self.queue.lift(Instant::now(), "AssignedPodAdd", |blocks| blocks.lifted_by_arrival());
            }
            return;
        }
        let mine = *pod.scheduler_name == *self.config.scheduler_name;
        if !mine || pod.gated || pod.terminating {
            self.queue.remove(&pod.uid);
        } else if self.snapshot.node_of(&pod.uid).is_none() {
            let before = self.queue.get(&pod.uid);
            let changed = before.is_some_and(|before| !before.asks_the_same(&pod));
            self.queue.put(Arc::new(pod), changed, Instant::now());
        }
        // Else it is assumed on a node: the binding under way decides.
    }

    fn remove_pod(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.gated.remove(uid);
        self.trying.remove(uid);
        self.snapshot.forget_nomination(uid);
        if let Some(wait) = self.waiting.0.remove(uid) {
            self.snapshot.volumes.forget(&wait.plan);
        }
        if self.snapshot.node_of(uid).is_some() {
            self.snapshot.remove_pod(uid);
            self.queue.lift(Instant::now(), "AssignedPodDelete", |blocks| blocks.lifted_by_departure());
        }
    }

    fn namespace_changed(&mut self, change: watcher::Event<Namespace>) {
        match change {
            watcher::Event::Init => {}
            watcher::Event::InitDone => self.listing.namespaces_known = true,
            watcher::Event::InitApply(namespace) | watcher::Event::Apply(namespace) => {
                let name = namespace.metadata.name.unwrap_or_default();
                self.snapshot.set_namespace(&name, namespace.metadata.labels.unwrap_or_default());
                self.queue.lift(Instant::now(), "NamespaceUpdate", |blocks| blocks.lifted_by_arrival());
            }
            watcher::Event::Delete(namespace) => {
                self.snapshot.remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
            }
        }
    }

    fn budget_changed(&mut self, change: watcher::Event<PodDisruptionBudget>) {
        match change {
            watcher::Event::Init => self.budgets.clear(),
            watcher::Event::InitDone => {}
            watcher::Event::InitApply(budget) | watcher::Event::Apply(budget) => {
                self.budgets.retain(|known| !known.is_of(&budget));
                self.budgets.extend(Budget::new(&budget));
            }
            watcher::Event::Delete(budget) => self.budgets.retain(|known| !known.is_of(&budget)),
        }
    }

    fn tell_lengths(&mut self) {
        let (active, resting, blocked) = self.queue.lengths();
        let lengths = [active, resting, blocked, self.gated.len()];
        if std::mem::replace(&mut self.told, lengths) != lengths {
            counts::pending(lengths);
        }
    }

    fn schedule_one(&mut self, now: Instant) {
        let Some(pod) = self.queue.next(now) else { return };
        self.decisions += 1;
        let decision = schedule(&pod, &self.snapshot, self.decisions);
        counts::decided(now.elapsed());
        match decision {
            Ok(placement) => {
                if let Some((attempts, came)) = self.queue.history(&pod.uid) {
                    self.trying.insert(pod.uid.clone(), Trying { begin: now, attempts, came });
                }
                let at = self.snapshot.index_of(&placement.node);
                let plan =
                    at.map(|at| self.snapshot.volumes.plan(&pod, &self.snapshot.nodes()[at])).unwrap_or_default();
                self.snapshot.assume(pod.clone(), &placement.node);
                if plan.is_empty() {
                    self.requests.spawn(binding::bind(self.client.clone(), pod, placement.node));
                    return;
                }
                self.snapshot.volumes.choose(&plan);
                let asked =
                    binding::ask_for_volumes(self.client.clone(), pod.clone(), placement.node.clone(), plan.clone());
                self.requests.spawn(asked);
                let wait = Wait { pod: pod.clone(), node: placement.node, plan, written: None, until: now + VOLUMES };
                self.waiting.0.insert(pod.uid.clone(), wait);
            }
            Err(refused) => self.refuse(pod, refused, now),
        }
    }

    fn refuse(&mut self, pod: Arc<PodInfo>, mut refused: Unschedulable, now: Instant) {
        let begin = Instant::now();
        let victims = preempt(&pod, &refused, &mut self.snapshot, &self.budgets, self.decisions);
        let status = if victims.is_ok() { "Success" } else { "Unschedulable" };
        counts::stepped(&pod, Step::PostFilter, status, begin.elapsed());
        counts::preempted(victims.as_ref().ok().map(|victims| victims.pods.len()));
        counts::attempted(&pod, Attempt::Unschedulable, now.elapsed());
        refused.preemption = match &victims {
            Ok(_) => Preemption::Underway,
            Err(why) => why.clone(),
        };
        let message = refused.to_string();
        tracing::debug!(pod = pod.full_name(), message, "no node will do");
        self.queue.blocked(&pod.uid, refused.blocks, now);
        self.tell(&pod, false, "FailedScheduling", "Scheduling", message.clone());
        self.set_condition(pod.clone(), "Unschedulable", message);
        match victims {
            Ok(victims) => self.make_room(pod, victims),
            // What was hoped for there is not to be had: others may use the room.
            Err(Preemption::Unhelpful(_)) if self.snapshot.nomination(&pod.uid).is_some() => {
                self.snapshot.forget_nomination(&pod.uid);
                let patch = eviction::nomination_patch(&pod, None);
                self.requests.spawn(binding::patch_status(self.client.clone(), pod, patch));
            }
            Err(_) => {}
        }
    }

    fn make_room(&mut self, pod: Arc<PodInfo>, victims: Victims) {
        let node = &victims.node;
        for victim in victims.pods.iter().filter(|victim| !victim.terminating) {
            let note = format!("Preempted by pod {} on node {node}", pod.uid);
            self.tell(victim, true, "Preempted", "Preempting", note);
        }
        for other in &victims.disappointed {
            self.snapshot.forget_nomination(&other.uid);
            if let Some(waiting) = self.queue.get(&other.uid).cloned() {
                self.queue.put(waiting, true, Instant::now());
            }
        }
        self.snapshot.nominate(pod.clone(), node);
        let scheduler = self.config.scheduler_name.clone();
        self.requests.spawn(eviction::make_room(self.client.clone(), scheduler, pod, victims));
    }

    fn request_done(&mut self, outcome: Outcome) {
        let now = Instant::now();
        match outcome {
            Outcome::Nothing => {}
            Outcome::Bound { pod, node } => {
                let note = format!("Successfully assigned {} to {node}", pod.full_name());
                self.tell(&pod, true, "Scheduled", "Binding", note);
                if let Some(trying) = self.trying.remove(&pod.uid) {
                    counts::attempted(&pod, Attempt::Scheduled, trying.begin.elapsed());
                    counts::bound(trying.attempts, trying.came.elapsed());
                }
                // The watch may have told already; if not, nothing else waits for it.
                self.queue.remove(&pod.uid);
            }
            Outcome::NotBound { pod, error } => self.not_bound(pod, error, now),
            Outcome::NoRoom { pod, error } => {
                tracing::warn!(pod = pod.full_name(), error, "others could not be evicted; the pod is tried again");
                self.snapshot.forget_nomination(&pod.uid);
                self.queue.failed(&pod.uid, now);
            }
            Outcome::VolumesAsked { pod, result } => self.volumes_asked(&pod, result),
        }
    }

    fn volumes_asked(&mut self, pod: &PodInfo, result: Result<HashMap<String, u64>, String>) {
        match (self.waiting.0.get_mut(&pod.uid), result) {
            (Some(wait), Ok(written)) => wait.written = Some(written),
            (Some(_), Err(why)) => return self.volumes_failed(&pod.uid, format!("binding volumes: {why}")),
            (None, _) => return,
        }
        self.look_at_waiting();
    }

    /// Something about a claim, a volume or a class is new.
    fn volumes_changed(&mut self) {
        self.queue.lift(Instant::now(), "VolumeUpdate", |blocks| blocks.lifted_by_volumes());
        self.look_at_waiting();
    }

    /// Binds the pods whose volumes are there.
    fn look_at_waiting(&mut self) {
        let now = Instant::now();
        let states: Vec<_> = self
            .waiting
            .0
            .iter()
            .map(|(uid, wait)| {
                let late = wait.until <= now;
                let progress = match wait.progress(&self.snapshot.volumes) {
                    Progress::Waiting if late => {
                        Progress::Failed("binding volumes: context deadline exceeded".to_owned())
                    }
                    other => other,
                };
                (uid.clone(), progress)
            })
            .collect();
        for (uid, progress) in states {
            match progress {
                Progress::Waiting => {}
                Progress::Failed(why) => self.volumes_failed(&uid, why),
                Progress::Bound => {
                    let Some(wait) = self.waiting.0.remove(&uid) else { continue };
                    self.snapshot.volumes.forget(&wait.plan);
                    self.requests.spawn(binding::bind(self.client.clone(), wait.pod, wait.node));
                }
            }
        }
    }

    fn volumes_failed(&mut self, uid: &str, why: String) {
        let Some(wait) = self.waiting.0.remove(uid) else { return };
        self.snapshot.volumes.forget(&wait.plan);
        self.not_bound(wait.pod, BindError::Volumes(why), Instant::now());
    }

    fn not_bound(&mut self, pod: Arc<PodInfo>, error: BindError, now: Instant) {
        if let Some(trying) = self.trying.remove(&pod.uid) {
            counts::attempted(&pod, Attempt::Error, trying.begin.elapsed());
        }
        // Whom the watch has shown on a node meanwhile stays there; who was only assumed to be there goes.
        if self.snapshot.is_assumed(&pod.uid) {
            self.snapshot.remove_pod(&pod.uid);
            self.queue.lift(now, "AssignedPodDelete", |blocks| blocks.lifted_by_departure());
        }
        // Who has gone or was given to others meanwhile is not tried again.
        if self.queue.get(&pod.uid).is_none() {
            return;
        }
        self.queue.failed(&pod.uid, now);
        let message = match error {
            // The watch will tell.
            BindError::Gone => None,
            BindError::Failed(why) => Some(format!("binding rejected: running Bind plugin \"DefaultBinder\": {why}")),
            BindError::Volumes(why) => Some(format!("running PreBind plugin \"VolumeBinding\": {why}")),
        };
        if let Some(message) = message {
            tracing::warn!(pod = pod.full_name(), message, "a binding failed; it is tried again");
            self.tell(&pod, false, "FailedScheduling", "Scheduling", message.clone());
            self.set_condition(pod, "SchedulerError", message);
        }
    }

    fn tell(&self, pod: &Arc<PodInfo>, normal: bool, reason: &'static str, action: &'static str, note: String) {
        self.recorder.tell(Notice { pod: pod.clone(), normal, reason, action, note });
    }

    fn set_condition(&mut self, pod: Arc<PodInfo>, reason: &'static str, message: String) {
        let now = jiff::Timestamp::now();
        if let Some(patch) = binding::condition_patch(&pod, reason, &message, now) {
            self.requests.spawn(binding::patch_status(self.client.clone(), pod, patch));
        }
    }
}
