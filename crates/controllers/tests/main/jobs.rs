//! Jobs run their pods to the end and count each of them once.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Pod},
};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};

use crate::world::{OUTCOME, World};

fn job(spec: Value, outcome: &str) -> Value {
    let template = json!({"metadata": {"annotations": {OUTCOME: outcome}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let mut job = json!({"metadata": {"name": "work"}, "spec": {"template": template}});
    job["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    job
}

fn condition(job: &Job, kind: &str) -> Option<(String, String, String)> {
    let all = job.status.as_ref()?.conditions.as_ref()?;
    let found = all.iter().find(|c| c.type_ == kind)?.clone();
    Some((found.status, found.reason.unwrap_or_default(), found.message.unwrap_or_default()))
}

fn is(job: &Job, kind: &str) -> bool {
    condition(job, kind).is_some_and(|(status, _, _)| status == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_completes_and_counts_every_pod_once() {
    let world = World::new().await;
    world.create::<Job>(job(json!({"completions": 40, "parallelism": 8}), "exit:0")).await;
    let mut most = 0;
    let done = world.until_one("work", "completion", |j: &Job| {
        most = most.max(j.status.as_ref().and_then(|s| s.succeeded).unwrap_or(0));
        is(j, "Complete")
    });
    let done = done.await;
    let status = done.status.clone().unwrap();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(40), None, None));
    assert!(status.completion_time.is_some() && status.start_time.is_some());
    let met =
        ("True".to_owned(), "CompletionsReached".to_owned(), "Reached expected number of succeeded pods".to_owned());
    assert_eq!(condition(&done, "SuccessCriteriaMet"), Some(met.clone()));
    assert_eq!(condition(&done, "Complete"), Some(met));
    let pods = world.until("all pods to be free", |all: &[Pod]| all.iter().all(|p| p.finalizers().is_empty())).await;
    assert_eq!(pods.len(), 40, "no more pods were made than needed");
    world.until("the event", |all: &[Event]| all.iter().any(|e| e.reason.as_deref() == Some("Completed"))).await;
    let counted = world.counted().await;
    for line in [
        "job_controller_job_pods_finished_total{completion_mode=\"NonIndexed\",result=\"succeeded\"} 40\n",
        "job_controller_jobs_finished_total{completion_mode=\"NonIndexed\",reason=\"CompletionsReached\",result=\"succeeded\"} 1\n",
        "job_controller_job_syncs_total{action=\"pods_created\",completion_mode=\"NonIndexed\",result=\"success\"} ",
        "job_controller_job_sync_duration_seconds_bucket{action=\"pods_created\",completion_mode=\"NonIndexed\",result=\"success\",le=\"0.004\"} ",
        "workqueue_adds_total{name=\"job\"} ",
        "workqueue_queue_duration_seconds_bucket{name=\"job\",le=\"1e-08\"} ",
        "workqueue_work_duration_seconds_count{name=\"job\"} ",
        "workqueue_depth{name=\"job\"} ",
    ] {
        assert!(counted.contains(line), "{line} is not in {counted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_indexed_job_completes_every_index() {
    let world = World::new().await;
    world.create::<Job>(job(json!({"completions": 5, "parallelism": 2, "completionMode": "Indexed"}), "exit:0")).await;
    let done = world.until_one("work", "completion", |j: &Job| is(j, "Complete")).await;
    assert_eq!(done.status.unwrap().completed_indexes.as_deref(), Some("0-4"));
    let pods = world.until("five pods", |all: &[Pod]| all.len() == 5).await;
    let mut indexes: Vec<_> =
        pods.iter().map(|p| p.labels()["batch.kubernetes.io/job-completion-index"].clone()).collect();
    indexes.sort();
    assert_eq!(indexes, ["0", "1", "2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_beyond_its_limit_fails_and_stops_what_still_runs() {
    let world = World::new().await;
    world.create::<Job>(job(json!({"completions": 3, "parallelism": 3, "backoffLimit": 0}), "ready")).await;
    let pods = world
        .until("three pods", |all: &[Pod]| {
            all.len() == 3 && all.iter().all(|p| p.spec.as_ref().unwrap().node_name.is_some())
        })
        .await;
    world.outcome(&pods[0].name_any(), "exit:1").await;
    let failed = world.until_one("work", "failure", |j: &Job| is(j, "Failed")).await;
    let words = (
        "True".to_owned(),
        "BackoffLimitExceeded".to_owned(),
        "Job has reached the specified backoff limit".to_owned(),
    );
    assert_eq!(condition(&failed, "Failed"), Some(words.clone()));
    assert_eq!(condition(&failed, "FailureTarget"), Some(words));
    let status = failed.status.unwrap();
    assert_eq!((status.active, status.failed, status.terminating), (None, Some(3), Some(0)));
    world.until("the failed pod alone", |all: &[Pod]| all.len() == 1 && all[0].finalizers().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_has_no_pods_until_it_is_resumed() {
    let world = World::new().await;
    world.create::<Job>(job(json!({"completions": 1, "suspend": true}), "ready")).await;
    let waiting = world.until_one("work", "suspension", |j: &Job| is(j, "Suspended")).await;
    assert!(waiting.status.unwrap().start_time.is_none());
    world.merge::<Job>("work", json!({"spec": {"suspend": false}})).await;
    let pods = world.until("a pod", |all: &[Pod]| all.len() == 1).await;
    let resumed = world
        .until_one("work", "resumption", |j: &Job| condition(j, "Suspended").is_some_and(|c| c.1 == "JobResumed"))
        .await;
    assert!(resumed.status.unwrap().start_time.is_some());
    world.merge::<Job>("work", json!({"spec": {"suspend": true}})).await;
    let again = world.until_one("work", "another suspension", |j: &Job| is(j, "Suspended")).await;
    assert!(again.status.unwrap().start_time.is_none());
    world.until("no pods", |all: &[Pod]| all.is_empty()).await;
    world.merge::<Job>("work", json!({"spec": {"suspend": false}})).await;
    let pods = world.until("another pod", |all: &[Pod]| all.len() == 1 && all[0].uid() != pods[0].uid()).await;
    world.outcome(&pods[0].name_any(), "exit:0").await;
    world.until_one("work", "completion", |j: &Job| is(j, "Complete")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_job() {
    let world = World::new().await;
    world.create::<Job>(job(json!({"activeDeadlineSeconds": 1}), "ready")).await;
    let failed = world.until_one("work", "the deadline", |j: &Job| is(j, "Failed")).await;
    assert_eq!(condition(&failed, "Failed").unwrap().1, "DeadlineExceeded");
    world.until("no pods", |all: &[Pod]| all.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_may_fail_the_job_at_once() {
    let world = World::new().await;
    let policy = json!({"rules": [{"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}}]});
    world.create::<Job>(job(json!({"completions": 2, "podFailurePolicy": policy}), "exit:42")).await;
    let failed = world.until_one("work", "failure", |j: &Job| is(j, "Failed")).await;
    let (_, reason, message) = condition(&failed, "Failed").unwrap();
    assert_eq!(reason, "PodFailurePolicy");
    assert!(message.ends_with("failed with exit code 42 matching FailJob rule at index 0"), "{message}");
    assert_eq!(failed.status.unwrap().failed, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_policy_ends_a_job_early() {
    let world = World::new().await;
    let policy = json!({"rules": [{"succeededIndexes": "1"}]});
    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "successPolicy": policy});
    world.create::<Job>(job(spec, "ready")).await;
    let leader = "batch.kubernetes.io/job-completion-index";
    let pods = world.until("three pods", |all: &[Pod]| all.len() == 3).await;
    let one = pods.iter().find(|p| p.labels()[leader] == "1").unwrap().name_any();
    world.outcome(&one, "exit:0").await;
    let done = world.until_one("work", "completion", |j: &Job| is(j, "Complete")).await;
    assert_eq!(condition(&done, "Complete").unwrap().1, "SuccessPolicy");
    assert_eq!(done.status.unwrap().completed_indexes.as_deref(), Some("1"));
    world.until("the leader's pod alone", |all: &[Pod]| all.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_goes_after_its_time_and_a_deleted_one_frees_its_pods() {
    let world = World::new().await;
    world.create::<Job>(job(json!({"ttlSecondsAfterFinished": 1}), "exit:0")).await;
    world.until_one("work", "completion", |j: &Job| is(j, "Complete")).await;
    world.until("no Jobs", |all: &[Job]| all.is_empty()).await;
    world.until("no pods", |all: &[Pod]| all.is_empty()).await;
    world.create::<Job>(job(json!({"completions": 2, "parallelism": 2}), "ready")).await;
    world.until("two pods", |all: &[Pod]| all.len() == 2).await;
    world.delete::<Job>("work", DeleteParams::background()).await;
    world.until("no pods", |all: &[Pod]| all.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_the_job_itself_ends_are_no_failures() {
    let world = World::new().await;
    world.create::<Job>(job(json!({"completions": 4, "parallelism": 3, "backoffLimit": 0}), "ready")).await;
    let counts = |job: &Job| {
        let status = job.status.clone().unwrap_or_default();
        (status.active.unwrap_or(0), status.ready, status.failed, status.terminating)
    };
    world.until_one("work", "three at work", |j: &Job| counts(j) == (3, Some(3), None, Some(0))).await;
    world.merge::<Job>("work", json!({"spec": {"parallelism": 1}})).await;
    world.until_one("work", "one at work", |j: &Job| counts(j) == (1, Some(1), None, Some(0))).await;
    world.merge::<Job>("work", json!({"spec": {"suspend": true}})).await;
    let at_rest = world
        .until_one("work", "none at work", |j: &Job| is(j, "Suspended") && counts(j) == (0, Some(0), None, Some(0)))
        .await;
    assert!(!is(&at_rest, "FailureTarget"), "{:?}", at_rest.status);
    world.until("no pods", |all: &[Pod]| all.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_over_when_its_last_pod_is() {
    let world = World::new().await;
    let mut work = job(json!({"completions": 2, "parallelism": 2, "backoffLimit": 0}), "ready");
    work["spec"]["template"]["metadata"]["finalizers"] = json!(["test/hold"]);
    world.create::<Job>(work).await;
    let pods = world.until("two pods", |all: &[Pod]| all.len() == 2).await;
    // Nobody ends the other.
    world.outcome(&pods[1].name_any(), "none").await;
    world.outcome(&pods[0].name_any(), "exit:1").await;
    let held = world
        .until_one("work", "its fate", |j: &Job| {
            is(j, "FailureTarget") && j.status.as_ref().is_some_and(|s| s.terminating == Some(1) && s.failed == Some(2))
        })
        .await;
    assert!(!is(&held, "Failed"));
    for pod in &pods {
        world.merge::<Pod>(&pod.name_any(), json!({"metadata": {"finalizers": null}})).await;
    }
    world.delete::<Pod>(&pods[1].name_any(), DeleteParams::default().grace_period(0)).await;
    let over = world.until_one("work", "its end", |j: &Job| is(j, "Failed")).await;
    assert_eq!(over.status.unwrap().terminating, Some(0));
}
