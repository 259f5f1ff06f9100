//! `status.phase` from the states of the containers, as the kubelet computes it. Pure.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{
    container::{self, ContainerRecord, Current, Ended, Role},
    restart,
};

/// `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Something has not started yet.
    Pending,
    /// At least one container runs or will be restarted.
    Running,
    /// All ended with code 0 and stay so.
    Succeeded,
    /// All ended, not all with code 0.
    Failed,
}

impl Phase {
    /// As it stands in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    /// Succeeded or failed: for good.
    pub fn terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// Whether the API says that the pod has ended.
pub fn is_over(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// The phase. `stopped` says that nothing will be started any more (deleted, evicted, past its deadline).
pub fn of(spec: &PodSpec, records: &[ContainerRecord], stopped: bool) -> Phase {
    let declared: Vec<_> = container::of(spec).collect();
    let (mut pending_init, mut failed_init, mut hopeless) = (0, 0, stopped);
    let (mut running, mut waiting, mut ended, mut succeeded, mut restartable) = (0, 0, 0, 0, 0);
    for (index, record) in records.iter().enumerate() {
        let again = |ended: &Ended| {
            let own = declared.get(index);
            record.again || own.is_some_and(|(role, c)| restart::wanted(spec, c, *role, ended.exit_code))
        };
        match (record.role, &record.current) {
            (Role::Init, Current::Waiting { .. }) if record.again => pending_init += 1,
            (Role::Init, Current::Running { .. }) => pending_init += 1,
            (Role::Init, Current::Ended(_) | Current::Waiting { .. }) => match record.ended() {
                Some(e) if e.exit_code != 0 => {
                    failed_init += 1;
                    hopeless |= !again(e);
                }
                Some(_) if matches!(record.current, Current::Ended(_)) => {}
                _ => pending_init += 1,
            },
            (Role::Sidecar, Current::Running { .. }) if record.started => {}
            (Role::Sidecar, Current::Ended(_)) => {}
            (Role::Sidecar, _) => pending_init += usize::from(record.last.is_none()),
            (Role::Ephemeral, _) => {}
            (Role::App, Current::Running { .. }) => running += 1,
            (Role::App, Current::Ended(e)) => {
                ended += 1;
                succeeded += usize::from(e.exit_code == 0);
                restartable += usize::from(again(e));
            }
            (Role::App, Current::Waiting { .. }) => match &record.last {
                Some(e) => {
                    ended += 1;
                    restartable += usize::from(again(e));
                }
                None => waiting += 1,
            },
        }
    }
    if failed_init > 0 && hopeless {
        return Phase::Failed;
    }
    if running == 0 && stopped {
        let all = records.iter().filter(|r| r.role == Role::App).count();
        return if succeeded == all && pending_init == 0 { Phase::Succeeded } else { Phase::Failed };
    }
    let begun = running + ended > 0;
    if failed_init > 0 || waiting > 0 || (pending_init > 0 && !begun) {
        return Phase::Pending;
    }
    match (running, ended) {
        (1.., _) => Phase::Running,
        (0, 1..) if restartable > 0 => Phase::Running,
        (0, n) if n > 0 && n == succeeded => Phase::Succeeded,
        (0, 1..) => Phase::Failed,
        _ => Phase::Pending,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::container::{self, Ended};

    /// `i`nit and `a`pp states: w(aiting), c(rash loop), r(unning), 0, 1 (ended).
    fn phase(policy: &str, init: &str, apps: &str, stopped: bool) -> Phase {
        let names = |s: &str| s.chars().enumerate().map(|(i, _)| json!({"name": format!("c{i}")})).collect::<Vec<_>>();
        let spec: PodSpec = serde_json::from_value(
            json!({"restartPolicy": policy, "initContainers": names(init), "containers": names(apps)}),
        )
        .expect("a spec");
        let now = jiff::Timestamp::UNIX_EPOCH;
        let end = |code| Ended {
            id: String::new(),
            exit_code: code,
            signal: None,
            reason: String::new(),
            message: None,
            started_at: None,
            finished_at: now,
        };
        let records: Vec<_> = container::of(&spec)
            .zip(init.chars().chain(apps.chars()))
            .map(|((role, c), state)| {
                let mut record = ContainerRecord::new(c, role);
                match state {
                    'r' => record.run("x".into(), now),
                    '0' => record.end(end(0)),
                    '1' => record.end(end(1)),
                    'c' => {
                        record.end(end(1));
                        record.wait_for("CrashLoopBackOff", None);
                    }
                    _ => {}
                }
                record
            })
            .collect();
        of(&spec, &records, stopped)
    }

    #[test]
    fn the_phase_follows_upstreams_table() {
        for (policy, init, apps, expected) in [
            ("Always", "", "w", Phase::Pending),
            ("Always", "", "r", Phase::Running),
            ("Always", "", "rw", Phase::Pending),
            ("Always", "", "r1", Phase::Running),
            ("Always", "", "0", Phase::Running),
            ("Always", "", "c", Phase::Running),
            ("OnFailure", "", "0", Phase::Succeeded),
            ("OnFailure", "", "1", Phase::Running),
            ("OnFailure", "", "00", Phase::Succeeded),
            ("Never", "", "01", Phase::Failed),
            ("Never", "", "00", Phase::Succeeded),
            ("Never", "", "0r", Phase::Running),
            ("Always", "w", "w", Phase::Pending),
            ("Always", "r", "w", Phase::Pending),
            ("Always", "1", "w", Phase::Pending),
            ("Always", "0", "r", Phase::Running),
            ("Never", "1", "w", Phase::Failed),
        ] {
            assert_eq!(phase(policy, init, apps, false), expected, "{policy} {init}/{apps}");
        }
    }

    #[test]
    fn a_container_that_is_to_start_again_by_its_own_rules_keeps_the_pod_running() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let of_exit = |policy: &str, container: serde_json::Value, code, again| {
            let spec: PodSpec =
                serde_json::from_value(json!({"restartPolicy": policy, "containers": [container]})).expect("a spec");
            let mut record = ContainerRecord::new(&spec.containers[0], Role::App);
            record.run("x".into(), now);
            record.end(Ended {
                id: String::new(),
                exit_code: code,
                signal: None,
                reason: String::new(),
                message: None,
                started_at: None,
                finished_at: now,
            });
            record.wait_for("CrashLoopBackOff", None);
            record.again = again;
            of(&spec, &[record], false)
        };
        let rules = json!({"name": "c", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]});
        assert_eq!(of_exit("Never", rules.clone(), 42, false), Phase::Running);
        assert_eq!(of_exit("Never", rules.clone(), 1, false), Phase::Failed);
        assert_eq!(of_exit("Never", rules, 137, true), Phase::Running, "all containers start anew");
        assert_eq!(of_exit("Never", json!({"name": "c", "restartPolicy": "Always"}), 1, false), Phase::Running);
        assert_eq!(of_exit("Always", json!({"name": "c", "restartPolicy": "Never"}), 1, false), Phase::Failed);
    }

    #[test]
    fn a_stopped_pod_has_succeeded_or_failed_whatever_its_policy() {
        assert_eq!(phase("Always", "", "0", true), Phase::Succeeded);
        assert_eq!(phase("Always", "", "01", true), Phase::Failed);
        assert_eq!(phase("Always", "", "w", true), Phase::Failed);
        assert_eq!(phase("Always", "", "r", true), Phase::Running);
    }
}
