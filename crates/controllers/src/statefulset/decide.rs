//! What a StatefulSet needs next, one pod after the other or all at once. Pure (upstream's `updateStatefulSet`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetStatus},
    core::v1::Pod,
};
use kube::ResourceExt;

use super::identity::{ordinal, replicas, revision, start};
use crate::{percent, pods};

/// A set and its pods at a moment.
pub struct View<'a> {
    pub set: &'a StatefulSet,
    pub pods: &'a [Arc<Pod>],
    /// Names of revisions: of most pods, and of the present template.
    pub current: &'a str,
    pub update: &'a str,
    pub now: Timestamp,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The pod with this ordinal is made, from the current revision or from the new one.
    Create { ordinal: i32, updated: bool },
    /// It ended by itself and is made anew once it is gone.
    Recreate(Arc<Pod>),
    /// Its labels and claims are as they should be.
    Keep(Arc<Pod>),
    /// It is one too many.
    ScaleDown(Arc<Pod>),
    /// It is to come back from the new revision.
    Replace(Arc<Pod>),
}

/// Decides.
pub fn decide(view: &View) -> Vec<Step> {
    let mut steps = Vec::new();
    if view.set.metadata.deletion_timestamp.is_none() {
        let _ = plan(view, &mut steps);
    }
    steps
}

/// A reason to wait for the world before going on.
struct Wait;

fn plan(view: &View, steps: &mut Vec<Step>) -> Result<(), Wait> {
    let set = view.set;
    let ordered = !is_parallel(set);
    let by_ordinal: BTreeMap<i32, &Arc<Pod>> =
        view.pods.iter().filter_map(|p| Some((ordinal(&set.name_any(), p)?, p))).collect();
    let wanted = start(set)..start(set) + replicas(set);
    for number in wanted.clone() {
        match by_ordinal.get(&number) {
            None => {
                steps.push(Step::Create { ordinal: number, updated: !keeps_current(view, number) });
                wait_if(ordered)?;
            }
            Some(pod) if pods::is_terminal(pod) => {
                if !is_terminating(pod) {
                    steps.push(Step::Recreate((*pod).clone()));
                }
                wait_if(ordered)?;
            }
            Some(pod) => {
                if !is_terminating(pod) {
                    steps.push(Step::Keep((*pod).clone()));
                }
                wait_if(ordered && (is_terminating(pod) || !is_available(view, pod)))?;
            }
        }
    }
    let condemned: Vec<_> = by_ordinal.iter().rev().filter(|(n, _)| !wanted.contains(n)).map(|(_, p)| *p).collect();
    condemned.iter().filter(|p| !is_terminating(p)).for_each(|p| steps.push(Step::Keep((*p).clone())));
    let first_unhealthy = by_ordinal.values().find(|p| !is_healthy(p)).map(|p| p.uid());
    for pod in condemned {
        if is_terminating(pod) {
            wait_if(ordered)?;
            continue;
        }
        // One that does not work may go if it is the lowest that does not.
        wait_if(ordered && !is_available(view, pod) && first_unhealthy != Some(pod.uid()))?;
        steps.push(Step::ScaleDown(pod.clone()));
        wait_if(ordered)?;
    }
    roll(view, &by_ordinal, steps);
    Ok(())
}

fn wait_if(so: bool) -> Result<(), Wait> {
    if so { Err(Wait) } else { Ok(()) }
}

/// Replaces pods of another revision, from the highest ordinal down to the partition.
fn roll(view: &View, by_ordinal: &BTreeMap<i32, &Arc<Pod>>, steps: &mut Vec<Step>) {
    let Some(spec) = &view.set.spec else { return };
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return;
    }
    let rolling = strategy.rolling_update.unwrap_or_default();
    let total = replicas(view.set);
    let most = rolling.max_unavailable.as_ref().map_or(1, |m| percent::resolve(m, total, true).max(1));
    let first = start(view.set);
    let replicas_: Vec<_> = (first..first + total).map(|n| by_ordinal.get(&n).copied()).collect();
    let missing = replicas_.iter().filter(|p| p.is_none_or(|p| is_terminating(p) || !is_available(view, p))).count();
    let mut left = most - missing as i32;
    let from = usize::try_from(rolling.partition.unwrap_or(0)).unwrap_or(0);
    for pod in replicas_.into_iter().skip(from).rev() {
        let Some(pod) = pod else { continue };
        if revision(pod) == view.update || is_terminating(pod) || pods::is_terminal(pod) {
            continue;
        }
        // What does not work anyway costs nothing.
        let free = !is_available(view, pod);
        if !free && left <= 0 {
            continue;
        }
        left -= i32::from(!free);
        steps.push(Step::Replace(pod.clone()));
    }
}

