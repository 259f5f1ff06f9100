//! What a rolling update does next: pure arithmetic on the sizes of ReplicaSets (upstream's `rolling.go`).

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{replicas, revision::Sets};
use crate::percent::resolve;

/// How to get from old to new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All old pods go before a new one comes.
    Recreate,
    /// Side by side.
    RollingUpdate {
        /// Pods above the wanted number.
        surge: i32,
        /// Pods below it.
        unavailable: i32,
    },
}

/// The strategy with its percentages resolved: surge rounds up, unavailable down, and both can't be 0.
pub fn strategy(deployment: &Deployment) -> Strategy {
    let Some(strategy) = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref()) else {
        return rolling(None, None, wanted(deployment));
    };
    if strategy.type_.as_deref() == Some("Recreate") {
        return Strategy::Recreate;
    }
    let update = strategy.rolling_update.as_ref();
    rolling(
        update.and_then(|u| u.max_surge.as_ref()),
        update.and_then(|u| u.max_unavailable.as_ref()),
        wanted(deployment),
    )
}

fn rolling(surge: Option<&IntOrString>, unavailable: Option<&IntOrString>, wanted: i32) -> Strategy {
    let quarter = IntOrString::String("25%".into());
    let surge = resolve(surge.unwrap_or(&quarter), wanted, true);
    let unavailable = resolve(unavailable.unwrap_or(&quarter), wanted, false);
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    Strategy::RollingUpdate { surge, unavailable: unavailable.min(wanted.max(1)) }
}

/// `spec.replicas`.
pub fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// `spec.paused`.
pub fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|s| s.paused).unwrap_or(false)
}

/// The most pods there may be at any time.
pub fn max_total(deployment: &Deployment) -> i32 {
    match strategy(deployment) {
        Strategy::RollingUpdate { surge, .. } if wanted(deployment) > 0 => wanted(deployment) + surge,
        _ => wanted(deployment),
    }
}

/// The size that the new set should have, growing at most to the surge.
pub fn new_set_size(deployment: &Deployment, old_total: i32, new_size: i32) -> i32 {
    match strategy(deployment) {
        Strategy::Recreate => wanted(deployment),
        Strategy::RollingUpdate { .. } => {
            let room = max_total(deployment) - (old_total + new_size);
            if room <= 0 { new_size } else { new_size + room.min(wanted(deployment) - new_size).max(0) }
        }
    }
}

/// The resizes of the next step: either the new set grows (or shrinks to the wanted number), or old ones shrink.
pub fn rolling_step(deployment: &Deployment, found: &Sets) -> Vec<(Arc<ReplicaSet>, i32)> {
    let Some(new) = &found.new else { return Vec::new() };
    let old_total: i32 = found.old.iter().map(|s| replicas(s)).sum();
    let size = replicas(new);
    let wanted = wanted(deployment);
    if size > wanted {
        return vec![(new.clone(), wanted)];
    }
    let next = new_set_size(deployment, old_total, size);
    if next != size {
        return vec![(new.clone(), next)];
    }
    shrink_old(deployment, found, new, old_total)
}

fn shrink_old(
    deployment: &Deployment,
    found: &Sets,
    new: &Arc<ReplicaSet>,
    old_total: i32,
) -> Vec<(Arc<ReplicaSet>, i32)> {
    let Strategy::RollingUpdate { unavailable, .. } = strategy(deployment) else { return Vec::new() };
    let min_available = wanted(deployment) - unavailable;
    let new_unavailable = replicas(new) - available(new);
    let mut budget = old_total + replicas(new) - min_available - new_unavailable;
    if old_total == 0 || budget <= 0 {
        return Vec::new();
    }
    let mut oldest_first = found.old.clone();
    oldest_first.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
    let mut sizes: Vec<i32> = oldest_first.iter().map(|s| replicas(s)).collect();
    // Pods that do not serve go first: they cost nothing.
    for (set, size) in oldest_first.iter().zip(&mut sizes) {
        let idle = (*size - available(set)).max(0).min(budget);
        *size -= idle;
        budget -= idle;
    }
    // Then as many of those that serve as may be missing.
    let serving: i32 = found.all().map(|s| available(s)).sum();
    let mut spare = (serving - min_available).max(0);
    for size in &mut sizes {
        let less = (*size).min(spare);
        *size -= less;
        spare -= less;
    }
    let pairs = oldest_first.into_iter().zip(sizes);
    pairs.filter(|(set, size)| replicas(set) != *size).collect()
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(replicas: i32, surge: serde_json::Value, unavailable: serde_json::Value) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": {
            "replicas": replicas, "selector": {}, "template": {},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}))
        .unwrap()
    }

    fn set(name: &str, size: i32, available: i32) -> Arc<ReplicaSet> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"replicas": size, "selector": {}},
                "status": {"replicas": size, "availableReplicas": available}}))
            .unwrap(),
        )
    }

    fn step(d: &Deployment, new: (i32, i32), old: &[(i32, i32)]) -> Vec<(String, i32)> {
        let old = old.iter().enumerate().map(|(i, (size, up))| set(&format!("old{i}"), *size, *up)).collect();
        let found = Sets { new: Some(set("new", new.0, new.1)), old };
        rolling_step(d, &found).into_iter().map(|(s, n)| (s.metadata.name.clone().unwrap(), n)).collect()
    }

    #[test]
    fn percentages_round_so_that_progress_is_possible() {
        assert_eq!(
            strategy(&deployment(3, json!("25%"), json!("25%"))),
            Strategy::RollingUpdate { surge: 1, unavailable: 0 }
        );
        assert_eq!(
            strategy(&deployment(10, json!("25%"), json!("25%"))),
            Strategy::RollingUpdate { surge: 3, unavailable: 2 }
        );
        assert_eq!(
            strategy(&deployment(3, json!(0), json!("10%"))),
            Strategy::RollingUpdate { surge: 0, unavailable: 1 }
        );
    }

    #[test]
    fn a_rollout_of_three_walks_through_without_dropping_below_what_must_serve() {
        let d = deployment(3, json!(1), json!(0));
        assert_eq!(step(&d, (0, 0), &[(3, 3)]), [("new".into(), 1)]);
        assert_eq!(step(&d, (1, 0), &[(3, 3)]), []);
        assert_eq!(step(&d, (1, 1), &[(3, 3)]), [("old0".into(), 2)]);
        assert_eq!(step(&d, (1, 1), &[(2, 3)]), [("new".into(), 2)]);
        assert_eq!(step(&d, (3, 3), &[(1, 1)]), [("old0".into(), 0)]);
        assert_eq!(step(&d, (3, 3), &[(0, 0)]), []);
    }

    #[test]
    fn old_pods_that_do_not_serve_go_first() {
        let d = deployment(3, json!(1), json!(1));
        assert_eq!(step(&d, (1, 0), &[(2, 0), (1, 1)]), [("old0".into(), 1)]);
    }

    #[test]
    fn a_new_set_that_is_too_large_shrinks_at_once() {
        assert_eq!(step(&deployment(2, json!(1), json!(0)), (5, 5), &[(1, 1)]), [("new".into(), 2)]);
    }
}
