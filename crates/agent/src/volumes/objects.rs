//! ConfigMaps and Secrets that volumes follow: one watch an object, however many pods use it, and none when no
//! one does.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Weak},
};

use futures::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client, runtime::watcher};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::AbortHandle};

/// All followed objects of an agent.
pub struct Objects {
    client: Client,
    config_maps: Table<ConfigMap>,
    secrets: Table<Secret>,
}

impl Objects {
    /// Follows nothing yet.
    pub fn new(client: Client) -> Self {
        Self { client, config_maps: Table::default(), secrets: Table::default() }
    }

    /// Follows a ConfigMap.
    pub fn config_map(&self, namespace: &str, name: &str) -> Arc<Followed<ConfigMap>> {
        self.config_maps.follow(&self.client, namespace, name)
    }

    /// Follows a Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Arc<Followed<Secret>> {
        self.secrets.follow(&self.client, namespace, name)
    }
}

/// One object as it is now; the watch ends with the last holder.
pub struct Followed<K> {
    state: watch::Receiver<State<K>>,
    task: AbortHandle,
}

/// What is known of an object.
#[derive(Debug)]
pub enum State<K> {
    /// Nothing yet; the text of the last error, if there was one.
    Unknown(Option<String>),
    /// It does not exist.
    Absent,
    /// It does.
    Present(Arc<K>),
}

impl<K> Clone for State<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Unknown(error) => Self::Unknown(error.clone()),
            Self::Absent => Self::Absent,
            Self::Present(object) => Self::Present(Arc::clone(object)),
        }
    }
}

impl<K> Followed<K> {
    /// Waits for the first answer of the API: the object, or `None` if it does not exist.
    pub async fn now(&self) -> Result<Option<Arc<K>>, String> {
        let mut state = self.state.clone();
        let known = state.wait_for(|s| !matches!(s, State::Unknown(None))).await;
        match known.as_deref() {
            Ok(State::Present(object)) => Ok(Some(Arc::clone(object))),
            Ok(State::Absent) => Ok(None),
            Ok(State::Unknown(error)) => Err(error.clone().unwrap_or_default()),
            Err(_) => Err("the watch has ended".to_owned()),
        }
    }

    /// Changes from now on.
    pub fn changes(&self) -> watch::Receiver<State<K>> {
        let mut changes = self.state.clone();
        changes.mark_unchanged();
        changes
    }
}

impl<K> Drop for Followed<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// By namespace and name.
type Entries<K> = HashMap<(String, String), Weak<Followed<K>>>;

struct Table<K> {
    entries: Mutex<Entries<K>>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K> Table<K>
where
    K: kube::Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Hash + Eq + Clone,
{
    fn follow(&self, client: &Client, namespace: &str, name: &str) -> Arc<Followed<K>> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut entries = self.entries.lock();
        if let Some(found) = entries.get(&key).and_then(Weak::upgrade) {
            return found;
        }
        entries.retain(|_, entry| entry.strong_count() > 0);
        let (sender, state) = watch::channel(State::Unknown(None));
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        let task = tokio::spawn(run(api, name.to_owned(), sender)).abort_handle();
        let followed = Arc::new(Followed { state, task });
        entries.insert(key, Arc::downgrade(&followed));
        followed
    }
}

async fn run<K>(api: Api<K>, name: String, state: watch::Sender<State<K>>)
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let mut events = watching::one(api, &name);
    let mut listed = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed = None,
            Ok(watcher::Event::InitApply(object)) => listed = Some(object),
            Ok(watcher::Event::InitDone) => {
                state.send_replace(listed.take().map_or(State::Absent, |o| State::Present(Arc::new(o))));
            }
            Ok(watcher::Event::Apply(object)) => {
                state.send_replace(State::Present(Arc::new(object)));
            }
            Ok(watcher::Event::Delete(_)) => {
                state.send_replace(State::Absent);
            }
            Err(error) => {
                // What was known stays in force while the API can't be reached.
                state.send_if_modified(|s| match s {
                    State::Unknown(last) => {
                        *last = Some(error.to_string());
                        true
                    }
                    _ => false,
                });
            }
        }
    }
}
