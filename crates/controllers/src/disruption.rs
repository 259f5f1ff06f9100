//! PodDisruptionBudget: how many of the pods that it covers may be evicted now. The eviction itself asks the
//! status that is written here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::{Pod, ReplicationController},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};
use kube::{
    Api, ResourceExt,
    api::PostParams,
    core::{Selector, SelectorExt},
};
use recording::Recorder;
use tokio::task::JoinSet;

use crate::{
    Error, Shared, claim,
    error::gone_is_fine,
    informer::{self, Informer},
    ownership::{controller_key, controller_of},
    percent, pods,
    queue::{Key, Queue},
};

/// A pod that was to be evicted and is still there after this time counts again.
const EVICTION: SignedDuration = SignedDuration::from_mins(2);

pub(crate) async fn run(shared: Shared) {
    let mut tasks = JoinSet::new();
    let budgets: Informer<PodDisruptionBudget> =
        Informer::start(shared.client.clone(), informer::untouched, &mut tasks);
    let queue = Queue::default();
    shared.pods.synced().await;
    shared.replica_sets.synced().await;
    shared.deployments.synced().await;
    shared.stateful_sets.synced().await;
    shared.replication_controllers.synced().await;
    budgets.synced().await;
    let on_budget = queue.clone();
    budgets.listen(move |change| on_budget.add(Key::of(&**change.object())));
    let (on_pod, all) = (queue.clone(), budgets.clone());
    shared.pods.listen(move |change| {
        for budget in all.in_namespace(&change.object().namespace().unwrap_or_default()) {
            let selector = selector(&budget);
            if selector.is_ok_and(|s| change.states().any(|pod| s.matches(pod.labels()))) {
                on_pod.add(Key::of(&*budget));
            }
        }
    });
    // A scale that changes moves what is expected; pods follow, but perhaps only later.
    let notify = |queue: &Queue| {
        let (queue, all) = (queue.clone(), budgets.clone());
        move |namespace: String| all.in_namespace(&namespace).iter().for_each(|b| queue.add(Key::of(&**b)))
    };
    let tell = notify(&queue);
    shared.deployments.listen(move |c| tell(c.object().namespace().unwrap_or_default()));
    let tell = notify(&queue);
    shared.replica_sets.listen(move |c| tell(c.object().namespace().unwrap_or_default()));
    let tell = notify(&queue);
    shared.stateful_sets.listen(move |c| tell(c.object().namespace().unwrap_or_default()));
    let tell = notify(&queue);
    shared.replication_controllers.listen(move |c| tell(c.object().namespace().unwrap_or_default()));
    let recorder = Recorder::start(shared.client.clone(), "controllermanager");
    let again = queue.clone();
    queue
        .work("disruption", 4, |key| reconcile(shared.clone(), budgets.clone(), recorder.clone(), again.clone(), key))
        .await;
}

/// A budget without a selector covers nothing.
fn selector(budget: &PodDisruptionBudget) -> Result<Selector, Error> {
    match budget.spec.as_ref().and_then(|s| s.selector.as_ref()) {
        Some(selector) => claim::parse(Some(selector)),
        None => Err(Error::Object("the budget has no selector".into())),
    }
}

async fn reconcile(
    shared: Shared,
    budgets: Informer<PodDisruptionBudget>,
    recorder: Recorder,
    queue: Queue,
    key: Key,
) -> Result<(), Error> {
    let Some(budget) = budgets.get(&key) else { return Ok(()) };
    let covered: Vec<Arc<Pod>> = match selector(&budget) {
        Ok(selector) => {
            shared.pods.in_namespace(&key.namespace).into_iter().filter(|p| selector.matches(p.labels())).collect()
        }
        Err(_) => Vec::new(),
    };
    if covered.is_empty() {
        recorder.normal(&*budget, "NoPods", "No matching pods found");
    }
    let now = Timestamp::now();
    let (status, recheck) = match expected(&shared, &budget, &covered) {
        Ok(Expected { pods, healthy, unmanaged }) => {
            if unmanaged {
                recorder.warning(&*budget, "UnmanagedPods", unmanaged_note(&budget));
            }
            status(&budget, &covered, pods, healthy, now)
        }
        Err(error) => {
            let note = format!("Failed to calculate the number of expected pods: {error}");
            recorder.warning(&*budget, "CalculateExpectedPodCountFailed", note);
            (failed(&budget, &error.to_string(), now), None)
        }
    };
    if let Some(wait) = recheck {
        queue.add_after(key.clone(), wait);
    }
    if budget.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let mut changed = PodDisruptionBudget::clone(&budget);
    changed.status = Some(status);
    let api: Api<PodDisruptionBudget> = Api::namespaced(shared.client.clone(), &key.namespace);
    gone_is_fine(api.replace_status(&key.name, &PostParams::default(), &changed).await)
}

