//! What runs work, and what rules where and how much of it runs.

use super::entry::{Entry, cluster, namespaced};
use crate::schema::types::*;

pub fn apps() -> Vec<Entry> {
    const GROUP: &str = "apps";
    vec![
        namespaced(GROUP, "v1", "ControllerRevision", "controllerrevisions", &apps_v1_ControllerRevision),
        namespaced(GROUP, "v1", "DaemonSet", "daemonsets", &apps_v1_DaemonSet)
            .short(&["ds"])
            .category(&["all"])
            .status(),
        namespaced(GROUP, "v1", "Deployment", "deployments", &apps_v1_Deployment)
            .short(&["deploy"])
            .category(&["all"])
            .scale()
            .status(),
        namespaced(GROUP, "v1", "ReplicaSet", "replicasets", &apps_v1_ReplicaSet)
            .short(&["rs"])
            .category(&["all"])
            .scale()
            .status()
            .selectable(&[("status.replicas", "/status/replicas")]),
        namespaced(GROUP, "v1", "StatefulSet", "statefulsets", &apps_v1_StatefulSet)
            .short(&["sts"])
            .category(&["all"])
            .scale()
            .status(),
    ]
}

pub fn batch() -> Vec<Entry> {
    const GROUP: &str = "batch";
    vec![
        namespaced(GROUP, "v1", "CronJob", "cronjobs", &batch_v1_CronJob).short(&["cj"]).category(&["all"]).status(),
        namespaced(GROUP, "v1", "Job", "jobs", &batch_v1_Job)
            .category(&["all"])
            .status()
            .selectable(&[("status.successful", "/status/succeeded")]),
    ]
}

pub fn policy() -> Vec<Entry> {
    vec![
        namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", &policy_v1_PodDisruptionBudget)
            .short(&["pdb"])
            .status(),
    ]
}

pub fn scheduling() -> Vec<Entry> {
    vec![
        cluster("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", &scheduling_v1_PriorityClass)
            .short(&["pc"]),
    ]
}