fn is_parallel(set: &StatefulSet) -> bool {
    set.spec.as_ref().and_then(|s| s.pod_management_policy.as_deref()) == Some("Parallel")
}

/// Below the partition new pods come from the revision that most have.
fn keeps_current(view: &View, ordinal: i32) -> bool {
    let strategy = view.set.spec.as_ref().and_then(|s| s.update_strategy.clone()).unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return false;
    }
    let below = match strategy.rolling_update {
        Some(rolling) => rolling.partition.unwrap_or(0),
        None => view.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0),
    };
    ordinal < start(view.set) + below
}

fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn is_healthy(pod: &Pod) -> bool {
    is_running_and_ready(pod) && !is_terminating(pod)
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

fn min_ready_seconds(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
}

fn is_available(view: &View, pod: &Pod) -> bool {
    is_running_and_ready(pod) && pods::is_available(pod, min_ready_seconds(view.set), view.now)
}

/// When time alone makes a pod available.
pub fn look_again(view: &View) -> Option<Duration> {
    pods::until_available(view.pods, min_ready_seconds(view.set), view.now)
}

/// The status before the steps are taken.
pub fn status(view: &View, collisions: Option<i32>) -> StatefulSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| view.pods.iter().filter(|p| test(p)).count() as i32;
    let of = |name: &str| count(&|p| !is_terminating(p) && revision(p) == name);
    let some = |n: i32| Some(n).filter(|n| *n != 0);
    let mut status = StatefulSetStatus {
        replicas: view.pods.len() as i32,
        ready_replicas: some(count(&is_running_and_ready)),
        available_replicas: Some(count(&|p| is_available(view, p))),
        current_replicas: some(of(view.current)),
        updated_replicas: some(of(view.update)),
        current_revision: Some(view.current.into()),
        update_revision: Some(view.update.into()),
        observed_generation: view.set.metadata.generation,
        collision_count: Some(collisions.unwrap_or(0)),
        conditions: view.set.status.as_ref().and_then(|s| s.conditions.clone()),
    };
    let strategy = view.set.spec.as_ref().and_then(|s| s.update_strategy.as_ref()).and_then(|s| s.type_.as_deref());
    let total = replicas(view.set);
    let all = |n: Option<i32>| n.unwrap_or(0) == total;
    if strategy != Some("OnDelete")
        && all(status.updated_replicas)
        && all(status.ready_replicas)
        && status.replicas == total
    {
        // The update is over.
        status.current_revision = Some(view.update.into());
        status.current_replicas = status.updated_replicas;
    }
    status
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(replicas: i32, extra: Value) -> StatefulSet {
        let mut spec = json!({"replicas": replicas, "selector": {}, "template": {}, "serviceName": "s",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": spec})).unwrap()
    }

    /// `0:new`, `1:old!` (not ready), `2:old-` (terminating), `3:new+` (failed).
    fn pod(text: &str) -> Arc<Pod> {
        let (number, rest) = text.split_once(':').unwrap();
        let (rest, mark) = match rest.strip_suffix(['!', '-', '+']) {
            Some(short) => (short, rest.chars().last()),
            None => (rest, None),
        };
        let name = format!("db-{number}");
        let deleted = (mark == Some('-')).then_some("2026-01-01T00:00:00Z");
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "labels": {"controller-revision-hash": rest}, "deletionTimestamp": deleted},
            "status": {"phase": if mark == Some('+') { "Failed" } else { "Running" },
                "conditions": [{"type": "Ready", "status": if mark == Some('!') { "False" } else { "True" }, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }));
        Arc::new(pod.unwrap())
    }

    /// `+0` create, `+0o` create from the old revision, `*0` recreate, `-0` scale down, `~0` replace.
    fn steps(set: &StatefulSet, pods: &str) -> String {
        let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
        let now = "2026-01-01T00:00:30Z".parse().unwrap();
        let view = View { set, pods: &pods, current: "old", update: "new", now };
        let number = |p: &Pod| p.name_any()[3..].to_owned();
        let words = decide(&view).into_iter().filter_map(|step| match step {
            Step::Create { ordinal, updated } => Some(format!("+{ordinal}{}", if updated { "" } else { "o" })),
            Step::Recreate(p) => Some(format!("*{}", number(&p))),
            Step::Keep(_) => None,
            Step::ScaleDown(p) => Some(format!("-{}", number(&p))),
            Step::Replace(p) => Some(format!("~{}", number(&p))),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ordered_sets_take_one_step_after_the_other() {
        for (pods, expected) in [
            ("", "+0"),
            ("0:new!", ""),
            ("0:new", "+1"),
            ("0:new 1:new", "+2"),
            ("0:new 1:new 2:new", ""),
            ("0:new 2:new", "+1"),
            ("0:new+ 1:new 2:new", "*0"),
            ("0:new 1:new 2:new 3:new 4:new", "-4"),
            ("0:new 1:new 2:new 3:new 4:new-", ""),
            ("0:new 1:new! 2:new 3:new", ""),
            ("0:new 1:new 2:new 3:new! 4:new", "-4"),
            ("0:new 1:new 2:new 3:new! 4:new!", ""),
            ("0:new 1:new 2:new 3:new!", "-3"),
            ("0:old 1:old 2:old", "~2"),
            ("0:old 1:old 2:new!", ""),
            ("0:old 1:old 2:new", "~1"),
            ("0:old 1:old 2:old 3:old", "-3"),
        ] {
            assert_eq!(steps(&set(3, json!({})), pods), expected, "{pods}");
        }
    }

    #[test]
    fn parallel_sets_do_all_at_once() {
        let set = set(3, json!({"podManagementPolicy": "Parallel"}));
        for (pods, expected) in [
            ("", "+0 +1 +2"),
            ("1:new!", "+0 +2"),
            ("0:new 1:new 2:new 3:new 4:new!", "-4 -3"),
            ("0:old 1:old 2:old", "~2"),
            ("0:old 1:old! 2:old", "~1"),
        ] {
            assert_eq!(steps(&set, pods), expected, "{pods}");
        }
    }

    #[test]
    fn a_partition_holds_the_lower_ordinals_back_and_more_may_be_missing_if_allowed() {
        let rolling =
            |rolling: Value| set(4, json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}));
        assert_eq!(steps(&rolling(json!({"partition": 2})), "0:old 1:old 2:old 3:new"), "~2");
        assert_eq!(steps(&rolling(json!({"partition": 2})), "0:old 1:old 2:new 3:new"), "");
        assert_eq!(steps(&rolling(json!({"partition": 2})), "0:old 2:new 3:new"), "+1o");
        assert_eq!(steps(&rolling(json!({"maxUnavailable": 2})), "0:old 1:old 2:old 3:old"), "~3 ~2");
        assert_eq!(steps(&rolling(json!({"maxUnavailable": "50%"})), "0:old 1:old 2:old 3:new"), "~2 ~1");
        let manual = set(2, json!({"updateStrategy": {"type": "OnDelete"}}));
        assert_eq!(steps(&manual, "0:old 1:old"), "");
        assert_eq!(steps(&manual, "0:old"), "+1");
    }

    #[test]
    fn ordinals_may_start_elsewhere_and_readiness_may_have_to_last() {
        let shifted = set(2, json!({"ordinals": {"start": 3}}));
        assert_eq!(steps(&shifted, "3:new"), "+4");
        assert_eq!(steps(&shifted, "0:new 3:new 4:new"), "-0");
        assert_eq!(steps(&set(2, json!({"minReadySeconds": 60})), "0:new"), "");
        assert_eq!(steps(&set(2, json!({"minReadySeconds": 30})), "0:new"), "+1");
    }

    #[test]
    fn the_status_moves_to_the_new_revision_when_all_pods_have() {
        let set = set(2, json!({}));
        let told = |pods: &[Arc<Pod>]| {
            let now = "2026-01-01T00:00:30Z".parse().unwrap();
            let status = status(&View { set: &set, pods, current: "old", update: "new", now }, None);
            (
                status.current_revision.unwrap(),
                status.current_replicas,
                status.updated_replicas,
                status.available_replicas,
            )
        };
        assert_eq!(told(&[pod("0:old"), pod("1:new")]), ("old".into(), Some(1), Some(1), Some(2)));
        assert_eq!(told(&[pod("0:new"), pod("1:new!")]), ("old".into(), None, Some(2), Some(1)));
        assert_eq!(told(&[pod("0:new"), pod("1:new")]), ("new".into(), Some(2), Some(2), Some(2)));
    }
}
