//! CronJob: makes a Job at each scheduled time.

mod due;
mod history;
mod schedule;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use parking_lot::Mutex;
use recording::Recorder;
use tokio::task::JoinSet;

use crate::{
    Error, Shared, counts,
    error::gone_is_fine,
    informer::{self, Informer, version},
    job::finished,
    ownership::{controller_key, controller_reference, is_controlled_by},
    queue::{Key, Queue, UNSETTLED},
};
use due::{Due, due};
use schedule::Schedule;

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

struct Controller {
    shared: Shared,
    cron_jobs: Informer<CronJob>,
    queue: Queue,
    recorder: Recorder,
    /// The version of the last write of each status.
    written: Mutex<HashMap<Key, u64>>,
}

pub(crate) async fn run(shared: Shared) {
    let mut tasks = JoinSet::new();
    let cron_jobs: Informer<CronJob> = Informer::start(shared.client.clone(), informer::untouched, &mut tasks);
    let queue = Queue::default();
    shared.jobs.synced().await;
    cron_jobs.synced().await;
    let on_cron_job = queue.clone();
    cron_jobs.listen(move |change| on_cron_job.add(Key::of(&**change.object())));
    let on_job = queue.clone();
    shared.jobs.listen(move |change| {
        if let Some(owner) = controller_key::<CronJob>(&**change.object()) {
            on_job.add(owner);
        }
    });
    let recorder = Recorder::start(shared.client.clone(), "cronjob-controller");
    let controller =
        Arc::new(Controller { shared, cron_jobs, queue: queue.clone(), recorder, written: Mutex::default() });
    queue.work("cronjob", 4, |key| controller.clone().reconcile(key)).await;
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(cron_job) = self.cron_jobs.get(&key) else {
            self.written.lock().remove(&key);
            return Ok(());
        };
        let written = self.written.lock().get(&key).copied().unwrap_or(0);
        if !self.cron_jobs.has_seen(written) {
            self.queue.add_after(key, UNSETTLED);
            return Ok(());
        }
        let jobs = self.shared.jobs.controlled_by(&cron_job.uid().unwrap_or_default());
        let mut status = cron_job.status.clone().unwrap_or_default();
        self.note_ends(&cron_job, &jobs, &mut status).await?;
        let spec = cron_job.spec.clone();
        let mut outcome = Ok(());
        if cron_job.metadata.deletion_timestamp.is_none() {
            outcome = self.start_due(&key, &cron_job, &spec, &mut status).await;
            self.clean_up(&cron_job, &spec, &jobs).await?;
        }
        if cron_job.status.clone().unwrap_or_default() != status {
            let mut changed = CronJob::clone(&cron_job);
            changed.status = Some(status);
            let api: Api<CronJob> = Api::namespaced(self.shared.client.clone(), &key.namespace);
            let result = api.replace_status(&key.name, &PostParams::default(), &changed).await.map_err(Error::from);
            match result {
                Ok(result) => {
                    self.cron_jobs.awaits(version(&result));
                    self.written.lock().insert(key, version(&result));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        outcome
    }

    /// Strikes Jobs that are over or gone from the list of active ones.
    async fn note_ends(&self, cron_job: &CronJob, jobs: &[Arc<Job>], status: &mut CronJobStatus) -> Result<(), Error> {
        let mut active = status.active.take().unwrap_or_default();
        for job in jobs {
            let listed = active.iter().any(|r| r.uid == job.uid());
            match finished(job) {
                None if !listed => {
                    let note = format!("Saw a job that the controller did not create or forgot: {}", job.name_any());
                    self.recorder.warning(cron_job, "UnexpectedJob", note);
                }
                Some(end) => {
                    if listed {
                        active.retain(|r| r.uid != job.uid());
                        let note = format!("Saw completed job: {}, condition: {}", job.name_any(), end.type_);
                        self.recorder.normal(cron_job, "SawCompletedJob", note);
                    }
                    let done =
                        job.status.as_ref().and_then(|s| s.completion_time.clone()).filter(|_| end.type_ == "Complete");
                    if done > status.last_successful_time {
                        status.last_successful_time = done;
                    }
                }
                None => {}
            }
        }
        let api: Api<Job> = Api::namespaced(self.shared.client.clone(), &cron_job.namespace().unwrap_or_default());
        let mut still = Vec::new();
        for reference in active {
            let known = jobs.iter().any(|j| j.uid() == reference.uid);
            let name = reference.name.clone().unwrap_or_default();
            if known || api.get_opt(&name).await?.is_some_and(|j| j.uid() == reference.uid) {
                still.push(reference);
            } else {
                self.recorder.normal(cron_job, "MissingJob", format!("Active job went missing: {name}"));
            }
        }
        status.active = (!still.is_empty()).then_some(still);
        Ok(())
    }

    async fn start_due(
        &self,
        key: &Key,
        cron_job: &CronJob,
        spec: &CronJobSpec,
        status: &mut CronJobStatus,
    ) -> Result<(), Error> {
        let warn = |reason: &str, note: String| self.recorder.warning(cron_job, reason, note);
        let zone = match spec.time_zone.as_deref() {
            None => TimeZone::UTC,
            Some(name) => match TimeZone::get(name) {
                Ok(zone) => zone,
                Err(error) => {
                    warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
                    return Ok(());
                }
            },
        };
        if spec.suspend == Some(true) {
            return Ok(());
        }
        let schedule = match Schedule::parse(&spec.schedule, zone.clone()) {
            Ok(schedule) => schedule,
            Err(error) => {
                warn("UnparseableSchedule", format!("unparseable schedule: {:?} : {error}", spec.schedule));
                return Ok(());
            }
        };
        let now = Timestamp::now();
        let Due { at, too_late, many_missed, next } = match due(cron_job, &schedule, now) {
            Ok(due) => due,
            Err(error) => {
                warn("InvalidSchedule", format!("invalid schedule: {} : {error}", spec.schedule));
                return Ok(());
            }
        };
        if let Some(next) = next {
            let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
            self.queue.add_after(key.clone(), wait + Duration::from_millis(100));
        }
        let Some(at) = at else { return Ok(()) };
        if many_missed {
            let words =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            warn("TooManyMissedTimes", words.into());
        }
        if too_late {
            warn(
                "MissSchedule",
                format!("Missed scheduled time to start a job: {}", at.strftime("%a, %d %b %Y %H:%M:%S +0000")),
            );
            return Ok(());
        }
        let active = status.active.clone().unwrap_or_default();
        let name = job_name(cron_job, at);
        if active.iter().any(|r| r.name.as_ref() == Some(&name)) {
            return Ok(());
        }
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let note = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.recorder.normal(cron_job, "JobAlreadyActive", note);
                return Ok(());
            }
            Some("Replace") => {
                for reference in active {
                    self.delete(cron_job, &reference.name.unwrap_or_default(), reference.uid).await?;
                }
                status.active = None;
            }
            _ => {}
        }
        if let Some(job) = self.start(cron_job, spec, &name, at, &zone).await? {
            status.active.get_or_insert_default().push(reference(&job));
            status.last_schedule_time = Some(Time(at));
        }
        Ok(())
    }

    /// Makes the Job of that time; `None`: there is no making it, or it is over by now.
    async fn start(
        &self,
        cron_job: &CronJob,
        spec: &CronJobSpec,
        name: &str,
        at: Timestamp,
        zone: &TimeZone,
    ) -> Result<Option<Job>, Error> {
        let api: Api<Job> = Api::namespaced(self.shared.client.clone(), &cron_job.namespace().unwrap_or_default());
        match api.create(&PostParams::default(), &job(cron_job, spec, name, at, zone)).await.map_err(Error::from) {
            Ok(job) => {
                if let Some(made) = &job.metadata.creation_timestamp {
                    counts::cron_job_started(made.0.duration_since(at).as_secs_f64());
                }
                self.recorder.normal(cron_job, "SuccessfulCreate", format!("Created job {name}"));
                Ok(Some(job))
            }
            Err(error) if error.is_namespace_terminating() => Ok(None),
            // Made before, and the status did not get to know.
            Err(error) if error.is_already_exists() => {
                Ok(Some(api.get(name).await?).filter(|job| is_controlled_by(job, cron_job)))
            }
            Err(error) => {
                let note = format!("Error creating job: {}", error.message());
                self.recorder.warning(cron_job, "FailedCreate", note);
                Err(error)
            }
        }
    }

    async fn delete(&self, cron_job: &CronJob, name: &str, uid: Option<String>) -> Result<(), Error> {
        let api: Api<Job> = Api::namespaced(self.shared.client.clone(), &cron_job.namespace().unwrap_or_default());
        let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
        match api.delete(name, &params).await {
            Ok(_) => {
                self.recorder.normal(cron_job, "SuccessfulDelete", format!("Deleted job {name}"));
                Ok(())
            }
            Err(error) => gone_is_fine::<()>(Err(error)),
        }
    }

    /// Deletes ended Jobs beyond the limits.
    async fn clean_up(&self, cron_job: &CronJob, spec: &CronJobSpec, jobs: &[Arc<Job>]) -> Result<(), Error> {
        for job in history::superfluous(spec, jobs) {
            self.delete(cron_job, &job.name_any(), job.uid()).await?;
        }
        Ok(())
    }
}

/// Bears the scheduled minute, so that there can be but one for each.
fn job_name(cron_job: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", cron_job.name_any(), at.as_second() / 60)
}

fn job(cron_job: &CronJob, spec: &CronJobSpec, name: &str, at: Timestamp, zone: &TimeZone) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let shown = at.to_zoned(zone.clone());
    let stamp = if shown.offset().is_zero() {
        shown.strftime("%FT%TZ").to_string()
    } else {
        shown.strftime("%FT%T%:z").to_string()
    };
    annotations.insert(SCHEDULED_AT.into(), stamp);
    Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some(Job::api_version(&()).into_owned()),
        kind: Some(Job::kind(&()).into_owned()),
        namespace: job.namespace(),
        name: job.metadata.name.clone(),
        uid: job.uid(),
        resource_version: job.resource_version(),
        ..ObjectReference::default()
    }
}
