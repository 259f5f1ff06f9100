//! Changing the size of a deployment in the middle of a rollout: each ReplicaSet grows or shrinks in proportion.

use std::{cmp::Reverse, sync::Arc};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::ResourceExt;

use super::{
    Controller, plan, replicas,
    revision::{self, DESIRED, MAX, Sets},
};
use crate::Error;

/// Whether the wanted number changed since the sets were resized last.
pub fn is_scaling(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
    sets.iter().filter(|s| replicas(s) > 0).any(|s| {
        let desired: Option<i32> = s.annotations().get(DESIRED).and_then(|d| d.parse().ok());
        desired.is_some_and(|d| d != plan::wanted(deployment))
    })
}

impl Controller {
    pub(super) async fn scale(&self, deployment: &Deployment, found: &Sets) -> Result<(), Error> {
        for (set, size) in plan_scale(deployment, found) {
            self.resize(deployment, &set, size).await?;
        }
        Ok(())
    }
}

fn plan_scale(deployment: &Deployment, found: &Sets) -> Vec<(Arc<ReplicaSet>, i32)> {
    let wanted = plan::wanted(deployment);
    let active: Vec<&Arc<ReplicaSet>> = found.all().filter(|s| replicas(s) > 0).collect();
    match active.as_slice() {
        [] => {
            let newest = found.old.iter().max_by_key(|s| revision::revision(s.annotations()));
            return found.new.as_ref().or(newest).map(|s| (s.clone(), wanted)).into_iter().collect();
        }
        [one] => return vec![((*one).clone(), wanted)],
        _ => {}
    }
    let full = found.new.as_ref().is_some_and(|s| {
        replicas(s) == wanted && s.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0) == wanted
    });
    if full {
        return found.old.iter().filter(|s| replicas(s) > 0).map(|s| (s.clone(), 0)).collect();
    }
    if matches!(plan::strategy(deployment), plan::Strategy::Recreate) {
        return Vec::new();
    }
    let total: i32 = active.iter().map(|s| replicas(s)).sum();
    let allowed = plan::max_total(deployment);
    let mut to_add = allowed - total;
    let mut by_size: Vec<&Arc<ReplicaSet>> = active;
    by_size.sort_by_key(|s| (Reverse(replicas(s)), Reverse(s.metadata.creation_timestamp.clone())));
    let mut sizes: Vec<i32> = by_size
        .iter()
        .map(|set| {
            let size = replicas(set);
            // Each set in proportion to the most there could be when it was resized last.
            let most = set.annotations().get(MAX).and_then(|m| m.parse().ok()).unwrap_or(total).max(1);
            let share = (f64::from(size) * f64::from(allowed) / f64::from(most)).round() as i32 - size;
            let share = if to_add > 0 { share.clamp(0, to_add) } else { share.clamp(to_add, 0) };
            to_add -= share;
            size + share
        })
        .collect();
    // What rounding left goes to the largest.
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add).max(0);
    }
    by_size.into_iter().cloned().zip(sizes).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn growth_in_the_middle_of_a_rollout_is_shared_in_proportion() {
        let set = |name: &str, size: i32| -> Arc<ReplicaSet> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"replicas": size, "selector": {}}}))
                    .unwrap(),
            )
        };
        let deployment: Deployment = serde_json::from_value(
            json!({"metadata": {"name": "d"}, "spec": {"replicas": 15, "selector": {}, "template": {},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}}),
        )
        .unwrap();
        let found = Sets { new: Some(set("new", 5)), old: vec![set("old", 8)] };
        let sizes: Vec<_> = plan_scale(&deployment, &found).into_iter().map(|(s, n)| (s.name_any(), n)).collect();
        assert_eq!(sizes, [("old".into(), 11), ("new".into(), 7)]);
    }
}
