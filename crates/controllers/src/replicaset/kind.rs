//! The two kinds that keep a number of equal pods: ReplicaSet, and ReplicationController before it.

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::{
            PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
        },
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::core::Selector;
use serde::Serialize;

use crate::{
    Error,
    claim::{self, Namespaced},
};

/// What the controller needs of either kind.
pub trait Replicated: Namespaced + Serialize {
    /// Name of the queue and source of the events.
    const COMPONENT: &'static str;

    fn selector(&self) -> Result<Selector, Error>;
    /// How many pods there should be.
    fn replicas(&self) -> i32;
    fn min_ready_seconds(&self) -> i32;
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The status, in ReplicaSet's form.
    fn counts(&self) -> ReplicaSetStatus;
    fn set_counts(&mut self, counts: ReplicaSetStatus);
}

impl Replicated for ReplicaSet {
    const COMPONENT: &'static str = "replicaset-controller";

    fn selector(&self) -> Result<Selector, Error> {
        claim::parse(self.spec.as_ref().map(|s| &s.selector))
    }

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn counts(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }

    fn set_counts(&mut self, counts: ReplicaSetStatus) {
        self.status = Some(counts);
    }
}

impl Replicated for ReplicationController {
    const COMPONENT: &'static str = "replication-controller";

    fn selector(&self) -> Result<Selector, Error> {
        let labels = self.spec.as_ref().and_then(|s| s.selector.clone());
        claim::parse(Some(&LabelSelector { match_labels: labels, match_expressions: None }))
    }

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn counts(&self) -> ReplicaSetStatus {
        let status = self.status.clone().unwrap_or_default();
        let conditions = status.conditions.map(|all| {
            all.into_iter()
                .map(|c| ReplicaSetCondition {
                    type_: c.type_,
                    status: c.status,
                    reason: c.reason,
                    message: c.message,
                    last_transition_time: c.last_transition_time,
                })
                .collect()
        });
        ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions,
        }
    }

    fn set_counts(&mut self, counts: ReplicaSetStatus) {
        let conditions = counts.conditions.map(|all| {
            all.into_iter()
                .map(|c| ReplicationControllerCondition {
                    type_: c.type_,
                    status: c.status,
                    reason: c.reason,
                    message: c.message,
                    last_transition_time: c.last_transition_time,
                })
                .collect()
        });
        self.status = Some(ReplicationControllerStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: counts.fully_labeled_replicas,
            ready_replicas: counts.ready_replicas,
            available_replicas: counts.available_replicas,
            observed_generation: counts.observed_generation,
            conditions,
        });
    }
}
