//! The decisions in tables, and a walk through every interruption.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition, JobStatus},
    core::v1::Pod,
};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    Acted,
    backoff::Record,
    decide::{Decision, View, decide},
    facts, pod, tracking,
};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut whole = json!({"parallelism": 1, "backoffLimit": 6, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(
        json!({"metadata": {"name": "j", "namespace": "n", "uid": "job"}, "spec": whole, "status": status}),
    )
    .unwrap()
}

/// `uid`, phase, index.
fn one(uid: &str, phase: &str, index: Option<i32>) -> Arc<Pod> {
    let annotations = index.map(|i| json!({facts::INDEX: i.to_string()}));
    let pod = json!({
        "metadata": {"name": uid, "namespace": "n", "uid": uid, "finalizers": [facts::FINALIZER], "annotations": annotations},
        "status": {"phase": phase, "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": i32::from(phase == "Failed"), "finishedAt": "2026-01-01T00:00:00Z"}}}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn decided(job: &Job, pods: &[Arc<Pod>]) -> Decision {
    let spec = facts::spec(job);
    decide(&View { job, spec: &spec, pods, record: Record::default(), now: now() })
}

fn fate(decision: &Decision) -> Option<(&str, &str)> {
    decision.fate.as_ref().map(|f| (f.type_.as_str(), f.reason.as_deref().unwrap_or_default()))
}

#[test]
fn as_many_pods_work_as_parallelism_and_what_is_left_to_do_allow() {
    for (spec, succeeded, running, create, delete) in [
        (json!({"parallelism": 3, "completions": 5}), 0, 0, 3, 0),
        (json!({"parallelism": 3, "completions": 5}), 3, 1, 1, 0),
        (json!({"parallelism": 3, "completions": 5}), 4, 1, 0, 0),
        (json!({"parallelism": 1, "completions": 5}), 0, 3, 0, 2),
        (json!({"parallelism": 2}), 0, 0, 2, 0),
        (json!({"parallelism": 2}), 1, 1, 0, 0),
        (json!({"parallelism": 2, "completions": 2, "suspend": true}), 0, 2, 0, 2),
        (json!({"parallelism": 0, "completions": 2}), 0, 0, 0, 0),
    ] {
        let pods: Vec<_> = (0..running).map(|i| one(&format!("p{i}"), "Running", None)).collect();
        let decision = decided(&job(spec.clone(), json!({"succeeded": succeeded})), &pods);
        assert_eq!((decision.create.len(), decision.delete.len()), (create, delete), "{spec} {succeeded} {running}");
    }
}

#[test]
fn limits_and_policies_decide_the_fate() {
    let failed = [one("a", "Failed", None), one("b", "Failed", None)];
    let done = [one("a", "Succeeded", None)];
    let code = json!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]});
    let ignore = json!({"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}}]});
    let old = json!({"startTime": "2026-01-01T00:00:00Z"});
    for (spec, status, pods, expected) in [
        (
            json!({"completions": 3, "backoffLimit": 1}),
            json!({}),
            &failed[..],
            Some(("FailureTarget", "BackoffLimitExceeded")),
        ),
        (json!({"completions": 3, "backoffLimit": 2}), json!({}), &failed[..], None),
        (
            json!({"completions": 3, "podFailurePolicy": code}),
            json!({}),
            &failed[..1],
            Some(("FailureTarget", "PodFailurePolicy")),
        ),
        (json!({"completions": 3, "backoffLimit": 0, "podFailurePolicy": ignore}), json!({}), &failed[..], None),
        (
            json!({"completions": 3, "activeDeadlineSeconds": 600}),
            old.clone(),
            &[],
            Some(("FailureTarget", "DeadlineExceeded")),
        ),
        (json!({"completions": 3, "activeDeadlineSeconds": 601}), old.clone(), &[], None),
        (json!({"completions": 3, "activeDeadlineSeconds": 1, "suspend": true}), old, &[], None),
        (json!({"completions": 1}), json!({}), &done[..], Some(("SuccessCriteriaMet", "CompletionsReached"))),
        (json!({}), json!({}), &done[..], Some(("SuccessCriteriaMet", "CompletionsReached"))),
        (json!({"completions": 0}), json!({}), &[], Some(("SuccessCriteriaMet", "CompletionsReached"))),
    ] {
        assert_eq!(fate(&decided(&job(spec.clone(), status), pods)), expected, "{spec}");
    }
}

#[test]
fn a_failed_pod_is_replaced_after_its_pause() {
    let soon: Timestamp = "2026-01-01T00:00:04Z".parse().unwrap();
    let ignore = json!({"rules": [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}}]});
    for spec in [json!({"completions": 1}), json!({"completions": 1, "podFailurePolicy": ignore})] {
        let job = job(spec, json!({}));
        let spec = facts::spec(&job);
        let pods = [one("a", "Failed", None)];
        let early = decide(&View { job: &job, spec: &spec, pods: &pods, record: Record::default(), now: soon });
        assert!(early.create.is_empty());
        assert_eq!(early.look_again.map(|d| d.as_secs()), Some(6));
        assert_eq!(decided(&job, &pods).create.len(), 1);
    }
}

