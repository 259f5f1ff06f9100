//! Watches the pods of this node and keeps one actor for each.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    path::{Path, PathBuf},
    sync::Arc,
};

use engine::SandboxStatus;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, runtime::watcher};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use watching::Held;

use super::{
    actor::{Actor, Eviction, Message, PodView, remove_mirror},
    admission::{self, Offer, Refusal},
    known::{Known, Pods},
    record::{Left, PodRecord},
};
use crate::{
    context::Context,
    csi,
    local_storage::block,
    logs::links,
    node::{SHUTTING_DOWN, eviction},
    static_pods::{self, CONFIG_MIRROR},
    volumes::{self, remove_tree},
};

/// What becomes of a pod that is new to the node.
enum Admission {
    Taken,
    Refused(Refusal),
    /// It is critical: these go first.
    Waits(Vec<String>),
}

struct Handle {
    outbox: mpsc::UnboundedSender<Message>,
}

/// Runs until `stop`; the containers run on.
pub async fn run(context: Arc<Context>, pods: Pods, stop: CancellationToken) {
    let (finished_sender, mut finished) = mpsc::unbounded_channel::<String>();
    let (room_sender, mut room_made) = mpsc::unbounded_channel::<String>();
    let mut dispatcher = Dispatcher {
        found: sandboxes_by_pod(&context).await,
        context: Arc::clone(&context),
        pods,
        actors: HashMap::new(),
        listing: None,
        adopted: false,
        finished: finished_sender,
        making_room: HashMap::new(),
        statics: HashMap::new(),
        next_statics: HashMap::new(),
        room_made: room_sender,
        tasks: tokio::task::JoinSet::new(),
    };
    let api: Api<Held<Pod>> = Api::all(context.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", context.config.node_name));
    let mut events = watching::watch(api, config);
    let mut manifests =
        context.config.manifests.clone().map(|dir| static_pods::follow(dir, context.config.node_name.clone()));
    if manifests.is_some() {
        // Before the API is asked: these need none.
        let set = next(&mut manifests).await;
        dispatcher.declare(set).await;
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(uid) = finished.recv() => dispatcher.forget(&uid).await,
            Some(uid) = room_made.recv() => {
                if let Some(pod) = dispatcher.making_room.remove(&uid) {
                    dispatcher.apply(pod).await;
                }
            }
            set = next(&mut manifests) => dispatcher.declare(set).await,
            Some(_) = dispatcher.tasks.join_next(), if !dispatcher.tasks.is_empty() => {}
            event = events.next() => match event {
                Some(Ok(event)) => dispatcher.hear(event).await,
                // The watcher goes on by itself; what is known stays in force.
                Some(Err(error)) => tracing::debug!(%error, "the watch of pods was interrupted"),
                None => break,
            }
        }
    }
    // Actors end here and now: the next agent finds everything in the runtime and in their records.
    dispatcher.tasks.abort_all();
}

