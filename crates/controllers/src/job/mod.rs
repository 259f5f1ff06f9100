//! Job: runs pods until enough of them succeed, and counts each of them once.

mod backoff;
mod decide;
mod facts;
mod indexes;
mod pod;
mod policy;
#[cfg(test)]
mod tests;
mod tracking;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::Pod,
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use recording::Recorder;
use serde_json::json;

use crate::{
    Error, Shared,
    claim::{self, Claim},
    counts,
    error::gone_is_fine,
    informer::{Change, version},
    ownership::{controller_key, is_controlled_by},
    pod_control::PodControl,
    queue::{Key, Queue, UNSETTLED},
};
use backoff::Record;
use decide::{Decision, View, decide};
use facts::FINALIZER;
pub(crate) use facts::finished;

/// Who else may look after a Job (`spec.managedBy`).
const MANAGER: &str = "kubernetes.io/job-controller";

struct Controller {
    shared: Shared,
    queue: Queue,
    control: PodControl,
    memory: Mutex<HashMap<Key, Memory>>,
}

/// What became of a decision: pods that work, how many of these are ready, pods that were deleted.
struct Acted {
    active: usize,
    ready: usize,
    deleted: usize,
    outcome: Result<(), Error>,
}

/// What is remembered of a Job between two looks at it.
#[derive(Default)]
struct Memory {
    uid: String,
    record: Record,
    /// The version of the last write of its status.
    written: u64,
    /// Pods whose finalizer was removed: until the cache shows it they would be counted again.
    released: HashSet<(Key, String)>,
}

pub(crate) async fn run(shared: Shared) {
    let (queue, strays) = (Queue::default(), Queue::default());
    shared.pods.synced().await;
    shared.jobs.synced().await;
    let (on_job, on_end, pods) = (queue.clone(), strays.clone(), shared.pods.clone());
    shared.jobs.listen(move |change| {
        let job = change.object();
        on_job.add(Key::of(&**job));
        if matches!(change, Change::Deleted(_)) || finished(job).is_some() {
            let tracked =
                pods.controlled_by(&job.uid().unwrap_or_default()).into_iter().filter(|p| facts::is_tracked(p));
            tracked.for_each(|pod| on_end.add(Key::of(&*pod)));
        }
    });
    claim::tell_owners(&shared.pods, &shared.jobs, &queue, selector);
    let (on_stray, jobs) = (strays.clone(), shared.jobs.clone());
    shared.pods.listen(move |change| {
        let pod = change.object();
        if facts::is_tracked(pod) && !is_kept(&jobs.get(&owner_key(pod)), pod) {
            on_stray.add(Key::of(&**pod));
        }
    });
    let recorder = Recorder::start(shared.client.clone(), "job-controller");
    let control = PodControl::new(shared.client.clone(), shared.pods.clone(), recorder);
    let controller =
        Arc::new(Controller { shared: shared.clone(), queue: queue.clone(), control, memory: Mutex::default() });
    let work = queue.work("job", 8, |key| controller.clone().reconcile(key));
    let free = strays.work("job-strays", 8, |key| let_go(shared.clone(), key));
    futures::join!(work, free);
}

fn owner_key(pod: &Pod) -> Key {
    controller_key::<Job>(pod).unwrap_or_else(|| Key::new("", ""))
}

/// Whether the Job is the pod's and still to count it.
fn is_kept(job: &Option<Arc<Job>>, pod: &Pod) -> bool {
    job.as_ref().is_some_and(|job| is_controlled_by(pod, &**job) && finished(job).is_none())
}

/// Frees a pod whose Job is no more, is over, or is not its own any longer.
async fn let_go(shared: Shared, key: Key) -> Result<(), Error> {
    let Some(pod) = shared.pods.get(&key).filter(|p| facts::is_tracked(p)) else { return Ok(()) };
    let owner = owner_key(&pod);
    if !owner.name.is_empty() {
        // The cache of Jobs may lag behind that of pods.
        let jobs: Api<Job> = Api::namespaced(shared.client.clone(), &owner.namespace);
        if is_kept(&jobs.get_opt(&owner.name).await?.map(Arc::new), &pod) {
            return Ok(());
        }
    }
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &key.namespace);
    gone_is_fine(release(&api, &pod).await)
}