#[test]
fn an_ending_pod_is_replaced_at_once_or_after_its_end_as_the_policy_says() {
    let mut ending = Pod::clone(&one("a", "Running", None));
    ending.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:30Z")).unwrap();
    ending.metadata.deletion_grace_period_seconds = Some(30);
    let pods = [Arc::new(ending)];
    assert_eq!(decided(&job(json!({"completions": 1}), json!({})), &pods).create.len(), 1);
    let patient = job(json!({"completions": 1, "podReplacementPolicy": "Failed"}), json!({}));
    assert!(decided(&patient, &pods).create.is_empty());
}

#[test]
fn an_indexed_job_fills_the_free_indexes_and_removes_twins() {
    let indexed = |status: Value| job(json!({"completionMode": "Indexed", "completions": 5, "parallelism": 3}), status);
    let decision =
        decided(&indexed(json!({"completedIndexes": "0,2", "succeeded": 2})), &[one("a", "Running", Some(1))]);
    assert_eq!(decision.create.iter().filter_map(|w| w.index).collect::<Vec<_>>(), [3, 4]);
    let twins = [one("a", "Running", Some(1)), one("b", "Running", Some(1)), one("c", "Running", Some(9))];
    let mut doomed: Vec<_> = decided(&indexed(json!({})), &twins).delete.iter().map(|p| p.name_any()).collect();
    doomed.sort();
    assert_eq!(doomed.len(), 2);
    assert!(doomed.contains(&"c".to_owned()), "an index out of range goes: {doomed:?}");
}

#[test]
fn each_index_has_its_own_limit() {
    let limited = |most: Option<i32>, status: Value| {
        let spec = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimit": i32::MAX,
            "backoffLimitPerIndex": 1, "maxFailedIndexes": most});
        job(spec, status)
    };
    let failed_before = |uid: &str, index: i32, count: i32| {
        let mut pod = Pod::clone(&one(uid, "Failed", Some(index)));
        pod.annotations_mut().insert(facts::FAILURES.into(), count.to_string());
        Arc::new(pod)
    };
    // The first failure is remembered and its successor told of it.
    let first = decided(&limited(None, json!({})), &[failed_before("a", 0, 0)]);
    let made: Vec<_> = first.create.iter().map(|w| (w.index, w.failures)).collect();
    assert_eq!(made, [(Some(0), Some((1, 0))), (Some(1), Some((0, 0)))]);
    assert!(first.remembered.contains_key(&0));
    // The second one ends the index, and with all indexes the Job.
    let second = decided(&limited(None, json!({})), &[failed_before("a", 0, 1)]);
    assert_eq!(second.failed.as_ref().map(ToString::to_string).as_deref(), Some("0"));
    assert_eq!(second.create.iter().filter_map(|w| w.index).collect::<Vec<_>>(), [1]);
    let all = decided(&limited(None, json!({"completedIndexes": "1", "succeeded": 1})), &[failed_before("a", 0, 1)]);
    assert_eq!(fate(&all), Some(("FailureTarget", "FailedIndexes")));
    let too_many = decided(&limited(Some(0), json!({})), &[failed_before("a", 0, 1)]);
    assert_eq!(fate(&too_many), Some(("FailureTarget", "MaxFailedIndexesExceeded")));
}

#[test]
fn an_indexed_pod_knows_its_index() {
    let job = job(json!({"completionMode": "Indexed", "completions": 2}), json!({}));
    let made = decided(&job, &[]).create;
    let pod = pod::build(&job, &facts::spec(&job), &made[0]);
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("j-0-"));
    assert_eq!((pod.annotations()[facts::INDEX].as_str(), pod.labels()[facts::INDEX].as_str()), ("0", "0"));
    let spec = pod.spec.unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("j-0"));
    assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
}

/// A Job and its pods as the server holds them, and a controller that may be killed before any of its writes.
struct Simulation {
    job: Job,
    pods: Vec<Pod>,
    made: usize,
    /// Writes until the controller is killed.
    left: usize,
}

struct Killed;

