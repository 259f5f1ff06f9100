//! Which ended Jobs are beyond `successfulJobsHistoryLimit` and `failedJobsHistoryLimit`. Pure.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJobSpec, Job};

use crate::job::finished;

/// The oldest of those that succeeded and of those that failed.
pub fn superfluous(spec: &CronJobSpec, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let limits = [
        ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
        ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
    ];
    let oldest = |(end, limit): (&str, i32)| {
        let going = |job: &&Arc<Job>| {
            job.metadata.deletion_timestamp.is_none() && finished(job).is_some_and(|c| c.type_ == end)
        };
        let mut ended: Vec<_> = jobs.iter().filter(going).cloned().collect();
        ended.sort_by_key(|job| (job.status.as_ref().and_then(|s| s.start_time.clone()), job.metadata.name.clone()));
        let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        ended.truncate(surplus);
        ended
    };
    limits.into_iter().flat_map(oldest).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_of_each_kind_stay() {
        let job = |name: &str, end: &str, minute: u32| -> Arc<Job> {
            let status = json!({"startTime": format!("2026-01-01T00:0{minute}:00Z"), "conditions": [{"type": end, "status": "True"}]});
            Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "status": status})).unwrap())
        };
        let jobs = [
            job("c", "Complete", 3),
            job("a", "Complete", 1),
            job("b", "Complete", 2),
            job("f", "Failed", 1),
            job("r", "Suspended", 0),
        ];
        let spec = CronJobSpec {
            successful_jobs_history_limit: Some(1),
            failed_jobs_history_limit: Some(1),
            ..CronJobSpec::default()
        };
        let names: Vec<_> = superfluous(&spec, &jobs).iter().map(|j| j.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
