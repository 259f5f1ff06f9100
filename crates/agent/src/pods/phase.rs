//! `status.phase` from the states of the containers, as the kubelet computes it. Pure.

use k8s_openapi::api::core::v1::PodSpec;

use super::container::{ContainerRecord, Current, Role};

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

/// The phase. `stopped` says that nothing will be started any more (deleted, evicted, past its deadline).
pub fn of(spec: &PodSpec, records: &[ContainerRecord], stopped: bool) -> Phase {
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    let (mut pending_init, mut failed_init) = (0, 0);
    let (mut running, mut waiting, mut ended, mut succeeded) = (0, 0, 0, 0);
    for record in records {
        match (record.role, &record.current) {
            (Role::Init, Current::Running { .. }) => pending_init += 1,
            (Role::Init, Current::Ended(e)) if e.exit_code != 0 => failed_init += 1,
            (Role::Init, Current::Ended(_)) => {}
            (Role::Init, Current::Waiting { .. }) => match &record.last {
                Some(e) if e.exit_code != 0 => failed_init += 1,
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
            }
            (Role::App, Current::Waiting { .. }) => match record.last {
                Some(_) => ended += 1,
                None => waiting += 1,
            },
        }
    }
    if failed_init > 0 && (policy == "Never" || stopped) {
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
        (0, 1..) if policy == "Always" => Phase::Running,
        (0, n) if n > 0 && n == succeeded => Phase::Succeeded,
        (0, 1..) if policy == "Never" => Phase::Failed,
        (0, 1..) => Phase::Running,
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
    fn a_stopped_pod_has_succeeded_or_failed_whatever_its_policy() {
        assert_eq!(phase("Always", "", "0", true), Phase::Succeeded);
        assert_eq!(phase("Always", "", "01", true), Phase::Failed);
        assert_eq!(phase("Always", "", "w", true), Phase::Failed);
        assert_eq!(phase("Always", "", "r", true), Phase::Running);
    }
}