/// The next set of static pods; never, if there is no directory of them (any more).
async fn next(manifests: &mut Option<mpsc::Receiver<static_pods::Declared>>) -> static_pods::Declared {
    match manifests {
        Some(sets) => match sets.recv().await {
            Some(set) => set,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

struct Dispatcher {
    context: Arc<Context>,
    pods: Pods,
    actors: HashMap<String, Handle>,
    found: HashMap<String, Vec<SandboxStatus>>,
    listing: Option<HashSet<String>>,
    adopted: bool,
    finished: mpsc::UnboundedSender<String>,
    /// Critical pods that wait until others have left.
    making_room: HashMap<String, Arc<Pod>>,
    /// Static pods on the node, by `NAMESPACE/NAME`, and those that wait for the end of one of that name.
    statics: HashMap<String, Arc<Pod>>,
    next_statics: HashMap<String, Arc<Pod>>,
    room_made: mpsc::UnboundedSender<String>,
    tasks: tokio::task::JoinSet<()>,
}

impl Dispatcher {
    async fn hear(&mut self, event: watcher::Event<Held<Pod>>) {
        match event {
            watcher::Event::Init => self.listing = Some(HashSet::new()),
            watcher::Event::InitApply(pod) => {
                if let (Some(listing), Some(uid)) = (&mut self.listing, &pod.metadata.uid) {
                    listing.insert(uid.clone());
                    // The mirrors of static pods go by their names.
                    listing.insert(key_of(&pod));
                }
                self.apply(pod.shared()).await;
            }
            watcher::Event::InitDone => {
                let Some(listed) = self.listing.take() else { return };
                for (key, pod) in &self.statics {
                    let actor = pod.metadata.uid.as_ref().and_then(|uid| self.actors.get(uid));
                    if let Some(actor) = actor.filter(|_| !listed.contains(key)) {
                        let _ = actor.outbox.send(Message::MirrorGone(None));
                    }
                }
                let is_static = |uid: &String| self.statics.values().any(|p| p.metadata.uid.as_ref() == Some(uid));
                for (uid, actor) in &self.actors {
                    if !listed.contains(uid) && !is_static(uid) {
                        let _ = actor.outbox.send(Message::Gone);
                    }
                }
                if !std::mem::replace(&mut self.adopted, true) {
                    self.clear_orphans().await;
                }
            }
            watcher::Event::Apply(pod) => self.apply(pod.shared()).await,
            watcher::Event::Delete(pod) if is_mirror(&pod) => {
                if let Some(actor) = self.static_actor(&key_of(&pod)) {
                    let _ = actor.outbox.send(Message::MirrorGone(pod.metadata.uid.clone()));
                }
            }
            watcher::Event::Delete(pod) => {
                if let Some(uid) = &pod.metadata.uid {
                    self.making_room.remove(uid);
                }
                if let Some(actor) = pod.metadata.uid.as_ref().and_then(|uid| self.actors.get(uid)) {
                    let _ = actor.outbox.send(Message::Gone);
                }
            }
        }
    }

    async fn apply(&mut self, pod: Arc<Pod>) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        if is_mirror(&pod) {
            self.mirror(pod);
            return;
        }
        if let Some(actor) = self.actors.get(&uid) {
            let _ = actor.outbox.send(Message::Pod(pod));
            return;
        }
        if let Some(waiting) = self.making_room.get_mut(&uid) {
            *waiting = pod;
            return;
        }
        let record = PodRecord::load(&self.context.paths(&pod).record()).filter(|r| r.uid == uid);
        let left = Left { sandbox: self.newest_sandbox(&uid), record };
        let refusal = if left.is_nothing() {
            match self.admit(&pod).await {
                Admission::Taken => None,
                Admission::Refused(refusal) => Some(refusal),
                Admission::Waits(victims) => {
                    self.make_room(uid, pod, victims);
                    return;
                }
            }
        } else {
            None
        };
        self.take(uid, pod, left, refusal);
    }

    fn take(&mut self, uid: String, pod: Arc<Pod>, left: Left, refusal: Option<Refusal>) {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let (sender, view) = watch::channel(Arc::new(PodView {
            pod: Arc::clone(&pod),
            sandbox: None,
            containers: Vec::new(),
            failed: refusal.is_some(),
            whole: None,
        }));
        self.pods.views.write().insert(uid.clone(), Known { view, outbox: outbox.clone() });
        let actor = Actor::new(Arc::clone(&self.context), pod, left, refusal, (outbox.clone(), inbox), sender);
        self.actors.insert(uid.clone(), Handle { outbox });
        let (finished, life) = (self.finished.clone(), Box::pin(actor.run()));
        self.tasks.spawn(async move {
            life.await;
            let _ = finished.send(uid);
        });
    }

    /// Whether the node takes a pod that has never been here.
    async fn admit(&self, pod: &Pod) -> Admission {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        if pod.metadata.deletion_timestamp.is_some() || !matches!(phase, None | Some("" | "Pending")) {
            return Admission::Taken;
        }
        if self.context.health.borrow().not_ready == Some(SHUTTING_DOWN) {
            let message = "Pod was rejected as the node is shutting down.".to_owned();
            return Admission::Refused(Refusal { reason: "NodeShutdown", message });
        }
        if let Some(message) = eviction::refusal(pod, *self.context.health.borrow()) {
            return Admission::Refused(Refusal { reason: "Evicted", message });
        }
        // What the others were granted matters to a pod that asks for something.
        let asks = admission::asks(pod);
        let granted = |view: Arc<PodView>| if asks { view.granted() } else { Arc::clone(&view.pod) };
        let others: Vec<_> = self.pods.all().into_iter().filter(|v| !v.failed).map(granted).collect();
        let node = if admission::selects_node(pod) {
            let api: Api<Node> = Api::all(self.context.client.clone());
            api.get(&self.context.config.node_name).await.ok()
        } else {
            None
        };
        let offer = Offer {
            name: &self.context.config.node_name,
            allocatable: self.context.machine.allocatable(),
            pods: i64::from(self.context.config.max_pods),
            node: node.as_ref(),
            unsafe_sysctls: &self.context.config.unsafe_sysctls,
        };
        let Some(refusal) = admission::check(pod, &others, &offer) else {
            return match self.context.devices.reserve(pod).await {
                Ok(()) => Admission::Taken,
                Err(message) => Admission::Refused(Refusal { reason: "UnexpectedAdmissionError", message }),
            };
        };
        if admission::lacks_resources(&refusal)
            && eviction::is_critical(pod)
            && let Some(victims) = admission::victims(pod, &others, &offer)
        {
            let uid = |i: usize| others[i].metadata.uid.clone().unwrap_or_default();
            return Admission::Waits(victims.into_iter().map(uid).collect());
        }
        Admission::Refused(refusal)
    }

    /// Ends pods for one that is critical, which is looked at again when they are gone.
    fn make_room(&mut self, uid: String, pod: Arc<Pod>, victims: Vec<String>) {
        self.making_room.insert(uid.clone(), pod);
        let (pods, again) = (self.pods.clone(), self.room_made.clone());
        self.tasks.spawn(async move {
            for victim in &victims {
                let message = "Preempted in order to admit critical pod".to_owned();
                let annotations = BTreeMap::new();
                let eviction = Eviction { reason: "Preempting", message, annotations, grace: None, disrupts: true };
                pods.evict(victim, eviction);
            }
            for victim in victims {
                if let Some(mut view) = pods.follow(&victim) {
                    // An actor that is gone has left the node, too.
                    let _ = view.wait_for(|v| v.failed && v.sandbox.is_none()).await;
                }
            }
            let _ = again.send(uid);
        });
    }

    fn static_actor(&self, key: &str) -> Option<&Handle> {
        self.actors.get(self.statics.get(key)?.metadata.uid.as_ref()?)
    }

    /// Hears of a static pod's mirror; one that mirrors nothing is removed.
    fn mirror(&mut self, mirror: Arc<Pod>) {
        let key = key_of(&mirror);
        if let Some(actor) = self.static_actor(&key) {
            let _ = actor.outbox.send(Message::Mirror(mirror));
            return;
        }
        let client = self.context.client.clone();
        self.tasks.spawn(async move {
            let api = Api::namespaced(client, mirror.metadata.namespace.as_deref().unwrap_or("default"));
            if let Err(error) = remove_mirror(&api, &mirror).await {
                tracing::debug!(pod = key, error, "the mirror of a static pod that is gone could not be removed");
            }
        });
    }

    /// Takes over another set of static pods.
    async fn declare(&mut self, set: static_pods::Declared) {
        for (key, old) in &self.statics {
            let new = set.get(key);
            if new.is_some_and(|new| new.metadata.uid == old.metadata.uid) {
                self.next_statics.remove(key);
                continue;
            }
            match new {
                Some(new) => drop(self.next_statics.insert(key.clone(), Arc::clone(new))),
                None => drop(self.next_statics.remove(key)),
            }
            if let Some(actor) = self.static_actor(key) {
                let _ = actor.outbox.send(Message::Pod(Arc::new(deleted(old))));
            }
        }
        for (key, pod) in set {
            if let Entry::Vacant(place) = self.statics.entry(key) {
                place.insert(Arc::clone(&pod));
                self.apply(pod).await;
            }
        }
    }

    async fn forget(&mut self, uid: &str) {
        let ended =
            self.statics.iter().find(|(_, p)| p.metadata.uid.as_deref() == Some(uid)).map(|(key, _)| key.clone());
        self.actors.remove(uid);
        self.pods.views.write().remove(uid);
        self.context.probes.forget(uid);
        self.context.room.send_modify(|n| *n += 1);
        if let Some(key) = ended {
            self.statics.remove(&key);
            if let Some(next) = self.next_statics.remove(&key) {
                self.statics.insert(key, Arc::clone(&next));
                self.apply(next).await;
            }
        }
    }

    /// The sandbox the pod had last; older ones are ended.
    fn newest_sandbox(&mut self, uid: &str) -> Option<SandboxStatus> {
        let mut all = self.found.remove(uid)?;
        all.sort_by_key(|s| s.created_at);
        let newest = all.pop();
        for old in all {
            let context = Arc::clone(&self.context);
            tokio::spawn(async move { context.runtime.destroy_sandbox(&old.id).await });
        }
        newest
    }

    /// Removes what belongs to pods that were deleted while no agent ran. What is an orphan is decided here, before
    /// any further pod is taken on: judged later, the first things of a new pod would be taken for an old one's.
    async fn clear_orphans(&mut self) {
        let orphans: Vec<SandboxStatus> = self.found.drain().flat_map(|(_, sandboxes)| sandboxes).collect();
        let live: HashSet<String> = self.actors.keys().cloned().collect();
        let context = Arc::clone(&self.context);
        let directories = entries_but(&context.data_dir().join("pods"), &live);
        let secrets = context.config.secrets_dir.as_deref().map(|dir| entries_but(dir, &live)).unwrap_or_default();
        if let Some(ids) = &context.ids {
            // Other holders than pods begin with an underscore.
            ids.keep_only(|holder| holder.starts_with('_') || live.contains(holder));
        }
        if let Err(error) = context.network.keep_only(live.into_iter().collect()).await {
            tracing::warn!(%error, "the networks of earlier pods could not be removed");
        }
        tokio::spawn(async move {
            for sandbox in orphans {
                tracing::info!(sandbox = sandbox.id, "ending the sandbox of a pod that is gone");
                if let Err(error) = context.runtime.destroy_sandbox(&sandbox.id).await {
                    tracing::warn!(sandbox = sandbox.id, %error, "a sandbox could not be removed");
                }
            }
            clear_secrets(&secrets);
            clear_directories(&context, directories).await;
        });
    }
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(CONFIG_MIRROR))
}

/// `NAMESPACE/NAME`
fn key_of(pod: &Pod) -> String {
    let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// A static pod whose end is wanted, as the API would mark it.
pub fn deleted(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
    pod.metadata.deletion_grace_period_seconds = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    pod
}

/// What a directory holds beside what is named after a live pod: names and paths.
fn entries_but(dir: &Path, live: &HashSet<String>) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    named.filter(|(name, _)| !live.contains(name)).collect()
}

/// Volumes whose driver is not there yet are waited for.
async fn clear_directories(context: &Arc<Context>, mut orphans: Vec<(String, PathBuf)>) {
    let mut rest = volumes::FIRST_REST;
    while !orphans.is_empty() {
        let mut left = Vec::new();
        for (uid, path) in orphans {
            match csi::unpublish_all(context, &path).await {
                Ok(()) => clear_directory(context, &uid, &path).await,
                Err(error) => {
                    tracing::warn!(path = %path.display(), error, "volumes of a pod that is gone are still mounted");
                    left.push((uid, path));
                }
            }
        }
        orphans = left;
        if !orphans.is_empty() {
            context.csi.rest(rest).await;
            rest = (rest * 2).min(volumes::LONGEST_REST);
        }
    }
}

async fn clear_directory(context: &Context, uid: &str, path: &Path) {
    if let Some(record) = PodRecord::load(&path.join("record.json")) {
        for container in &record.containers {
            let attempts = container.restart_count.saturating_sub(1)..=container.restart_count.saturating_add(1);
            for attempt in attempts {
                let _ = context.images.remove_root(&super::prepare::root_id(uid, &container.name, attempt)).await;
            }
        }
        let places = &context.config.logs;
        let logs = places.of_pod(&record.namespace, &record.name, uid);
        let _ = remove_tree(&logs);
        links::drop_dead(places.links.as_deref(), &logs);
    }
    let (root, holder) = (context.data_dir().to_owned(), uid.to_owned());
    let released = tokio::task::spawn_blocking(move || block::release(&root, &holder)).await;
    if let Ok(Err(error)) = released {
        tracing::warn!(path = %path.display(), %error, "block devices of a pod that is gone are still bound");
    }
    let of_images = path.join("volumes").join(format!("kubernetes.io~{}", volumes::IMAGE));
    for entry in std::fs::read_dir(of_images).into_iter().flatten().flatten() {
        let volume = entry.file_name();
        let id = super::prepare::image_volume_id(uid, &volume.to_string_lossy());
        let _ = context.images.remove_root(&id).await;
    }
    if let Err(error) = remove_tree(path) {
        tracing::warn!(path = %path.display(), %error, "an orphaned pod directory could not be removed");
    }
}

fn clear_secrets(orphans: &[(String, PathBuf)]) {
    for (_, path) in orphans {
        if let Err(error) = remove_tree(path) {
            tracing::warn!(path = %path.display(), %error, "the secrets of a pod that is gone could not be removed");
        }
    }
}

async fn sandboxes_by_pod(context: &Context) -> HashMap<String, Vec<SandboxStatus>> {
    let mut out: HashMap<String, Vec<SandboxStatus>> = HashMap::new();
    match context.runtime.sandboxes().await {
        Ok(all) => {
            for sandbox in all {
                if let Some((uid, _)) = sandbox.id.rsplit_once('.') {
                    out.entry(uid.to_owned()).or_default().push(sandbox);
                }
            }
        }
        Err(error) => {
            tracing::error!(%error, "the runtime does not tell what runs; pods are started as if nothing did")
        }
    }
    out
}
