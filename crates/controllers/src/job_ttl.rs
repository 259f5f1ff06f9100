//! Jobs that say how long they are to be kept after their end (`ttlSecondsAfterFinished`) go then, and their pods
//! with them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};

use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::Change,
    job::finished,
    queue::{Key, Queue},
};

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.jobs.synced().await;
    let on_job = queue.clone();
    shared.jobs.listen(move |change| {
        if let Change::Applied { new: job, .. } = change
            && expiry(job).is_some()
        {
            on_job.add(Key::of(&**job));
        }
    });
    let again = queue.clone();
    queue.work("ttl-after-finished", 4, |key| reconcile(shared.clone(), again.clone(), key)).await;
}

/// When the Job is to go, if it is over and is to go at all.
fn expiry(job: &Job) -> Option<Timestamp> {
    let keep = job.spec.as_ref()?.ttl_seconds_after_finished.filter(|_| job.metadata.deletion_timestamp.is_none())?;
    let ended = finished(job)?.last_transition_time.as_ref()?.0;
    ended.checked_add(SignedDuration::from_secs(i64::from(keep))).ok()
}

async fn reconcile(shared: Shared, queue: Queue, key: Key) -> Result<(), Error> {
    let Some(expiry_known) = shared.jobs.get(&key).as_deref().and_then(expiry) else { return Ok(()) };
    if let Some(wait) = until(expiry_known, Timestamp::now()) {
        queue.add_after(key, wait);
        return Ok(());
    }
    // The time may have been prolonged a moment ago: ask before deleting for good.
    let api: Api<Job> = Api::namespaced(shared.client.clone(), &key.namespace);
    let Some(job) = api.get_opt(&key.name).await? else { return Ok(()) };
    match expiry(&job) {
        Some(at) if until(at, Timestamp::now()).is_none() => {
            let params = DeleteParams::foreground().preconditions(Preconditions {
                uid: job.metadata.uid.clone(),
                resource_version: job.metadata.resource_version.clone(),
            });
            gone_is_fine(api.delete(&key.name, &params).await)
        }
        _ => Ok(()),
    }
}

/// How long until then; `None` once it has come.
fn until(at: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(at.duration_since(now)).ok().filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_goes_its_time_after_its_end() {
        let job = |ttl: Option<i32>, ended: &str| -> Job {
            serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": {"template": {}, "ttlSecondsAfterFinished": ttl},
                "status": {"conditions": [{"type": ended, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
            .unwrap()
        };
        let at: Timestamp = "2026-01-01T00:00:05Z".parse().unwrap();
        assert_eq!(expiry(&job(Some(5), "Complete")), Some(at));
        assert_eq!(expiry(&job(Some(5), "Failed")), Some(at));
        assert_eq!(expiry(&job(Some(5), "Suspended")), None);
        assert_eq!(expiry(&job(None, "Complete")), None);
        assert_eq!(until(at, at), None);
        // A clock that jumps: forward, and it goes; back, and it stays until the time has come again.
        let hour = SignedDuration::from_hours(1);
        assert_eq!(until(at, at + hour), None);
        assert_eq!(until(at, at - hour), Some(Duration::from_secs(3600)));
    }
}