fn unmanaged_note(budget: &PodDisruptionBudget) -> String {
    let selector = selector(budget).map(|s| s.to_string()).unwrap_or_default();
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

/// What a budget wants of its pods.
struct Expected {
    pods: i32,
    healthy: i32,
    /// Some pods have no controller that tells how many there should be.
    unmanaged: bool,
}

fn expected(shared: &Shared, budget: &PodDisruptionBudget, covered: &[Arc<Pod>]) -> Result<Expected, Error> {
    let spec = budget.spec.clone().unwrap_or_default();
    let scale = || scales(covered, |pod| scale_of(shared, pod));
    Ok(match (spec.max_unavailable, spec.min_available) {
        (Some(most), _) => {
            let (pods, unmanaged) = scale()?;
            Expected { pods, healthy: (pods - percent::resolve(&most, pods, true)).max(0), unmanaged }
        }
        (None, Some(IntOrString::Int(least))) => {
            Expected { pods: covered.len() as i32, healthy: least, unmanaged: false }
        }
        (None, Some(least)) => {
            let (pods, unmanaged) = scale()?;
            Expected { pods, healthy: percent::resolve(&least, pods, true), unmanaged }
        }
        (None, None) => Expected { pods: 0, healthy: 0, unmanaged: false },
    })
}

/// The UID and wanted number of what scales a pod.
type Scale = (String, i32);

/// The sum of what all controllers of the pods want, each counted once; and whether there are pods without one.
fn scales(covered: &[Arc<Pod>], scale_of: impl Fn(&Pod) -> Option<Scale>) -> Result<(i32, bool), Error> {
    let mut wanted: HashMap<String, i32> = HashMap::new();
    let mut unmanaged = false;
    for pod in covered {
        if controller_of(&**pod).is_none() {
            unmanaged = true;
            continue;
        }
        let Some((uid, replicas)) = scale_of(pod) else {
            return Err(Error::Object(format!("found no controllers for pod {:?}", pod.name_any())));
        };
        wanted.insert(uid, replicas);
    }
    Ok((wanted.values().sum(), unmanaged))
}

fn scale_of(shared: &Shared, pod: &Pod) -> Option<Scale> {
    if let Some(set) = controller_key::<ReplicaSet>(pod).and_then(|key| shared.replica_sets.get(&key)) {
        if let Some(deployment) = controller_key::<Deployment>(&*set).and_then(|key| shared.deployments.get(&key)) {
            return Some((deployment.uid()?, deployment.spec.as_ref()?.replicas.unwrap_or(1)));
        }
        return Some((set.uid()?, set.spec.as_ref()?.replicas.unwrap_or(1)));
    }
    if let Some(set) = controller_key::<StatefulSet>(pod).and_then(|key| shared.stateful_sets.get(&key)) {
        return Some((set.uid()?, set.spec.as_ref()?.replicas.unwrap_or(1)));
    }
    let old = controller_key::<ReplicationController>(pod).and_then(|key| shared.replication_controllers.get(&key))?;
    Some((old.uid()?, old.spec.as_ref()?.replicas.unwrap_or(1)))
}

/// The status, and when time changes it.
fn status(
    budget: &PodDisruptionBudget,
    covered: &[Arc<Pod>],
    expected: i32,
    desired: i32,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let before = budget.status.clone().unwrap_or_default();
    let mut disrupted: BTreeMap<String, Time> = BTreeMap::new();
    let mut recheck: Option<SignedDuration> = None;
    for (name, since) in before.disrupted_pods.iter().flatten() {
        let there = covered.iter().any(|p| p.name_any() == *name && p.metadata.deletion_timestamp.is_none());
        let left = EVICTION.checked_sub(now.duration_since(since.0)).unwrap_or_default();
        if there && left.is_positive() {
            disrupted.insert(name.clone(), since.clone());
            recheck = Some(recheck.map_or(left, |r| r.min(left)));
        }
    }
    let healthy = covered
        .iter()
        .filter(|p| {
            p.metadata.deletion_timestamp.is_none() && !disrupted.contains_key(&p.name_any()) && pods::is_ready(p)
        })
        .count() as i32;
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let (state, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: budget.metadata.generation,
        conditions: Some(conditions(budget, state, reason, "", now)),
    };
    (status, recheck.and_then(|r| Duration::try_from(r).ok()))
}

/// When it can't be told how many there should be nothing may be evicted.
fn failed(budget: &PodDisruptionBudget, message: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        conditions: Some(conditions(budget, "False", "SyncFailed", message, now)),
        ..budget.status.clone().unwrap_or_default()
    }
}

