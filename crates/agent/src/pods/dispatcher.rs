//! Watches the pods of this node and keeps one actor for each.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use engine::SandboxStatus;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    actor::{Actor, Message, PodView},
    admission::{self, Offer, Refusal},
    record::PodRecord,
};
use crate::{context::Context, volumes::remove_tree};

/// The pods of this node as other parts of the agent see them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pods {
    views: Arc<RwLock<HashMap<String, watch::Receiver<Arc<PodView>>>>>,
}

impl Pods {
    /// The pod of that name that is not about to go, if there are two.
    pub fn named(&self, namespace: &str, name: &str) -> Option<Arc<PodView>> {
        let views = self.views.read();
        let mut found = None;
        for view in views.values() {
            let view = Arc::clone(&view.borrow());
            let meta = &view.pod.metadata;
            if meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name) {
                let live = meta.deletion_timestamp.is_none();
                found = Some(view);
                if live {
                    break;
                }
            }
        }
        found
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<PodView>> {
        self.views.read().values().map(|v| Arc::clone(&v.borrow())).collect()
    }

    /// Follows one pod's changes.
    pub fn follow(&self, uid: &str) -> Option<watch::Receiver<Arc<PodView>>> {
        self.views.read().get(uid).cloned()
    }
}

struct Handle {
    outbox: mpsc::UnboundedSender<Message>,
}

/// Runs until `stop`; the containers run on.
pub async fn run(context: Arc<Context>, pods: Pods, stop: CancellationToken) {
    let (finished_sender, mut finished) = mpsc::unbounded_channel::<String>();
    let mut dispatcher = Dispatcher {
        found: sandboxes_by_pod(&context).await,
        context: Arc::clone(&context),
        pods,
        actors: HashMap::new(),
        listing: None,
        adopted: false,
        finished: finished_sender,
        tasks: tokio::task::JoinSet::new(),
    };
    let api: Api<Pod> = Api::all(context.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", context.config.node_name));
    let mut events = watcher(api, config).default_backoff().boxed();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(uid) = finished.recv() => dispatcher.forget(&uid),
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

struct Dispatcher {
    context: Arc<Context>,
    pods: Pods,
    actors: HashMap<String, Handle>,
    found: HashMap<String, Vec<SandboxStatus>>,
    listing: Option<HashSet<String>>,
    adopted: bool,
    finished: mpsc::UnboundedSender<String>,
    tasks: tokio::task::JoinSet<()>,
}

impl Dispatcher {
    async fn hear(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listing = Some(HashSet::new()),
            watcher::Event::InitApply(pod) => {
                if let (Some(listing), Some(uid)) = (&mut self.listing, &pod.metadata.uid) {
                    listing.insert(uid.clone());
                }
                self.apply(pod).await;
            }
            watcher::Event::InitDone => {
                let Some(listed) = self.listing.take() else { return };
                for (uid, actor) in &self.actors {
                    if !listed.contains(uid) {
                        let _ = actor.outbox.send(Message::Gone);
                    }
                }
                if !std::mem::replace(&mut self.adopted, true) {
                    self.clear_orphans().await;
                }
            }
            watcher::Event::Apply(pod) => self.apply(pod).await,
            watcher::Event::Delete(pod) => {
                if let Some(actor) = pod.metadata.uid.as_ref().and_then(|uid| self.actors.get(uid)) {
                    let _ = actor.outbox.send(Message::Gone);
                }
            }
        }
    }

    async fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let pod = Arc::new(pod);
        if let Some(actor) = self.actors.get(&uid) {
            let _ = actor.outbox.send(Message::Pod(pod));
            return;
        }
        let found = self.newest_sandbox(&uid);
        let refusal = if found.is_none() { self.refusal(&pod).await } else { None };
        let (outbox, inbox) = mpsc::unbounded_channel();
        let (sender, view) = watch::channel(Arc::new(PodView {
            pod: Arc::clone(&pod),
            sandbox: None,
            containers: Vec::new(),
            failed: refusal.is_some(),
        }));
        self.pods.views.write().insert(uid.clone(), view);
        let actor = Actor::new(Arc::clone(&self.context), pod, found, refusal, (outbox.clone(), inbox), sender);
        self.actors.insert(uid.clone(), Handle { outbox });
        let finished = self.finished.clone();
        self.tasks.spawn(async move {
            actor.run().await;
            let _ = finished.send(uid);
        });
    }

    /// Why the node can't take a pod that has never been here.
    async fn refusal(&self, pod: &Pod) -> Option<Refusal> {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let known = self.context.paths(pod).record().exists();
        if known || pod.metadata.deletion_timestamp.is_some() || !matches!(phase, None | Some("" | "Pending")) {
            return None;
        }
        let others: Vec<_> = self.pods.all().into_iter().filter(|v| !v.failed).map(|v| Arc::clone(&v.pod)).collect();
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
        };
        admission::check(pod, &others, &offer)
    }

    fn forget(&mut self, uid: &str) {
        self.actors.remove(uid);
        self.pods.views.write().remove(uid);
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
            clear_directories(&context, &directories).await;
            clear_secrets(&secrets);
        });
    }
}

/// What a directory holds beside what is named after a live pod: names and paths.
fn entries_but(dir: &Path, live: &HashSet<String>) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    named.filter(|(name, _)| !live.contains(name)).collect()
}

async fn clear_directories(context: &Context, orphans: &[(String, PathBuf)]) {
    for (uid, path) in orphans {
        if let Some(record) = PodRecord::load(&path.join("record.json")) {
            for container in &record.containers {
                let attempts = container.restart_count.saturating_sub(1)..=container.restart_count.saturating_add(1);
                for attempt in attempts {
                    let _ = context.images.remove_root(&super::prepare::root_id(uid, &container.name, attempt)).await;
                }
            }
            let logs = context.data_dir().join("log/pods").join(format!("{}_{}_{uid}", record.namespace, record.name));
            let _ = remove_tree(&logs);
        }
        if let Err(error) = remove_tree(path) {
            tracing::warn!(path = %path.display(), %error, "an orphaned pod directory could not be removed");
        }
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
