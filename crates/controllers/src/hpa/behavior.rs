//! How fast and how far a scale may move: stabilization, policies, bounds. Pure (upstream's
//! `normalizeDesiredReplicasWithBehaviors`).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec};

/// What was thought and done lately.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Sizes that the metrics called for.
    recommended: Vec<(Timestamp, i32)>,
    /// By how much the scale was changed.
    changed: Vec<(Timestamp, i32)>,
}

impl Memory {
    /// The scale was changed by that much.
    pub fn note_change(&mut self, by: i32, now: Timestamp) {
        self.changed.push((now, by));
    }

    fn forget(&mut self, now: Timestamp) {
        // No window is longer than an hour, no period than half of one.
        let recent = |(at, _): &(Timestamp, i32)| now.duration_since(*at) <= SignedDuration::from_hours(1);
        self.recommended.retain(recent);
        self.changed.retain(recent);
    }
}

/// The size to go to, and the condition that says why it is not what the metrics called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    pub replicas: i32,
    /// Reason and message of `AbleToScale` if recent recommendations hold it back.
    pub stabilized: Option<(&'static str, &'static str)>,
    /// Reason and message of `ScalingLimited` if bounds or policies do.
    pub limited: Option<(&'static str, &'static str)>,
}

/// Where to go from `current` if the metrics call for `desired`.
pub fn bound(
    spec: &HorizontalPodAutoscalerSpec,
    memory: &mut Memory,
    current: i32,
    desired: i32,
    now: Timestamp,
) -> Bounded {
    memory.forget(now);
    let behavior = spec.behavior.clone().unwrap_or_default();
    let (up, down) = (with_defaults(behavior.scale_up, true), with_defaults(behavior.scale_down, false));
    let stable = stabilize(&up, &down, memory, current, desired, now);
    memory.recommended.push((now, desired));
    let stabilized = (stable != desired).then_some(match desired < stable {
        true => (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        ),
        false => (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        ),
    });
    let (least, most) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    let (mut replicas, mut limited) = (stable, None);
    if stable > current {
        let limit = limit_up(&up, memory, current, now).max(current);
        if stable > limit.min(most) {
            replicas = limit.min(most);
            limited = Some(match limit < most {
                true => ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"),
                false => ("TooManyReplicas", "the desired replica count is more than the maximum replica count"),
            });
        }
    } else if stable < current {
        let limit = limit_down(&down, memory, current, now).min(current);
        if stable < limit.max(least) {
            replicas = limit.max(least);
            limited = Some(match limit > least {
                true => {
                    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
                }
                false => ("TooFewReplicas", "the desired replica count is less than the minimum replica count"),
            });
        }
    } else if stable > most || stable < least {
        replicas = stable.clamp(least, most);
    }
    Bounded { replicas, stabilized, limited }
}

fn with_defaults(rules: Option<HPAScalingRules>, up: bool) -> HPAScalingRules {
    let policy = |kind: &str, value: i32| HPAScalingPolicy { type_: kind.into(), value, period_seconds: 15 };
    let mut rules = rules.unwrap_or_default();
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        rules.policies = Some(match up {
            true => vec![policy("Pods", 4), policy("Percent", 100)],
            false => vec![policy("Percent", 100)],
        });
    }
    rules.stabilization_window_seconds.get_or_insert(if up { 0 } else { 300 });
    rules
}

/// Up goes to the lowest, down to the highest recommendation of the window.
fn stabilize(
    up: &HPAScalingRules,
    down: &HPAScalingRules,
    memory: &Memory,
    current: i32,
    desired: i32,
    now: Timestamp,
) -> i32 {
    let within = |rules: &HPAScalingRules| {
        let window = SignedDuration::from_secs(rules.stabilization_window_seconds.unwrap_or(0).into());
        memory.recommended.iter().filter(move |(at, _)| now.duration_since(*at) < window).map(|(_, n)| *n)
    };
    let lowest = within(up).chain([desired]).min().unwrap_or(desired);
    let highest = within(down).chain([desired]).max().unwrap_or(desired);
    let risen = if current < lowest { lowest } else { current };
    if risen > highest { highest } else { risen }
}

