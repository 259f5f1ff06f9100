//! CronJobs make Jobs in time.

use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Event,
};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::world::{OUTCOME, World};

fn cron_job(spec: Value, outcome: &str) -> Value {
    let pod = json!({"metadata": {"annotations": {OUTCOME: outcome}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let mut whole = json!({"schedule": "@every 1s", "jobTemplate": {"metadata": {"labels": {"of": "cron"}}, "spec": {"template": pod}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": "tick"}, "spec": whole})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_made_at_its_time_and_its_end_is_noted() {
    let world = World::new().await;
    let made = world.create::<CronJob>(cron_job(json!({}), "exit:0")).await;
    let jobs = world.until("a Job", |all: &[Job]| !all.is_empty()).await;
    let job = &jobs[0];
    assert!(job.name_any().starts_with("tick-"));
    assert_eq!(job.owner_references()[0].uid, made.uid().unwrap());
    assert_eq!(job.labels()["of"], "cron");
    assert!(job.annotations().contains_key("batch.kubernetes.io/cronjob-scheduled-timestamp"));
    let done = world.until_one("tick", "success", |c: &CronJob| {
        c.status.as_ref().is_some_and(|s| s.last_successful_time.is_some() && s.active.is_none())
    });
    assert!(done.await.status.unwrap().last_schedule_time.is_some());
    let counted = "\ncronjob_controller_job_creation_skew_duration_seconds_bucket{le=\"+Inf\"} 1\n";
    assert!(world.counted().await.contains(counted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_cron_job_makes_nothing_until_it_is_resumed() {
    let world = World::new().await;
    world.create::<CronJob>(cron_job(json!({"suspend": true}), "ready")).await;
    world
        .create::<CronJob>({
            let mut other = cron_job(json!({}), "ready");
            other["metadata"]["name"] = json!("other");
            other
        })
        .await;
    // By the time that the other one has made its Job, the first would have made one too.
    let jobs = world.until("a Job", |all: &[Job]| !all.is_empty()).await;
    assert!(jobs.iter().all(|j| j.name_any().starts_with("other-")));
    world.merge::<CronJob>("tick", json!({"spec": {"suspend": false}})).await;
    world.until("its Job", |all: &[Job]| all.iter().any(|j| j.name_any().starts_with("tick-"))).await;
}

/// A suspended CronJob whose last Job still runs and whose next time has come.
async fn overdue(policy: &str) -> (World, Job) {
    let world = World::new().await;
    let spec = json!({"schedule": "*/5 * * * *", "suspend": true, "concurrencyPolicy": policy});
    let tick = world.create::<CronJob>(cron_job(spec, "ready")).await;
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": tick.uid(), "controller": true});
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let job: Job = world
        .create(json!({"metadata": {"name": "tick-1", "ownerReferences": [owner]}, "spec": {"template": pod}}))
        .await;
    let active =
        json!([{"kind": "Job", "apiVersion": "batch/v1", "namespace": "default", "name": "tick-1", "uid": job.uid()}]);
    let ago = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(20);
    let last = ago.strftime("%FT%TZ").to_string();
    world.merge_status::<CronJob>("tick", json!({"active": active, "lastScheduleTime": last})).await;
    world.merge::<CronJob>("tick", json!({"spec": {"suspend": false}})).await;
    (world, job)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_forbids_another() {
    let (world, job) = overdue("Forbid").await;
    world
        .until("the refusal to be told", |all: &[Event]| {
            all.iter().any(|e| e.reason.as_deref() == Some("JobAlreadyActive"))
        })
        .await;
    let jobs = world.api::<Job>().list(&Default::default()).await.unwrap().items;
    assert_eq!(jobs.iter().map(|j| j.uid()).collect::<Vec<_>>(), [job.uid()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_replaced_by_another() {
    let (world, job) = overdue("Replace").await;
    let jobs = world.until("another Job", |all: &[Job]| all.len() == 1 && all[0].uid() != job.uid()).await;
    world
        .until_one("tick", "the new Job alone to be active", |c: &CronJob| {
            let active = c.status.as_ref().and_then(|s| s.active.clone()).unwrap_or_default();
            active.len() == 1 && active[0].uid == jobs[0].uid()
        })
        .await;
}