fn conditions(
    budget: &PodDisruptionBudget,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    const KIND: &str = "DisruptionAllowed";
    let mut all = budget.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let before = all.iter().find(|c| c.type_ == KIND && c.status == status).map(|c| c.last_transition_time.clone());
    all.retain(|c| c.type_ != KIND);
    all.push(Condition {
        type_: KIND.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: budget.metadata.generation,
        last_transition_time: before.unwrap_or(Time(now)),
    });
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, ready: bool, owner: Option<&str>) -> Arc<Pod> {
        let owners: Vec<Value> = owner
            .map(|uid| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid, "controller": true}))
            .into_iter()
            .collect();
        let pod = json!({"metadata": {"name": name, "ownerReferences": owners},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn budget(status: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 2}, "spec": {}, "status": status}))
            .unwrap()
    }

    #[test]
    fn what_is_healthy_beyond_need_may_go() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let pods = [pod("a", true, None), pod("b", true, None), pod("c", false, None)];
        for (expected, desired, allowed) in [(3, 1, 1), (3, 2, 0), (3, 3, 0), (0, 0, 0)] {
            let (status, _) = status(&budget(json!({})), &pods, expected, desired, now);
            assert_eq!(
                (status.current_healthy, status.disruptions_allowed),
                (Some(2), Some(allowed)),
                "{expected} {desired}"
            );
            assert_eq!(status.observed_generation, Some(2));
        }
    }

    #[test]
    fn a_pod_on_its_way_out_does_not_count_until_its_time_is_over() {
        let marked =
            budget(json!({"currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 2,
            "disruptedPods": {"a": "2026-01-01T00:00:00Z", "gone": "2026-01-01T00:00:00Z"}}));
        let pods = [pod("a", true, None), pod("b", true, None)];
        let (early, recheck) = status(&marked, &pods, 2, 1, "2026-01-01T00:01:00Z".parse().unwrap());
        assert_eq!((early.current_healthy, early.disruptions_allowed), (Some(1), Some(0)));
        assert_eq!(early.disrupted_pods.map(|d| d.len()), Some(1));
        assert_eq!(recheck, Some(Duration::from_secs(60)));
        let (late, recheck) = status(&marked, &pods, 2, 1, "2026-01-01T00:02:00Z".parse().unwrap());
        assert_eq!(
            (late.current_healthy, late.disruptions_allowed, late.disrupted_pods, recheck),
            (Some(2), Some(1), None, None)
        );
    }

    #[test]
    fn each_controller_counts_once_and_pods_without_one_are_told_of() {
        let scale = |pod: &Pod| controller_of(pod).filter(|o| o.uid != "x").map(|o| (o.uid.clone(), 5));
        let pods =
            [pod("a", true, Some("u")), pod("b", true, Some("u")), pod("c", true, Some("v")), pod("d", true, None)];
        assert_eq!(scales(&pods, scale).unwrap(), (10, true));
        let error = scales(&[pod("e", true, Some("x"))], scale).unwrap_err();
        assert_eq!(error.to_string(), "found no controllers for pod \"e\"");
    }
}