/// By how much the scale was changed in a policy's period.
fn changed(memory: &Memory, policy: &HPAScalingPolicy, up: bool, now: Timestamp) -> i32 {
    let period = SignedDuration::from_secs(policy.period_seconds.into());
    let recent = memory.changed.iter().filter(|(at, by)| now.duration_since(*at) < period && (*by > 0) == up);
    recent.map(|(_, by)| by.abs()).sum()
}

fn limit_up(rules: &HPAScalingRules, memory: &Memory, current: i32, now: Timestamp) -> i32 {
    let limits = rules.policies.iter().flatten().map(|policy| {
        let start = current - changed(memory, policy, true, now);
        match policy.type_.as_str() {
            "Pods" => start.saturating_add(policy.value),
            _ => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
        }
    });
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        Some("Min") => limits.min().unwrap_or(current),
        _ => limits.max().unwrap_or(current),
    }
}

fn limit_down(rules: &HPAScalingRules, memory: &Memory, current: i32, now: Timestamp) -> i32 {
    let limits = rules.policies.iter().flatten().map(|policy| {
        let start = current + changed(memory, policy, false, now);
        match policy.type_.as_str() {
            "Pods" => start - policy.value,
            _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
        }
    });
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        // The policy that changes least.
        Some("Min") => limits.max().unwrap_or(current),
        _ => limits.min().unwrap_or(current),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(behavior: Value) -> HorizontalPodAutoscalerSpec {
        serde_json::from_value(json!({"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 2, "maxReplicas": 50, "behavior": behavior})).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn fresh(behavior: Value, current: i32, desired: i32) -> (i32, Option<&'static str>) {
        let bounded = bound(&spec(behavior), &mut Memory::default(), current, desired, at(1000));
        (bounded.replicas, bounded.limited.map(|(reason, _)| reason))
    }

    #[test]
    fn policies_and_bounds_hold_the_scale() {
        let pods = |direction: &str, value: i32, select: &str| {
            json!({direction: {"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": [
                {"type": "Pods", "value": value, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]}})
        };
        for (behavior, current, desired, expected) in [
            (json!(null), 2, 5, (5, None)),
            (json!(null), 2, 20, (6, Some("ScaleUpLimit"))),
            (json!(null), 10, 30, (20, Some("ScaleUpLimit"))),
            (json!(null), 40, 90, (50, Some("TooManyReplicas"))),
            (json!(null), 10, 1, (2, Some("TooFewReplicas"))),
            (pods("scaleUp", 3, "Max"), 10, 30, (15, Some("ScaleUpLimit"))),
            (pods("scaleUp", 3, "Min"), 10, 30, (13, Some("ScaleUpLimit"))),
            (pods("scaleUp", 3, "Disabled"), 10, 30, (10, Some("ScaleUpLimit"))),
            (pods("scaleDown", 3, "Max"), 20, 2, (10, Some("ScaleDownLimit"))),
            (pods("scaleDown", 3, "Min"), 20, 2, (17, Some("ScaleDownLimit"))),
        ] {
            assert_eq!(fresh(behavior.clone(), current, desired), expected, "{behavior} {current} {desired}");
        }
    }

    #[test]
    fn a_scale_goes_down_only_as_far_as_was_called_for_all_the_while() {
        let (spec, mut memory) = (spec(json!(null)), Memory::default());
        assert_eq!(bound(&spec, &mut memory, 10, 9, at(0)).replicas, 9);
        let held = bound(&spec, &mut memory, 10, 4, at(100));
        assert_eq!((held.replicas, held.stabilized.map(|(reason, _)| reason)), (9, Some("ScaleDownStabilized")));
        assert_eq!(bound(&spec, &mut memory, 9, 4, at(301)).replicas, 4);
    }

    #[test]
    fn what_was_added_a_moment_ago_counts_towards_the_limit() {
        let (spec, mut memory) = (spec(json!(null)), Memory::default());
        memory.note_change(4, at(0));
        assert_eq!(bound(&spec, &mut memory, 6, 30, at(10)).replicas, 6);
        assert_eq!(bound(&spec, &mut memory, 6, 30, at(20)).replicas, 12);
    }
}
