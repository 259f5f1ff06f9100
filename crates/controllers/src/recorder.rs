//! Events: written beside the work, never in its way; equal ones become one that counts.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder as KubeRecorder, Reporter},
};
use tokio::sync::mpsc;

/// More than this under way at once and events are dropped: they are information, not state.
const BACKLOG: usize = 1_000;

/// Records events in the name of one controller. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<(Event, ObjectReference)>);

impl Recorder {
    /// `component` is what `kubectl describe` shows as the source.
    pub fn new(client: Client, component: &str) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(Event, ObjectReference)>(BACKLOG);
        let reporter = Reporter { controller: component.to_owned(), instance: None };
        tokio::spawn(async move {
            let recorder = KubeRecorder::new(client, reporter);
            while let Some((event, object)) = receiver.recv().await {
                if let Err(error) = recorder.publish(&event, &object).await {
                    tracing::debug!(%error, "an event was not recorded");
                }
            }
        });
        Self(sender)
    }

    /// Something went as it should.
    pub fn normal(&self, object: &impl Resource<DynamicType = ()>, reason: &str, action: &str, note: String) {
        self.record(EventType::Normal, object, reason, action, note);
    }

    /// Something did not.
    pub fn warning(&self, object: &impl Resource<DynamicType = ()>, reason: &str, action: &str, note: String) {
        self.record(EventType::Warning, object, reason, action, note);
    }

    fn record(
        &self,
        type_: EventType,
        object: &impl Resource<DynamicType = ()>,
        reason: &str,
        action: &str,
        note: String,
    ) {
        let event =
            Event { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None };
        let _ = self.0.try_send((event, object.object_ref(&())));
    }
}
