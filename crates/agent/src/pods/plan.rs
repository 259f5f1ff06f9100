//! What to do next for a pod: which containers to start now, which to hold back, which to stop. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{
    backoff::Hold,
    container::{self, ContainerRecord, Current, Role},
    restart,
};

/// The next steps. Containers are indices into the records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To be started now.
    pub start: Vec<usize>,
    /// To be started later: the container crashed too recently.
    pub hold: Vec<(usize, Hold)>,
    /// To be stopped: sidecars and ephemeral containers of a pod whose other containers are done.
    pub stop: Vec<usize>,
    /// The init containers have done their work (in this sandbox).
    pub initialized: bool,
    /// All is over: nothing runs and nothing will be started again.
    pub finished: bool,
}

/// Decides. `records` are in the order of [`container::of`]; `initialized` says that the init containers have done
/// their work in this sandbox.
pub fn next(spec: &PodSpec, records: &[ContainerRecord], initialized: bool, now: Timestamp) -> Plan {
    let mut plan = Plan { initialized, ..Plan::default() };
    let all: Vec<_> = container::of(spec).collect();
    if all.len() != records.iter().filter(|r| r.role != Role::Ephemeral).count() {
        return plan;
    }
    for (index, record) in records.iter().enumerate() {
        let untouched = matches!(record.current, Current::Waiting { .. }) && record.last.is_none();
        if record.role == Role::Ephemeral && untouched {
            plan.start.push(index);
        }
    }
    let over = |role: Role, container: &Container, record: &ContainerRecord| {
        !record.running()
            && !record.again
            && record.ended().is_some_and(|e| !restart::wanted(spec, container, role, e.exit_code))
    };
    let done =
        all.iter().zip(records).filter(|((role, _), _)| *role == Role::App).all(|((role, c), r)| over(*role, c, r));
    let mut failed = done;
    for (index, ((role, container), record)) in all.iter().zip(records).enumerate() {
        if failed {
            break;
        }
        match role {
            Role::App | Role::Ephemeral => continue,
            Role::Init if initialized => continue,
            Role::Init => match (&record.current, record.ended()) {
                (Current::Running { .. }, _) => return plan,
                (Current::Ended(ended), _) if ended.exit_code == 0 => continue,
                (_, Some(ended)) if ended.exit_code != 0 && over(*role, container, record) => failed = true,
                _ => {
                    try_start(&mut plan, index, record, now);
                    return plan;
                }
            },
            Role::Sidecar => {
                if !record.running() {
                    try_start(&mut plan, index, record, now);
                }
                if !initialized && !record.started {
                    return plan;
                }
            }
        }
    }
    plan.initialized = initialized || !failed;
    if !failed {
        for (index, ((role, container), record)) in all.iter().zip(records).enumerate() {
            if *role != Role::App || record.running() {
                continue;
            }
            if !over(*role, container, record) {
                try_start(&mut plan, index, record, now);
            }
        }
    }
    let app = |index: &usize| records[*index].role == Role::App;
    let apps_live = !failed
        && (records.iter().any(|r| r.role == Role::App && r.running())
            || plan.start.iter().any(app)
            || plan.hold.iter().any(|(index, _)| app(index)));
    if !apps_live {
        plan.start.clear();
        plan.hold.clear();
        // Sidecars go in the reverse order of their start, one after the other.
        plan.stop = records.iter().enumerate().filter(|(_, r)| r.running()).map(|(i, _)| i).rev().collect();
        plan.finished = plan.stop.is_empty();
    }
    plan
}

