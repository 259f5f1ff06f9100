//! The provisioner `hythe.dev/local`: volumes that are directories on this node's disk, or files for those of block
//! devices. It makes them for claims that
//! name it, grows them, and removes them when they are released, as upstream's external provisioner and resizer do.
//!
//! A directory has no quota of its own: a claim's size is checked against what the disk has free when the volume is
//! made and when it grows.

pub mod block;
mod grow;
mod provision;
mod remove;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use recording::Recorder;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// A failed step is tried again after this long at first, and after twice as long each time.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Why a step failed, in the words of its event.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// The API refused or could not be reached.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The disk did.
    #[error("{0}")]
    Disk(#[from] std::io::Error),
    /// The claim asks for what can't be had.
    #[error("{0}")]
    Claim(String),
}

/// What is to be looked at again: a claim, or (without a namespace) a volume.
type Key = (String, String);

/// One node's provisioner.
struct Local {
    context: Arc<Context>,
    recorder: Recorder,
}

/// Works until `stop`.
pub async fn run(context: Arc<Context>, stop: CancellationToken) {
    let name = format!("{}_{}", claims::LOCAL_PROVISIONER, context.config.node_name);
    let recorder = Recorder::start(context.client.clone(), &name);
    let local = Arc::new(Local { context, recorder });
    let client = &local.context.client;
    let config = watcher::Config::default;
    let all: Api<PersistentVolumeClaim> = Api::all(client.clone());
    let mut claims = watching::watch(all, config()).touched_objects();
    let all: Api<PersistentVolume> = Api::all(client.clone());
    let mut volumes = watching::watch(all, config()).touched_objects();
    let mut work = Work::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(event) = claims.next() => if let Ok(claim) = event {
                local.context.storage.send_modify(|n| *n += 1);
                if local.concerns(&claim) {
                    work.look_at(&local, (claim.namespace().unwrap_or_default(), claim.name_any()));
                }
            },
            Some(event) = volumes.next() => if let Ok(volume) = event {
                local.context.storage.send_modify(|n| *n += 1);
                if local.owns(&volume) {
                    work.look_at(&local, (String::new(), volume.name_any()));
                }
            },
            Some(done) = work.tasks.join_next(), if !work.tasks.is_empty() => if let Ok(key) = done {
                work.done(&local, key);
            },
        }
    }
}

/// One task a key; a change meanwhile makes another.
#[derive(Default)]
struct Work {
    tasks: JoinSet<Key>,
    /// With what ends a rest.
    running: HashMap<Key, Arc<Notify>>,
    again: HashSet<Key>,
}

impl Work {
    fn look_at(&mut self, local: &Arc<Local>, key: Key) {
        if let Some(changed) = self.running.get(&key) {
            changed.notify_one();
            self.again.insert(key);
            return;
        }
        let (local, changed) = (local.clone(), Arc::new(Notify::new()));
        self.running.insert(key.clone(), changed.clone());
        self.tasks.spawn(async move {
            let mut rest = FIRST_REST;
            while let Err(fault) = local.see_to(&key).await {
                tracing::debug!(claim = %key.1, %fault, "a local volume has to wait");
                let _ = tokio::time::timeout(rest, changed.notified()).await;
                rest = (rest * 2).min(LONGEST_REST);
            }
            key
        });
    }

    fn done(&mut self, local: &Arc<Local>, key: Key) {
        self.running.remove(&key);
        if self.again.remove(&key) {
            self.look_at(local, key);
        }
    }
}

impl Local {
    async fn see_to(&self, (namespace, name): &Key) -> Result<(), Fault> {
        if namespace.is_empty() {
            return match self.volumes().get_opt(name).await? {
                Some(volume) if self.owns(&volume) => self.see_to_volume(&volume).await,
                _ => Ok(()),
            };
        }
        match self.claims(namespace).get_opt(name).await? {
            Some(claim) if !self.concerns(&claim) => Ok(()),
            Some(claim) if claims::volume_name(&claim).is_empty() => self.provision(&claim).await,
            Some(claim) => self.grow(&claim).await,
            None => Ok(()),
        }
    }

    /// Whether the claim may be one to make or grow a volume for.
    fn concerns(&self, claim: &PersistentVolumeClaim) -> bool {
        if claims::annotation(claim, claims::STORAGE_PROVISIONER) != Some(claims::LOCAL_PROVISIONER) {
            return false;
        }
        if claims::volume_name(claim).is_empty() {
            let node = claims::annotation(claim, claims::SELECTED_NODE);
            return claim.metadata.deletion_timestamp.is_none()
                && node.is_none_or(|node| node == self.context.config.node_name);
        }
        grow::wants_more(claim)
    }

    /// Whether the volume is one of this node's.
    fn owns(&self, volume: &PersistentVolume) -> bool {
        let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), self.context.config.node_name.clone())]);
        claims::volume_annotation(volume, claims::PROVISIONED_BY) == Some(claims::LOCAL_PROVISIONER)
            && claims::reaches(volume, &self.context.config.node_name, &labels)
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.context.client.clone())
    }

    fn claims(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    /// Where the volumes are.
    fn root(&self) -> PathBuf {
        block::volumes(self.context.data_dir())
    }

    /// Bytes that the disk has free.
    fn free(&self) -> Result<i64, Fault> {
        let root = self.root();
        std::fs::create_dir_all(&root)?;
        let (_, free, _, _) = crate::node::storage(&root).ok_or_else(std::io::Error::last_os_error)?;
        Ok(free)
    }
}

/// The only kind of map that Kubernetes' objects have.
fn quantity_list(bytes: &str) -> HashMap<&'static str, &str> {
    HashMap::from([("storage", bytes)])
}
