//! A shared cache of all objects of a kind, kept by one watch, that tells its listeners of every change.

mod objects;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::StreamExt;
use kube::{Api, Client, Resource, ResourceExt, runtime::watcher};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinSet};
use watching::Held;

use crate::queue::Key;
use objects::Objects;

/// What happened to an object.
pub enum Change<'a, K> {
    /// It is new, or it changed from `old`.
    Applied {
        /// As it was.
        old: Option<&'a Arc<K>>,
        /// As it is.
        new: &'a Arc<K>,
    },
    /// It is gone; this is its last known state.
    Deleted(&'a Arc<K>),
}

impl<'a, K> Change<'a, K> {
    /// The object as it is or was last.
    pub fn object(&self) -> &'a Arc<K> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted(object) => object,
        }
    }

    /// Both states.
    pub fn states(&self) -> impl Iterator<Item = &'a Arc<K>> {
        let (one, two) = match self {
            Self::Applied { old, new } => (*old, Some(*new)),
            Self::Deleted(object) => (None, Some(*object)),
        };
        one.into_iter().chain(two)
    }
}

type Listener<K> = Box<dyn Fn(Change<'_, K>) + Send + Sync>;

struct State<K> {
    objects: RwLock<Objects<K>>,
    listeners: RwLock<Vec<Listener<K>>>,
    /// The newest resourceVersion seen (they are comparable: KEP-5504).
    seen: AtomicU64,
    /// The newest resourceVersion that someone waits for.
    awaited: AtomicU64,
    synced: watch::Sender<bool>,
}

/// The cache. Cheap to clone.
pub struct Informer<K> {
    state: Arc<State<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

/// Drops what no controller reads but every object carries.
pub fn untouched<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

impl<K> Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Begins to watch the kind in all namespaces; `trim` drops what nobody reads, to save memory.
    pub fn start(client: Client, trim: fn(&mut K), tasks: &mut JoinSet<()>) -> Self {
        Self::start_labelled(client, None, trim, tasks)
    }

    /// The same of the objects that a label selector selects.
    pub fn start_labelled(client: Client, selector: Option<String>, trim: fn(&mut K), tasks: &mut JoinSet<()>) -> Self {
        let state = Arc::new(State {
            objects: RwLock::default(),
            listeners: RwLock::default(),
            seen: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            synced: watch::Sender::new(false),
        });
        let informer = Self { state: state.clone() };
        tasks.spawn(async move {
            let api: Api<Held<K>> = Api::all(client);
            state.follow(api, selector, trim).await;
        });
        informer
    }

    /// Calls `listener` on every change from now on; list first what is there already with [`Informer::all`].
    /// It must not block.
    pub fn listen(&self, listener: impl Fn(Change<'_, K>) + Send + Sync + 'static) {
        // What is there already counts as a change, so that no listener starts blind.
        let objects = self.state.objects.read();
        for (_, object) in objects.iter() {
            listener(Change::Applied { old: None, new: object });
        }
        self.state.listeners.write().push(Box::new(listener));
    }

    /// Waits for the first complete list.
    pub async fn synced(&self) {
        // The sender lives in the state that we hold, so this can't fail.
        let _ = self.state.synced.subscribe().wait_for(|done| *done).await;
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.state.objects.read().get(key).cloned()
    }

    /// The objects of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.state.objects.read().in_namespace(namespace).cloned().collect()
    }

    /// The objects whose controller has this UID.
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.state.objects.read().controlled_by(uid)
    }

    /// The objects of a namespace that nobody controls.
    pub fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        self.state.objects.read().orphans(namespace)
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.state.objects.read().iter().map(|(_, object)| object.clone()).collect()
    }

    /// Someone is going to ask whether the cache [has seen](Self::has_seen) the write with this version.
    pub fn awaits(&self, version: u64) {
        self.state.awaited.fetch_max(version, Ordering::AcqRel);
    }

    /// Whether the cache has got as far as the write that returned `object`.
    pub fn has_seen(&self, version: u64) -> bool {
        self.state.seen.load(Ordering::Acquire) >= version
    }
}

impl<K> State<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Lists and watches for ever.
    async fn follow(&self, api: Api<Held<K>>, selector: Option<String>, trim: fn(&mut K)) {
        let config = watcher::Config { label_selector: selector, ..Default::default() };
        let mut events = watching::watch(api, config);
        let mut fresh: BTreeMap<Key, Arc<K>> = BTreeMap::new();
        // A complete list shows all that was written before it began, even what is gone again by then.
        let mut shown = 0;
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => {
                    fresh.clear();
                    shown = self.awaited.load(Ordering::Acquire);
                }
                Ok(watcher::Event::InitApply(mut object)) => {
                    trim(object.to_mut());
                    fresh.insert(Key::of(&*object), object.shared());
                }
                Ok(watcher::Event::InitDone) => self.replace(std::mem::take(&mut fresh), shown),
                Ok(watcher::Event::Apply(mut object)) => {
                    trim(object.to_mut());
                    self.apply(object.shared());
                }
                Ok(watcher::Event::Delete(object)) => self.delete(object.shared()),
                // An error says nothing about objects: the cache stays as it is until the next list.
                Err(error) => tracing::debug!(kind = %K::kind(&()), %error, "watch interrupted"),
            }
        }
    }
}

impl<K: Resource<DynamicType = ()>> State<K> {
    /// `shown` is the newest version that the list is known to reflect besides those of its objects.
    fn replace(&self, fresh: BTreeMap<Key, Arc<K>>, shown: u64) {
        let mut objects = Objects::default();
        for object in fresh.values() {
            objects.insert(object.clone());
        }
        let before = std::mem::replace(&mut *self.objects.write(), objects);
        self.seen.fetch_max(shown, Ordering::AcqRel);
        for (key, object) in &fresh {
            let old = before.get(key);
            self.note(object);
            if old.is_none_or(|o| o.resource_version() != object.resource_version()) {
                self.tell(|| Change::Applied { old, new: object });
            }
        }
        for (_, object) in before.iter().filter(|(key, _)| !fresh.contains_key(key)) {
            self.tell(|| Change::Deleted(object));
        }
        self.synced.send_replace(true);
    }

    fn apply(&self, object: Arc<K>) {
        let old = self.objects.write().insert(object.clone());
        self.note(&object);
        self.tell(|| Change::Applied { old: old.as_ref(), new: &object });
    }

    fn delete(&self, object: Arc<K>) {
        self.objects.write().remove(&Key::of(&*object));
        self.note(&object);
        self.tell(|| Change::Deleted(&object));
    }

    fn note(&self, object: &K) {
        self.seen.fetch_max(version(object), Ordering::AcqRel);
    }

    fn tell<'a>(&self, change: impl Fn() -> Change<'a, K>)
    where
        K: 'a,
    {
        for listener in self.listeners.read().iter() {
            listener(change());
        }
    }
}

/// The resourceVersion as a number; 0 for what has none.
pub fn version(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}