fn try_start(plan: &mut Plan, index: usize, record: &ContainerRecord, now: Timestamp) {
    match record.ended().and_then(|ended| record.backoff.hold(ended.finished_at, now)) {
        Some(hold) => plan.hold.push((index, hold)),
        None => plan.start.push(index),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::container::Ended;

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).expect("in range")
    }

    fn pod(policy: &str) -> (PodSpec, Vec<ContainerRecord>) {
        let spec: PodSpec = serde_json::from_value(json!({
            "restartPolicy": policy,
            "initContainers": [{"name": "i1"}, {"name": "side", "restartPolicy": "Always"}, {"name": "i2"}],
            "containers": [{"name": "a"}, {"name": "b"}]
        }))
        .expect("a spec");
        let records = container::of(&spec).map(|(role, c)| ContainerRecord::new(c, role)).collect();
        (spec, records)
    }

    fn ended(code: i32) -> Ended {
        Ended {
            id: "x".into(),
            exit_code: code,
            signal: None,
            reason: String::new(),
            message: None,
            started_at: None,
            finished_at: now(),
        }
    }

    #[test]
    fn init_containers_run_one_by_one_then_all_others_at_once() {
        let (spec, mut r) = pod("Always");
        assert_eq!(next(&spec, &r, false, now()).start, [0]);
        r[0].run("0".into(), now());
        assert_eq!(next(&spec, &r, false, now()), Plan::default());
        r[0].end(ended(0));
        assert_eq!(next(&spec, &r, false, now()).start, [1]);
        r[1].run("1".into(), now());
        assert_eq!(next(&spec, &r, false, now()).start, [] as [usize; 0], "the sidecar has to have started first");
        r[1].started = true;
        assert_eq!(next(&spec, &r, false, now()).start, [2]);
        r[2].end(ended(0));
        assert_eq!(next(&spec, &r, false, now()).start, [3, 4]);
    }

    #[test]
    fn a_failed_init_container_is_retried_or_ends_the_pod_by_policy() {
        let (spec, mut r) = pod("Always");
        r[0].end(ended(1));
        assert_eq!(next(&spec, &r, false, now()).start, [0]);
        r[0].backoff.advance(now(), now());
        assert_eq!(next(&spec, &r, false, now()).hold.len(), 1);
        let (spec, mut r) = pod("Never");
        r[0].end(ended(1));
        assert!(next(&spec, &r, false, now()).finished);
    }

    #[test]
    fn a_new_sandbox_runs_the_init_containers_again() {
        let (spec, mut r) = pod("Always");
        for record in &mut r {
            record.end(ended(0));
        }
        assert_eq!(next(&spec, &r, true, now()).start, [1, 3, 4]);
        r[0].current = Current::Waiting { reason: None, message: None };
        r[0].last = Some(ended(0));
        assert_eq!(next(&spec, &r, false, now()).start, [0]);
    }

    #[test]
    fn a_pod_is_finished_when_nothing_will_be_restarted_and_its_sidecars_are_stopped() {
        let (spec, mut r) = pod("OnFailure");
        for record in &mut r {
            record.end(ended(0));
        }
        r[1].run("1".into(), now());
        r[1].started = true;
        let plan = next(&spec, &r, true, now());
        assert_eq!((plan.stop, plan.finished), (vec![1], false));
        r[1].end(ended(137));
        let plan = next(&spec, &r, true, now());
        assert_eq!((plan.start.len(), plan.finished), (0, true));
        r[4].end(ended(2));
        let plan = next(&spec, &r, true, now());
        assert_eq!(plan.start, [1, 4], "the sidecar comes back with the container that failed");
    }

    #[test]
    fn a_crashed_container_is_held_back_while_its_neighbour_runs_on() {
        let (spec, mut r) = pod("Always");
        r[0].end(ended(0));
        r[1].run("1".into(), now());
        r[1].started = true;
        r[2].end(ended(0));
        r[3].run("3".into(), now());
        r[4].end(ended(1));
        r[4].backoff.advance(now(), now());
        let plan = next(&spec, &r, true, now());
        assert_eq!((plan.start.len(), plan.hold[0].0, plan.finished), (0, 4, false));
        r[4].wait_for("CrashLoopBackOff", None);
        assert_eq!(next(&spec, &r, true, now()).hold.len(), 1);
    }

    #[test]
    fn an_ephemeral_container_is_started_once_whatever_the_others_do_and_holds_no_pod_up() {
        let (spec, mut r) = pod("Never");
        r.push(ContainerRecord::new(&Container { name: "debug".into(), ..Container::default() }, Role::Ephemeral));
        assert_eq!(next(&spec, &r, false, now()).start, [5, 0], "even before the init containers are done");
        r[5].run("5".into(), now());
        assert_eq!(next(&spec, &r, false, now()).start, [0]);
        r[5].end(ended(1));
        assert_eq!(next(&spec, &r, false, now()).start, [0], "never again");
        for record in &mut r[..5] {
            record.end(ended(0));
        }
        r[5].run("5".into(), now());
        let plan = next(&spec, &r, true, now());
        assert_eq!((plan.stop, plan.finished), (vec![5], false));
    }
}
