//! The status of a deployment, summed up from its ReplicaSets.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use kube::{ResourceExt, api::PostParams};

use super::{
    Controller,
    conditions::{self, Conditions},
    plan::{self, Strategy},
    replicas,
    revision::Sets,
};
use crate::{Error, error::gone_is_fine};

/// Whether the rollout is over: only new pods, all of them available.
pub fn is_complete(deployment: &Deployment, found: &Sets) -> bool {
    let status = summed(deployment, found);
    let wanted = plan::wanted(deployment);
    let is = |count: Option<i32>| count.unwrap_or(0) == wanted;
    is(status.updated_replicas) && is(status.replicas) && is(status.available_replicas)
}

impl Controller {
    /// Writes the status if it changed. `only_availability` leaves the progress alone (paused, scaling).
    pub(super) async fn sync_status(
        &self,
        deployment: &Deployment,
        found: &Sets,
        now: Timestamp,
        only_availability: bool,
    ) -> Result<(), Error> {
        // A write of this very round may have changed the conditions: start from what the server has now.
        let current = match self.shared.deployments.get(&crate::queue::Key::of(deployment)) {
            Some(cached) if crate::informer::version(&*cached) > crate::informer::version(deployment) => cached,
            _ => std::sync::Arc::new(deployment.clone()),
        };
        let mut status = summed(&current, found);
        status.observed_generation = deployment.metadata.generation;
        let mut conditions = Conditions::of(&current, now);
        if !only_availability {
            progress(&current, found, &status, &mut conditions, now);
        }
        availability(&current, &status, &mut conditions);
        if let Some(end) = conditions::deadline(&current, &conditions).filter(|_| !only_availability) {
            let left = end.duration_since(now).as_secs().max(0);
            let timed_out =
                conditions.find("Progressing").is_some_and(|c| c.reason.as_deref() == Some(conditions::TIMED_OUT));
            if !timed_out {
                self.look_again_after(deployment, Duration::from_secs(left.unsigned_abs() + 1));
            }
        }
        let conditions = conditions.into_list();
        status.conditions = (!conditions.is_empty()).then_some(conditions);
        if current.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut changed = Deployment::clone(&current);
        changed.status = Some(status);
        gone_is_fine(
            self.api(deployment).replace_status(&deployment.name_any(), &PostParams::default(), &changed).await,
        )
    }
}

fn summed(deployment: &Deployment, found: &Sets) -> DeploymentStatus {
    let sum = |count: &dyn Fn(&ReplicaSet) -> i32| found.all().map(|s| count(s)).sum::<i32>();
    let of = |set: &ReplicaSet, field: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>| {
        set.status.as_ref().and_then(field).unwrap_or(0)
    };
    let total = sum(&|s| of(s, |s| Some(s.replicas)));
    let available = sum(&|s| of(s, |s| s.available_replicas));
    let ready = sum(&|s| of(s, |s| s.ready_replicas));
    let terminating = sum(&|s| of(s, |s| s.terminating_replicas));
    let updated = found.new.as_ref().map_or(0, |s| of(s, |s| Some(s.replicas)));
    let missing = (sum(&|s| replicas(s)) - available).max(0);
    let some = |count: i32| (count != 0).then_some(count);
    DeploymentStatus {
        replicas: some(total),
        updated_replicas: some(updated),
        ready_replicas: some(ready),
        available_replicas: some(available),
        unavailable_replicas: some(missing),
        terminating_replicas: Some(terminating),
        collision_count: deployment.status.as_ref().and_then(|s| s.collision_count),
        observed_generation: deployment.metadata.generation,
        conditions: None,
    }
}

fn availability(deployment: &Deployment, status: &DeploymentStatus, conditions: &mut Conditions) {
    let may_miss = match plan::strategy(deployment) {
        Strategy::RollingUpdate { unavailable, .. } => unavailable,
        Strategy::Recreate => 0,
    };
    if status.available_replicas.unwrap_or(0) >= plan::wanted(deployment) - may_miss {
        conditions.set("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".into());
    } else {
        conditions.set(
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.".into(),
        );
    }
}

fn progress(
    deployment: &Deployment,
    found: &Sets,
    status: &DeploymentStatus,
    conditions: &mut Conditions,
    now: Timestamp,
) {
    let failure = found
        .all()
        .find_map(|s| s.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "ReplicaFailure").cloned());
    match failure {
        Some(c) => {
            conditions.set("ReplicaFailure", &c.status, &c.reason.unwrap_or_default(), c.message.unwrap_or_default())
        }
        None => conditions.remove("ReplicaFailure"),
    }
    if !conditions::has_deadline(deployment) {
        conditions.remove("Progressing");
        return;
    }
    let before = deployment.status.clone().unwrap_or_default();
    let subject = match &found.new {
        Some(set) => format!("ReplicaSet {:?}", set.name_any()),
        None => format!("Deployment {:?}", deployment.name_any()),
    };
    let wanted = plan::wanted(deployment);
    let is = |count: Option<i32>| count.unwrap_or(0) == wanted;
    let complete = is(status.updated_replicas) && is(status.replicas) && is(status.available_replicas);
    let reason = conditions.find("Progressing").and_then(|c| c.reason.clone());
    // Seen complete once and observed since: nothing is under way.
    let at_rest = status.replicas == status.updated_replicas && reason.as_deref() == Some(conditions::COMPLETE);
    if at_rest {
        return;
    }
    let n = |count: Option<i32>| count.unwrap_or(0);
    let old = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    let advances = n(status.updated_replicas) > n(before.updated_replicas)
        || old(status) < old(&before)
        || n(status.ready_replicas) > n(before.ready_replicas)
        || n(status.available_replicas) > n(before.available_replicas);
    if complete {
        let message = format!("{subject} has successfully progressed.");
        conditions.renew("Progressing", "True", conditions::COMPLETE, message);
    } else if advances {
        conditions.renew("Progressing", "True", conditions::UPDATED, format!("{subject} is progressing."));
    } else if conditions::deadline(deployment, conditions).is_some_and(|end| end <= now) {
        conditions.set("Progressing", "False", conditions::TIMED_OUT, format!("{subject} has timed out progressing."));
    }
}
