//! Waiting for volumes: a pod is bound once its claims are.

use std::{collections::HashMap, sync::Arc};

use claims::{SELECTED_NODE, annotation, is_bound};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::{Plan, Volumes};
use crate::pod::PodInfo;

/// Pods whose volumes were asked for and that are bound when they are there.
#[derive(Default)]
pub(crate) struct Waiting(pub HashMap<Arc<str>, Wait>);

/// One of them.
pub(crate) struct Wait {
    pub pod: Arc<PodInfo>,
    pub node: Arc<str>,
    pub plan: Plan,
    /// The versions of the claims after they were written; `None` before.
    pub written: Option<HashMap<String, u64>>,
    pub until: std::time::Instant,
}

/// How a wait stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Waiting,
    Bound,
    /// Why the pod has to be placed anew.
    Failed(String),
}

impl Wait {
    pub fn progress(&self, volumes: &Volumes) -> Progress {
        let Some(written) = &self.written else { return Progress::Waiting };
        let mut all = true;
        for claim in self.plan.claims() {
            let name = claim.metadata.name.clone().unwrap_or_default();
            let Some(now) = volumes.claims.get(&(self.pod.namespace.to_string(), name.clone())) else {
                return Progress::Failed(format!("binding volumes: persistentvolumeclaim \"{name}\" not found"));
            };
            if is_bound(now) {
                continue;
            }
            all = false;
            let version = |claim: &PersistentVolumeClaim| {
                claim.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0)
            };
            let up_to_date = written.get(&name).is_some_and(|written| version(now) >= *written);
            let wants_node = self.plan.provisioned.iter().any(|c| c.metadata.name == claim.metadata.name);
            if wants_node && up_to_date && annotation(now, SELECTED_NODE).is_none() {
                return Progress::Failed(format!("binding volumes: provisioning failed for PVC \"{name}\""));
            }
        }
        if all { Progress::Bound } else { Progress::Waiting }
    }
}