impl Simulation {
    fn write(&mut self) -> Result<(), Killed> {
        self.left = self.left.checked_sub(1).ok_or(Killed)?;
        Ok(())
    }

    fn reconcile(&mut self) -> Result<(), Killed> {
        if facts::finished(&self.job).is_some() {
            return Ok(());
        }
        let pods: Vec<Arc<Pod>> = self.pods.iter().cloned().map(Arc::new).collect();
        let (job, spec) = (self.job.clone(), facts::spec(&self.job));
        let view = View { job: &job, spec: &spec, pods: &pods, record: Record::default(), now: now() };
        let decision = decide(&view);
        for doomed in &decision.delete {
            if decision.fate.is_none() {
                self.write()?;
                for held in self.pods.iter_mut().filter(|p| p.uid() == doomed.uid()) {
                    held.metadata.finalizers = None;
                }
            }
            self.write()?;
            self.pods.retain(|p| p.uid() != doomed.uid());
        }
        for wanted in &decision.create {
            self.write()?;
            let mut pod = pod::build(&job, &spec, wanted);
            pod.metadata.name = Some(format!("p{}", self.made));
            pod.metadata.uid = Some(format!("p{}", self.made));
            self.made += 1;
            self.pods.push(pod);
        }
        let active = decision.active.len() + decision.create.len() - decision.delete.len();
        let acted = Acted { active, ready: 0, deleted: decision.delete.len(), outcome: Ok(()) };
        let counted = tracking::count(&view, &decision, &acted);
        if self.job.status.as_ref() != Some(&counted.status) {
            self.write()?;
            self.job.status = Some(counted.status);
        }
        for pod in &counted.release {
            self.write()?;
            for held in self.pods.iter_mut().filter(|p| p.uid() == pod.uid()) {
                held.metadata.finalizers = None;
            }
        }
        let still: Vec<Arc<Pod>> = self.pods.iter().cloned().map(Arc::new).collect();
        let mut status: JobStatus = self.job.status.clone().unwrap_or_default();
        let moved = tracking::strike_out(&mut status, &tracking::tracked(&still));
        let ended = decision.fate.as_ref().and_then(|fate| tracking::end(&mut status, &spec, fate, now()));
        if moved || ended.is_some() {
            self.write()?;
            self.job.status = Some(status);
        }
        Ok(())
    }

    /// Every third pod fails.
    fn run_pods(&mut self) {
        for pod in self.pods.iter_mut().filter(|p| p.status.is_none()) {
            let number: usize = pod.name_any()[1..].parse().unwrap();
            let phase = if number % 3 == 2 { "Failed" } else { "Succeeded" };
            pod.status = one("x", phase, None).status.clone();
        }
    }
}

#[test]
fn a_controller_killed_before_any_write_counts_every_pod_once() {
    for mode in ["NonIndexed", "Indexed"] {
        let mut kill_after = 0;
        loop {
            let mut world = Simulation {
                job: job(json!({"completions": 4, "parallelism": 3, "completionMode": mode}), json!({})),
                pods: Vec::new(),
                made: 0,
                left: kill_after,
            };
            let mut killed = false;
            for _ in 0..40 {
                if world.reconcile().is_err() {
                    (killed, world.left) = (true, usize::MAX);
                    continue;
                }
                world.run_pods();
            }
            let status = world.job.status.clone().unwrap();
            let ended = |phase: &str| {
                world.pods.iter().filter(|p| p.status.as_ref().unwrap().phase.as_deref() == Some(phase)).count() as i32
            };
            assert!(facts::condition(&world.job, "Complete").is_some(), "{mode}, killed after {kill_after} writes");
            assert_eq!(status.succeeded, Some(4), "{mode}, killed after {kill_after} writes");
            assert_eq!(
                (ended("Succeeded"), ended("Failed")),
                (4, status.failed.unwrap_or(0)),
                "{mode}, killed after {kill_after} writes"
            );
            assert!(world.pods.iter().all(|p| !facts::is_tracked(p)), "no pod stays held");
            if !killed {
                break;
            }
            kill_after += 1;
        }
        assert!(kill_after > 10, "the walk went through the whole life of the Job");
    }
}

#[test]
fn what_ends_has_started_except_a_suspended_job_of_no_completions() {
    for (completions, starts) in [(1, true), (0, false)] {
        let job = job(json!({"completions": completions, "suspend": true}), json!({}));
        let fate = JobCondition { type_: "SuccessCriteriaMet".into(), ..JobCondition::default() };
        let mut status = JobStatus::default();
        tracking::end(&mut status, &facts::spec(&job), &fate, now()).expect("nothing is left to do");
        assert_eq!(status.start_time.is_some(), starts, "of {completions} completions");
    }
}