async fn release(api: &Api<Pod>, pod: &Pod) -> Result<Pod, kube::Error> {
    let patch = json!({"metadata": {"uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
    api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await
}

fn selector(job: &Job) -> Result<kube::core::Selector, Error> {
    claim::parse(job.spec.as_ref().and_then(|s| s.selector.as_ref()))
}

impl Controller {
    async fn reconcile(self: Arc<Self>, key: Key) -> Result<(), Error> {
        let Some(job) = self.shared.jobs.get(&key) else {
            self.control.forget(&key);
            self.memory.lock().remove(&key);
            return Ok(());
        };
        let spec = facts::spec(&job);
        if finished(&job).is_some() || spec.managed_by.as_deref().is_some_and(|m| m != MANAGER) {
            return Ok(());
        }
        if !self.is_settled(&key, &job) {
            self.queue.add_after(key, UNSETTLED);
            return Ok(());
        }
        let selector = selector(&job)?;
        let claim = Claim {
            client: &self.shared.client,
            owner: &*job,
            selector: &selector,
            objects: &self.shared.pods,
            finalizer: Some(FINALIZER),
        };
        let owned = claim.all(|_| true).await?;
        let record = self.memory.lock().get(&key).map(|m| m.record).unwrap_or_default();
        let view = View { job: &job, spec: &spec, pods: &owned, record, now: Timestamp::now() };
        let decision = decide(&view);
        let begin = std::time::Instant::now();
        let acted = self.act(&key, &view, &decision).await;
        let tracked = self.track(&key, &view, &decision, &acted).await;
        let failed = tracked.is_err() || acted.outcome.is_err();
        counts::job_synced(decision.action(), facts::completion_mode(&spec), failed, begin.elapsed());
        tracked?;
        if let Some(wait) = decision.look_again {
            self.queue.add_after(key, wait + std::time::Duration::from_millis(50));
        }
        acted.outcome
    }

    /// Whether the caches show all that was done for this Job.
    fn is_settled(&self, key: &Key, job: &Job) -> bool {
        let mut memory = self.memory.lock();
        let uid = job.uid().unwrap_or_default();
        if memory.get(key).is_none_or(|m| m.uid != uid) {
            memory.insert(key.clone(), Memory { uid, ..Memory::default() });
        }
        let Some(memory) = memory.get_mut(key) else { return true };
        memory.released.retain(|(pod, uid)| {
            self.shared.pods.get(pod).is_some_and(|p| p.uid().as_ref() == Some(uid) && facts::is_tracked(&p))
        });
        memory.released.is_empty() && self.shared.jobs.has_seen(memory.written) && self.control.is_settled(key)
    }

    /// Makes and deletes pods.
    async fn act(&self, key: &Key, view: &View<'_>, decision: &Decision) -> Acted {
        let mut doomed = decision.delete.clone();
        let mut released = Ok(());
        if decision.fate.is_none() {
            // What is too much did not fail: without its finalizer nothing counts it.
            let api = self.control.api(key);
            let results = join_all(doomed.iter().map(|pod| self.free(key, &api, pod))).await;
            let mut results = results.into_iter();
            doomed.retain(|_| match results.next() {
                Some(Err(error)) => {
                    released = Err(error);
                    false
                }
                _ => true,
            });
        }
        let gone = self.control.delete_all(key, view.job, &doomed).await;
        let pods: Vec<Pod> = decision.create.iter().map(|wanted| pod::build(view.job, view.spec, wanted)).collect();
        let (made, created) = self.control.create_all(key, view.job, &pods).await;
        if gone.is_err() {
            doomed.clear();
        }
        let left: Vec<_> =
            decision.active.iter().filter(|p| !doomed.iter().any(|d| d.uid() == p.uid())).cloned().collect();
        let outcome = released.and(gone).and(created);
        Acted { active: left.len() + made, ready: tracking::ready(&left), deleted: doomed.len(), outcome }
    }

    /// Writes down who ended, frees them, and counts them.
    async fn track(&self, key: &Key, view: &View<'_>, decision: &Decision, acted: &Acted) -> Result<(), Error> {
        let counted = tracking::count(view, decision, acted);
        let before = view.job.status.clone().unwrap_or_default();
        let mut job = view.job.clone();
        if counted.status != before {
            job.status = Some(counted.status);
            job = self.write(key, &job).await?;
        }
        if let Some(memory) = self.memory.lock().get_mut(key) {
            memory.record = decision.record;
        }
        self.tell_suspension(view.job, &job);
        let api = self.control.api(key);
        let freed = join_all(counted.release.iter().map(|pod| self.free(key, &api, pod))).await;
        let mut tracked = tracking::tracked(view.pods);
        let mut fault = None;
        for (pod, result) in counted.release.iter().zip(freed) {
            match result {
                Ok(()) => {
                    tracked.remove(&pod.uid().unwrap_or_default());
                }
                Err(error) => fault = Some(error),
            }
        }
        let mut status = job.status.clone().unwrap_or_default();
        let moved = tracking::strike_out(&mut status, &tracked);
        let fate = decision.fate.as_ref().filter(|_| !counted.overflow && fault.is_none());
        let ended = fate.and_then(|fate| tracking::end(&mut status, view.spec, fate, view.now));
        if moved || ended.is_some() {
            job.status = Some(status);
            self.write(key, &job).await?;
        }
        let mode = facts::completion_mode(view.spec);
        let after = job.status.clone().unwrap_or_default();
        let more = |after: Option<i32>, before: Option<i32>| after.unwrap_or(0) - before.unwrap_or(0);
        counts::job_pods(mode, more(after.succeeded, before.succeeded), more(after.failed, before.failed));
        if let Some(ended) = ended {
            counts::job_ended(mode, ended.reason.as_deref().unwrap_or_default(), ended.type_ == "Complete");
            self.tell_end(&job, &ended);
        }
        if counted.overflow {
            self.queue.add(key.clone());
        }
        fault.map_or(Ok(()), Err)
    }

    async fn write(&self, key: &Key, job: &Job) -> Result<Job, Error> {
        let api: Api<Job> = Api::namespaced(self.shared.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), job).await?;
        let version = version(&written);
        self.shared.jobs.awaits(version);
        if let Some(memory) = self.memory.lock().get_mut(key) {
            memory.written = version;
        }
        Ok(written)
    }

    async fn free(&self, key: &Key, api: &Api<Pod>, pod: &Pod) -> Result<(), Error> {
        if let Some(memory) = self.memory.lock().get_mut(key) {
            memory.released.insert((Key::of(pod), pod.uid().unwrap_or_default()));
        }
        let result = match release(api, pod).await.map_err(Error::from) {
            // Gone, or another pod by now: there is nothing to free.
            Err(error) if error.is_not_found() || error.is_conflict() || error.is_invalid() => Ok(()),
            other => other.map(drop),
        };
        if result.is_err()
            && let Some(memory) = self.memory.lock().get_mut(key)
        {
            memory.released.remove(&(Key::of(pod), pod.uid().unwrap_or_default()));
        }
        result
    }

    fn tell_suspension(&self, before: &Job, after: &Job) {
        match (facts::condition(before, "Suspended").is_some(), facts::condition(after, "Suspended").is_some()) {
            (false, true) => self.control.recorder().normal(after, "Suspended", "Job suspended"),
            (true, false) => self.control.recorder().normal(after, "Resumed", "Job resumed"),
            _ => {}
        }
    }

    fn tell_end(&self, job: &Job, ended: &JobCondition) {
        let recorder = self.control.recorder();
        if ended.type_ == "Complete" {
            return recorder.normal(job, "Completed", "Job completed");
        }
        let reason = ended.reason.as_deref().unwrap_or_default();
        recorder.warning(job, reason, ended.message.clone().unwrap_or_default());
    }
}
