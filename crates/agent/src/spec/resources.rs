//! Requests and limits as cgroup settings.

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};

use super::quantity;

/// What the runtime is asked to set on a container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupResources {
    /// `cpu.shares` of cgroup v1 (2..=262144); the runtime converts for v2.
    pub cpu_shares: u64,
    /// Microseconds of CPU in each period; `None` is no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: u64,
    /// Bytes; `None` is no limit.
    pub memory_limit: Option<i64>,
    /// Processes and threads; `None` is no limit.
    pub pids_limit: Option<i64>,
}

/// The period over which CPU quotas count, in microseconds.
pub const PERIOD: u64 = 100_000;

/// Settings of one container.
pub fn of(container: &Container, pids_limit: Option<i64>) -> CgroupResources {
    let cpu_limit = amount(container.resources.as_ref(), Side::Limits, "cpu", quantity::milli);
    let cpu_request = amount(container.resources.as_ref(), Side::Requests, "cpu", quantity::milli).or(cpu_limit);
    CgroupResources {
        cpu_shares: shares(cpu_request.unwrap_or(0)),
        cpu_quota: cpu_limit.filter(|m| *m > 0).map(quota),
        cpu_period: PERIOD,
        memory_limit: amount(container.resources.as_ref(), Side::Limits, "memory", quantity::whole).filter(|b| *b > 0),
        pids_limit,
    }
}

/// The names of the resources that can change while a container runs and do, from `old` to `new`.
pub fn changed(old: &ResourceRequirements, new: &ResourceRequirements) -> Vec<&'static str> {
    let differs = |name: &str| {
        [Side::Requests, Side::Limits].into_iter().any(|side| {
            amount(Some(old), side, name, quantity::milli_wide) != amount(Some(new), side, name, quantity::milli_wide)
        })
    };
    ["cpu", "memory"].into_iter().filter(|name| differs(name)).collect()
}

/// What does for both at a time: the larger of their limits, and what the later one requests.
pub fn roomier(now: &ResourceRequirements, later: &ResourceRequirements) -> ResourceRequirements {
    let mut limits = later.limits.clone().unwrap_or_default();
    for name in ["cpu", "memory"] {
        let of = |r| amount(Some(r), Side::Limits, name, quantity::milli_wide);
        match (of(now), of(later)) {
            (None, _) => drop(limits.remove(name)),
            (Some(a), Some(b)) if a > b => {
                let larger = now.limits.as_ref().and_then(|l| l.get(name));
                limits.extend(larger.map(|l| (name.to_owned(), l.clone())));
            }
            _ => {}
        }
    }
    ResourceRequirements { limits: Some(limits), ..later.clone() }
}

/// Whether both give a container the same.
pub fn same(old: &ResourceRequirements, new: &ResourceRequirements) -> bool {
    changed(old, new).is_empty()
}

/// Which half of `resources` is meant.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// `resources.requests`
    Requests,
    /// `resources.limits`
    Limits,
}

/// One amount, read by `read`.
pub fn amount<T>(
    resources: Option<&ResourceRequirements>,
    side: Side,
    name: &str,
    read: fn(&k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Option<T>,
) -> Option<T> {
    let resources = resources?;
    let map = match side {
        Side::Requests => resources.requests.as_ref(),
        Side::Limits => resources.limits.as_ref(),
    };
    map?.get(name).and_then(read)
}

fn shares(milli: i64) -> u64 {
    let shares = milli.max(0).saturating_mul(1024) / 1000;
    shares.clamp(2, 262_144).unsigned_abs()
}

fn quota(milli: i64) -> i64 {
    // The kernel refuses quotas below one millisecond.
    (milli.saturating_mul(PERIOD.cast_signed()) / 1000).max(1000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(resources: serde_json::Value) -> CgroupResources {
        of(&serde_json::from_value(json!({"name": "c", "resources": resources})).expect("a container"), None)
    }

    #[test]
    fn while_limits_change_the_larger_ones_hold() {
        let of = |limits: serde_json::Value| -> ResourceRequirements {
            serde_json::from_value(json!({"limits": limits, "requests": {"cpu": "1"}})).expect("resources")
        };
        let more = roomier(&of(json!({"cpu": "1", "memory": "2Gi"})), &of(json!({"cpu": "2", "memory": "1Gi"})));
        assert!(same(&more, &of(json!({"cpu": "2", "memory": "2Gi"}))), "{more:?}");
        let none = roomier(&of(json!({"cpu": "1"})), &of(json!({"cpu": "1", "memory": "1Gi"})));
        assert!(same(&none, &of(json!({"cpu": "1"}))), "what has no limit gets one last: {none:?}");
    }

    #[test]
    fn requests_become_shares_and_limits_quotas() {
        let none = settings(json!({}));
        assert_eq!((none.cpu_shares, none.cpu_quota, none.memory_limit), (2, None, None));
        let some = settings(json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "1500m", "memory": "64Mi"}}));
        assert_eq!((some.cpu_shares, some.cpu_quota, some.memory_limit), (256, Some(150_000), Some(67_108_864)));
        // A limit alone is a request too; tiny quotas are raised to what the kernel takes.
        let limited = settings(json!({"limits": {"cpu": "1m"}}));
        assert_eq!((limited.cpu_shares, limited.cpu_quota), (2, Some(1000)));
    }
}
