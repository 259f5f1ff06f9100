//! Events go an hour after they were last seen.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PartialObjectMeta},
    runtime::watcher,
};
use tokio::time::{Instant, sleep_until};

use crate::queue::Key;

/// Which event goes when.
#[derive(Default)]
struct Deadlines {
    order: BTreeSet<(Instant, Key)>,
    of: HashMap<Key, Instant>,
}

impl Deadlines {
    fn set(&mut self, key: Key, at: Instant) {
        self.remove(&key);
        self.order.insert((at, key.clone()));
        self.of.insert(key, at);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(at) = self.of.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    fn first(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

pub(crate) async fn run(client: Client, ttl: Duration) {
    let all: Api<PartialObjectMeta<Event>> = Api::all(client.clone());
    let mut events = watching::watch(all, watcher::Config::default());
    let mut deadlines = Deadlines::default();
    loop {
        let next = deadlines.first();
        tokio::select! {
            event = events.next() => match event {
                // From a list: when it was seen last is not in the metadata, so its birth has to do.
                Some(Ok(watcher::Event::InitApply(object))) => {
                    let age = object.creation_timestamp().map_or(Duration::ZERO, |t| {
                        Timestamp::now().duration_since(t.0).try_into().unwrap_or(Duration::ZERO)
                    });
                    deadlines.set(Key::of(&object), Instant::now() + ttl.saturating_sub(age));
                }
                Some(Ok(watcher::Event::Apply(object))) => deadlines.set(Key::of(&object), Instant::now() + ttl),
                Some(Ok(watcher::Event::Delete(object))) => deadlines.remove(&Key::of(&object)),
                Some(Ok(watcher::Event::Init)) => deadlines = Deadlines::default(),
                Some(Ok(watcher::Event::InitDone)) => {}
                Some(Err(error)) => tracing::debug!(%error, "the watch of events was interrupted"),
                None => return,
            },
            () = async { sleep_until(next.expect("the branch is only taken with a deadline")).await }, if next.is_some() => {
                let Some((_, key)) = deadlines.order.first().cloned() else { continue };
                deadlines.remove(&key);
                let api: Api<Event> = Api::namespaced(client.clone(), &key.namespace);
                if let Err(error) = api.delete(&key.name, &DeleteParams::default()).await
                    && !crate::Error::from(error).is_not_found()
                {
                    deadlines.set(key, Instant::now() + Duration::from_secs(10));
                }
            }
        }
    }
}
