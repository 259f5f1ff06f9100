//! Events (`events.k8s.io/v1`) about pods, published beside the work and never in its way.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::mpsc;

use crate::pod::PodInfo;

/// Events that wait to be published; further ones are dropped, as upstream's broadcaster does.
const WAITING: usize = 1000;
/// Published events remembered, so that a repetition counts up instead of adding another.
const REMEMBERED: usize = 512;

/// What is to be told.
pub(crate) struct Notice {
    pub pod: Arc<PodInfo>,
    /// `Normal`, else `Warning`.
    pub normal: bool,
    pub reason: &'static str,
    pub action: &'static str,
    pub note: String,
}

/// Hands events to a task that publishes them.
#[derive(Clone)]
pub(crate) struct Recorder {
    notices: mpsc::Sender<Notice>,
}

impl Recorder {
    /// Also gives the task, which ends when the last recorder is gone.
    pub fn new(client: Client, controller: String, instance: String) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, mut notices) = mpsc::channel::<Notice>(WAITING);
        let task = async move {
            let mut publisher = Publisher { client, controller, instance, published: HashMap::new(), clock: 0 };
            while let Some(notice) = notices.recv().await {
                let name = notice.pod.full_name();
                if let Err(error) = publisher.publish(notice).await {
                    tracing::debug!(pod = name, %error, "an event was not published");
                }
            }
        };
        (Self { notices: sender }, task)
    }

    pub fn tell(&self, notice: Notice) {
        if let Err(mpsc::error::TrySendError::Full(notice)) = self.notices.try_send(notice) {
            tracing::debug!(pod = notice.pod.full_name(), "too many events wait: one is dropped");
        }
    }
}

struct Publisher {
    client: Client,
    controller: String,
    instance: String,
    /// By pod, reason and note.
    published: HashMap<(Arc<str>, &'static str, String), Published>,
    clock: u64,
}

struct Published {
    name: String,
    count: i32,
    last: u64,
}

impl Publisher {
    async fn publish(&mut self, notice: Notice) -> Result<(), kube::Error> {
        let now = jiff::Timestamp::now();
        self.clock += 1;
        let key = (notice.pod.uid.clone(), notice.reason, notice.note.clone());
        if let Some(published) = self.published.get_mut(&key) {
            published.count += 1;
            published.last = self.clock;
            let series = EventSeries { count: published.count, last_observed_time: MicroTime(now) };
            let patch = Patch::Merge(json!({"series": series}));
            let events = Api::<Event>::namespaced(self.client.clone(), &notice.pod.namespace);
            match events.patch(&published.name, &PatchParams::default(), &patch).await {
                // It has expired meanwhile.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let event = self.event(&notice, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        recording::create(&self.client, &notice.pod.namespace, &event).await?;
        self.remember(key, Published { name, count: 1, last: self.clock });
        Ok(())
    }

    fn event(&self, notice: &Notice, now: jiff::Timestamp) -> Event {
        let pod = &notice.pod;
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", pod.name, now.as_nanosecond())),
                namespace: Some(pod.namespace.to_string()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            action: Some(notice.action.into()),
            reason: Some(notice.reason.into()),
            regarding: Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(pod.name.to_string()),
                namespace: Some(pod.namespace.to_string()),
                uid: Some(pod.uid.to_string()),
                ..ObjectReference::default()
            }),
            // Upstream's limit for a note.
            note: Some(notice.note.chars().take(1024).collect()),
            type_: Some(if notice.normal { "Normal" } else { "Warning" }.into()),
            ..Event::default()
        }
    }

    fn remember(&mut self, key: (Arc<str>, &'static str, String), published: Published) {
        if self.published.len() >= REMEMBERED {
            // Rare enough to look at all of them: only what failed repeatedly is worth keeping.
            let mut ages: Vec<u64> = self.published.values().map(|p| p.last).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            self.published.retain(|_, p| p.last > middle);
        }
        self.published.insert(key, published);
    }
}
