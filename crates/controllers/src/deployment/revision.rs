//! Which ReplicaSet is the new one, which are old, and the revision numbers that `kubectl rollout` shows.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use kube::{
    ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use super::{Controller, conditions, plan, replicas};
use crate::{
    Error,
    error::gone_is_fine,
    hash,
    ownership::{controller_reference, is_controlled_by},
};

/// The revision of a template among the deployment's.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Revisions that a template had before.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The deployment's size when the set was resized last.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// Desired size and surge.
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A deployment's ReplicaSets.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    /// The one with the present template.
    pub new: Option<Arc<ReplicaSet>>,
    /// All others, in no order.
    pub old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    /// Old and new.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }
}

/// The oldest set with the present template is the new one.
pub fn split(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Sets {
    let template = deployment.spec.as_ref().map(|s| &s.template);
    let mut by_age = sets.to_vec();
    by_age.sort_by(|a, b| {
        (&a.metadata.creation_timestamp, a.name_any()).cmp(&(&b.metadata.creation_timestamp, b.name_any()))
    });
    let new = by_age
        .iter()
        .position(|s| {
            s.spec.as_ref().and_then(|s| s.template.as_ref()).zip(template).is_some_and(|(a, b)| hash::same(a, b))
        })
        .map(|index| by_age.remove(index));
    Sets { new, old: by_age }
}

/// The revision annotation as a number.
pub fn revision(annotations: &BTreeMap<String, String>) -> i64 {
    annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

impl Controller {
    /// Splits the sets, makes the new one if there is none and `create` says so, and keeps revisions right.
    pub(super) async fn find_sets(
        &self,
        deployment: &Deployment,
        sets: &[Arc<ReplicaSet>],
        create: bool,
        now: Timestamp,
    ) -> Result<Sets, Error> {
        let mut found = split(deployment, sets);
        let next = found.old.iter().map(|s| revision(s.annotations())).max().unwrap_or(0) + 1;
        match &found.new {
            Some(new) => {
                let mut annotations = inherited(deployment, new.annotations());
                set_revision(&mut annotations, next);
                let revision_now = revision(&annotations);
                let min_ready = deployment.spec.as_ref().and_then(|s| s.min_ready_seconds);
                let patch = json!({
                    "metadata": {"uid": new.uid(), "annotations": annotations},
                    "spec": {"minReadySeconds": min_ready.unwrap_or(0)},
                });
                let differs = annotations != *new.annotations()
                    || new.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0) != min_ready.unwrap_or(0);
                if differs {
                    let api = self.sets_api(deployment);
                    let changed = api.patch(&new.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
                    found.new = Some(Arc::new(changed));
                }
                self.note_revision(deployment, revision_now).await?;
                self.note_found(deployment, found.new.as_deref(), now).await?;
            }
            None if create => found.new = Some(self.make(deployment, &found, next, now).await?),
            None => {}
        }
        Ok(found)
    }

    async fn make(
        &self,
        deployment: &Deployment,
        found: &Sets,
        next: i64,
        now: Timestamp,
    ) -> Result<Arc<ReplicaSet>, Error> {
        let spec = deployment.spec.clone().unwrap_or_default();
        let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
        let digest = hash::of(&spec.template, collisions);
        let mut template = spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(hash::LABEL.into(), digest.clone());
        let labels = labels.clone();
        let mut selector = spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(hash::LABEL.into(), digest.clone());
        let mut annotations = inherited(deployment, &BTreeMap::new());
        set_revision(&mut annotations, next);
        annotations.insert(DESIRED.into(), plan::wanted(deployment).to_string());
        annotations.insert(MAX.into(), plan::max_total(deployment).to_string());
        let old_total = found.old.iter().map(|s| replicas(s)).sum();
        let size = plan::new_set_size(deployment, old_total, 0);
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{digest}", deployment.name_any())),
                namespace: deployment.namespace(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(vec![controller_reference(deployment)]),
                ..Default::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(size),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        let api = self.sets_api(deployment);
        let created = match api.create(&PostParams::default(), &set).await.map_err(Error::from) {
            Ok(created) => {
                if size > 0 {
                    let note = format!("Scaled up replica set {} from 0 to {size}", created.name_any());
                    self.recorder.normal(deployment, "ScalingReplicaSet", note);
                }
                created
            }
            Err(error) if error.is_already_exists() => {
                let there = api.get(&set.name_any()).await?;
                let ours = is_controlled_by(&there, deployment)
                    && there
                        .spec
                        .as_ref()
                        .and_then(|s| s.template.as_ref())
                        .is_some_and(|t| hash::same(t, &spec.template));
                if !ours {
                    // Another template has the same hash: count, and try another name.
                    let count = collisions.unwrap_or(0) + 1;
                    let patch = json!({"metadata": {"uid": deployment.uid()}, "status": {"collisionCount": count}});
                    self.api(deployment)
                        .patch_status(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(patch))
                        .await?;
                    return Err(Error::NotYet("another ReplicaSet has this name"));
                }
                there
            }
            Err(error) if error.is_namespace_terminating() => return Err(Error::NotYet("the namespace is going")),
            Err(error) => {
                let message = format!("Failed to create new replica set {:?}: {}", set.name_any(), error.message());
                self.recorder.warning(deployment, conditions::FAILED_CREATE, message.clone());
                self.note_failed_create(deployment, &message, now).await?;
                return Err(error);
            }
        };
        self.note_created(deployment, &created.name_any(), now).await?;
        self.note_revision(deployment, next).await?;
        Ok(Arc::new(created))
    }

    async fn note_revision(&self, deployment: &Deployment, number: i64) -> Result<(), Error> {
        if revision(deployment.annotations()) == number {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": deployment.uid(), "annotations": {REVISION: number.to_string()}}});
        gone_is_fine(
            self.api(deployment).patch(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await,
        )
    }

    /// Gives a set another size, with the annotations that proportional scaling needs.
    pub(super) async fn resize(&self, deployment: &Deployment, set: &ReplicaSet, size: i32) -> Result<(), Error> {
        let (desired, max) = (plan::wanted(deployment).to_string(), plan::max_total(deployment).to_string());
        let before = replicas(set);
        let noted = set.annotations().get(DESIRED) == Some(&desired) && set.annotations().get(MAX) == Some(&max);
        if before == size && noted {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"uid": set.uid(), "resourceVersion": set.resource_version(), "annotations": {DESIRED: desired, MAX: max}},
            "spec": {"replicas": size},
        });
        self.sets_api(deployment).patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        if before != size {
            let word = if size > before { "up" } else { "down" };
            let note = format!("Scaled {word} replica set {} from {before} to {size}", set.name_any());
            self.recorder.normal(deployment, "ScalingReplicaSet", note);
        }
        Ok(())
    }

    /// Deletes old empty sets beyond `revisionHistoryLimit`.
    pub(super) async fn clean_up(&self, deployment: &Deployment, found: &Sets) -> Result<(), Error> {
        let limit = deployment.spec.as_ref().and_then(|s| s.revision_history_limit).unwrap_or(10);
        let mut history: Vec<_> = found.old.iter().filter(|s| s.metadata.deletion_timestamp.is_none()).collect();
        history.sort_by_key(|s| Reverse(revision(s.annotations())));
        for set in history.into_iter().skip(usize::try_from(limit).unwrap_or(0)) {
            let empty = replicas(set) == 0 && set.status.as_ref().is_none_or(|s| s.replicas == 0);
            let observed = set.metadata.generation.unwrap_or(0)
                <= set.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
            if empty && observed {
                let params =
                    DeleteParams::default().preconditions(Preconditions { uid: set.uid(), resource_version: None });
                gone_is_fine(self.sets_api(deployment).delete(&set.name_any(), &params).await)?;
            }
        }
        Ok(())
    }
}

/// The deployment's annotations on top of the set's own, but for those that are the set's alone.
fn inherited(deployment: &Deployment, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut annotations = own.clone();
    for (key, value) in deployment.annotations() {
        if ![LAST_APPLIED, REVISION, HISTORY, DESIRED, MAX, "deprecated.deployment.rollback.to"].contains(&key.as_str())
        {
            annotations.insert(key.clone(), value.clone());
        }
    }
    annotations
}

/// A template that comes back gets the newest number; its old ones go to the history.
fn set_revision(annotations: &mut BTreeMap<String, String>, next: i64) {
    let before = revision(annotations);
    if before >= next {
        return;
    }
    if before > 0 {
        let mut history = annotations.get(HISTORY).cloned().unwrap_or_default();
        if !history.is_empty() {
            history.push(',');
        }
        history += &before.to_string();
        annotations.insert(HISTORY.into(), history);
    }
    annotations.insert(REVISION.into(), next.to_string());
}
