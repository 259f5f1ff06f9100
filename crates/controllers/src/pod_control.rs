//! Making and deleting pods for an owner, so that nothing is done twice while the cache lags.

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use recording::Recorder;

use crate::{
    Error,
    expectations::Expectations,
    informer::{Informer, version},
    ownership::controller_reference,
    queue::Key,
};

/// The most pods made or deleted in one go, as upstream.
pub const BURST: usize = 500;

/// How a controller tells of a pod: what was done, the pod's name, the owner's, and the error if it failed.
pub type Words = fn(Done, &str, &str, Option<&str>) -> String;

/// What was done or tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Create,
    Delete,
}

/// The words of most controllers.
fn plain(done: Done, pod: &str, _: &str, error: Option<&str>) -> String {
    match (done, error) {
        (Done::Create, None) => format!("Created pod: {pod}"),
        (Done::Delete, None) => format!("Deleted pod: {pod}"),
        (Done::Create, Some(error)) => format!("Error creating: {error}"),
        (Done::Delete, Some(error)) => format!("Error deleting: {error}"),
    }
}

/// The pods of one controller's objects.
pub struct PodControl {
    client: Client,
    pods: Informer<Pod>,
    recorder: Recorder,
    expectations: Expectations,
    words: Words,
}

impl PodControl {
    pub fn new(client: Client, pods: Informer<Pod>, recorder: Recorder) -> Self {
        Self { client, pods, recorder, expectations: Expectations::default(), words: plain }
    }

    /// The same, with other words in its events.
    pub fn with_words(self, words: Words) -> Self {
        Self { words, ..self }
    }

    /// Whether the cache shows all that was done for the owner: if not, it is too old to act on.
    pub fn is_settled(&self, key: &Key) -> bool {
        let seen = |version| self.pods.has_seen(version);
        let lives = |pod: &Key, uid: &str| {
            self.pods
                .get(pod)
                .is_some_and(|p| p.uid().as_deref() == Some(uid) && p.metadata.deletion_timestamp.is_none())
        };
        self.expectations.met(key, seen, lives)
    }

    /// A pod of the owner was written; the cache is to show it before the owner is acted on again.
    pub fn wrote(&self, key: &Key, pod: &Pod) {
        let version = version(pod);
        self.pods.awaits(version);
        self.expectations.wrote(key, version);
    }

    /// The owner is gone.
    pub fn forget(&self, key: &Key) {
        self.expectations.forget(key);
    }

    /// Makes a pod and tells of it.
    pub async fn create(&self, key: &Key, owner: &impl Resource<DynamicType = ()>, pod: &Pod) -> Result<Pod, Error> {
        match self.api(key).create(&PostParams::default(), pod).await.map_err(Error::from) {
            Ok(created) => {
                self.wrote(key, &created);
                let note = (self.words)(Done::Create, &created.name_any(), &owner.name_any(), None);
                self.recorder.normal(owner, "SuccessfulCreate", note);
                Ok(created)
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let note = (self.words)(Done::Create, &pod.name_any(), &owner.name_any(), Some(&error.message()));
                    self.recorder.warning(owner, "FailedCreate", note);
                }
                Err(error)
            }
        }
    }

    /// One pod, then two, four…: an owner that can't have pods fails once, not five hundred times. Returns how many
    /// were made, and what stopped it; that the namespace is going stops it silently.
    pub async fn create_all(
        &self,
        key: &Key,
        owner: &impl Resource<DynamicType = ()>,
        pods: &[Pod],
    ) -> (usize, Result<(), Error>) {
        let (mut rest, mut batch, mut made) = (pods, 1, 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            let results = join_all(now.iter().map(|pod| self.create(key, owner, pod))).await;
            made += results.iter().filter(|r| r.is_ok()).count();
            match results.into_iter().find_map(Result::err) {
                Some(error) if error.is_namespace_terminating() => return (made, Ok(())),
                Some(error) => return (made, Err(error)),
                None => (rest, batch) = (later, batch * 2),
            }
        }
        (made, Ok(()))
    }

    /// Deletes this very pod and tells of it.
    pub async fn delete(&self, key: &Key, owner: &impl Resource<DynamicType = ()>, pod: &Pod) -> Result<(), Error> {
        let uid = pod.uid().unwrap_or_default();
        self.expectations.deletes(key, Key::of(pod), &uid);
        let params =
            DeleteParams::default().preconditions(Preconditions { uid: Some(uid.clone()), resource_version: None });
        match self.api(key).delete(&pod.name_any(), &params).await.map_err(Error::from) {
            Ok(_) => {
                let note = (self.words)(Done::Delete, &pod.name_any(), &owner.name_any(), None);
                self.recorder.normal(owner, "SuccessfulDelete", note);
                Ok(())
            }
            Err(error) => {
                self.expectations.does_not_delete(key, &uid);
                if error.is_not_found() {
                    return Ok(());
                }
                let note = (self.words)(Done::Delete, &pod.name_any(), &owner.name_any(), Some(&error.message()));
                self.recorder.warning(owner, "FailedDelete", note);
                Err(error)
            }
        }
    }

    /// Deletes them all; the first fault is returned when all have been tried.
    pub async fn delete_all<'a, O, P>(
        &self,
        key: &Key,
        owner: &O,
        pods: impl IntoIterator<Item = &'a P>,
    ) -> Result<(), Error>
    where
        O: Resource<DynamicType = ()>,
        P: AsRef<Pod> + 'a,
    {
        let results = join_all(pods.into_iter().map(|pod| self.delete(key, owner, pod.as_ref()))).await;
        results.into_iter().collect()
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub fn api(&self, key: &Key) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

/// A pod as the template says, owned, with a name that the server makes from the owner's.
pub fn from_template<O: Resource<DynamicType = ()>>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name_any())),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(owner)]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
