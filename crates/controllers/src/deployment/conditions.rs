//! The conditions of a deployment: Available, Progressing, ReplicaFailure, with upstream's reasons and words.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Controller, plan};
use crate::Error;

pub const FAILED_CREATE: &str = "ReplicaSetCreateError";
pub const PAUSED: &str = "DeploymentPaused";
pub const RESUMED: &str = "DeploymentResumed";
pub const CREATED: &str = "NewReplicaSetCreated";
pub const FOUND: &str = "FoundNewReplicaSet";
pub const UPDATED: &str = "ReplicaSetUpdated";
pub const COMPLETE: &str = "NewReplicaSetAvailable";
pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// A list of conditions in the making.
pub struct Conditions {
    list: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    pub fn of(deployment: &Deployment, now: Timestamp) -> Self {
        let list = deployment.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        Self { list, now }
    }

    pub fn find(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|c| c.type_ == kind)
    }

    /// Sets a condition; the time of transition moves only with the status, the time of update with the reason too.
    pub fn set(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let before = self.list.iter().position(|c| c.type_ == kind).map(|index| self.list.remove(index));
        if let Some(same) = before.as_ref().filter(|c| c.status == status && c.reason.as_deref() == Some(reason)) {
            self.list.push(same.clone());
            return;
        }
        let moved = before.filter(|c| c.status == status).and_then(|c| c.last_transition_time);
        self.list.push(DeploymentCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(moved.unwrap_or(Time(self.now))),
            last_update_time: Some(Time(self.now)),
        });
    }

    /// As [`Conditions::set`], but counts as progress (the time of update moves) even if nothing else does.
    pub fn renew(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        self.set(kind, status, reason, message.clone());
        let now = Time(self.now);
        if let Some(condition) = self.list.iter_mut().find(|c| c.type_ == kind) {
            condition.message = Some(message);
            condition.last_update_time = Some(now);
        }
    }

    pub fn remove(&mut self, kind: &str) {
        self.list.retain(|c| c.type_ != kind);
    }

    pub fn into_list(self) -> Vec<DeploymentCondition> {
        self.list
    }
}

/// When the present progress runs out, if the deployment has a deadline and is under way.
pub fn deadline(deployment: &Deployment, conditions: &Conditions) -> Option<Timestamp> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds.filter(|s| *s != i32::MAX)?;
    let progressing = conditions.find("Progressing")?;
    if matches!(progressing.reason.as_deref(), Some(COMPLETE | PAUSED)) {
        return None;
    }
    let since = progressing.last_update_time.as_ref()?.0;
    since.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).ok()
}

impl Controller {
    /// Pausing stops the clock of the progress deadline, resuming starts it anew.
    pub(super) async fn note_pause(
        &self,
        deployment: Arc<Deployment>,
        now: Timestamp,
    ) -> Result<Arc<Deployment>, Error> {
        if deployment.spec.as_ref().and_then(|s| s.progress_deadline_seconds).is_none() {
            return Ok(deployment);
        }
        let mut conditions = Conditions::of(&deployment, now);
        let reason = conditions.find("Progressing").and_then(|c| c.reason.clone());
        match (plan::is_paused(&deployment), reason.as_deref()) {
            (_, Some(TIMED_OUT)) | (true, Some(PAUSED)) => return Ok(deployment),
            (true, _) => conditions.set("Progressing", "Unknown", PAUSED, "Deployment is paused".into()),
            (false, Some(PAUSED)) => conditions.set("Progressing", "Unknown", RESUMED, "Deployment is resumed".into()),
            (false, _) => return Ok(deployment),
        }
        self.write_conditions(&deployment, conditions).await.map(Arc::new)
    }

    pub(super) async fn note_found(
        &self,
        deployment: &Deployment,
        set: Option<&ReplicaSet>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut conditions = Conditions::of(deployment, now);
        let Some(set) = set.filter(|_| has_deadline(deployment) && conditions.find("Progressing").is_none()) else {
            return Ok(());
        };
        conditions.set("Progressing", "True", FOUND, format!("Found new replica set {:?}", set.name_any()));
        self.write_conditions(deployment, conditions).await.map(drop)
    }

    pub(super) async fn note_created(&self, deployment: &Deployment, set: &str, now: Timestamp) -> Result<(), Error> {
        if !has_deadline(deployment) {
            return Ok(());
        }
        let mut conditions = Conditions::of(deployment, now);
        conditions.renew("Progressing", "True", CREATED, format!("Created new replica set {set:?}"));
        self.write_conditions(deployment, conditions).await.map(drop)
    }

    pub(super) async fn note_failed_create(
        &self,
        deployment: &Deployment,
        message: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut conditions = Conditions::of(deployment, now);
        conditions.set("Progressing", "False", FAILED_CREATE, message.to_owned());
        self.write_conditions(deployment, conditions).await.map(drop)
    }

    async fn write_conditions(&self, deployment: &Deployment, conditions: Conditions) -> Result<Deployment, Error> {
        let patch = json!({"metadata": {"uid": deployment.uid()}, "status": {"conditions": conditions.into_list()}});
        let api = self.api(deployment);
        Ok(api.patch_status(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?)
    }
}

/// `progressDeadlineSeconds` is set and not "never".
pub fn has_deadline(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|s| s.progress_deadline_seconds).is_some_and(|s| s != i32::MAX)
}
