//! What the end of a pod says of containers whose own end nobody saw: those that waited to start, or to start again.
//! Pure. Upstream: `TerminatePod` of the kubelet's status manager.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, PodStatus};

/// Settles the containers of a pod that has ended. Of a deleted pod, what waited to start again keeps its last end.
pub fn settle(status: &mut PodStatus, deleted: bool) {
    let inits = status.init_container_statuses.as_deref_mut().unwrap_or_default();
    let apps = status.container_statuses.as_deref_mut().unwrap_or_default();
    if is_initialized(inits, apps) {
        apps.iter_mut().for_each(|container| end(container, deleted));
    }
    // Those after the last that ever left its waiting never had their turn.
    let turns = inits.iter().rposition(has_begun).map_or(1, |last| last + 1).min(inits.len());
    inits[..turns].iter_mut().for_each(|container| end(container, deleted));
}

fn end(container: &mut ContainerStatus, deleted: bool) {
    let state = container.state.get_or_insert_default();
    if state.terminated.is_some() {
        return;
    }
    let last = container.last_state.as_ref().filter(|last| deleted && last.terminated.is_some()).cloned();
    *state = match last {
        Some(last) => {
            container.last_state = Some(ContainerState::default());
            last
        }
        None => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some("The container could not be located when the pod was terminated".to_owned()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        },
    };
}

/// Whether the pod's main containers had their turn.
fn is_initialized(inits: &[ContainerStatus], apps: &[ContainerStatus]) -> bool {
    let done = |container: &ContainerStatus| {
        let ended = |state: &Option<ContainerState>| {
            state.as_ref().and_then(|state| state.terminated.as_ref()).is_some_and(|end| end.exit_code == 0)
        };
        ended(&container.state) || ended(&container.last_state)
    };
    apps.iter().any(has_begun) || inits.last().is_none_or(done)
}

fn has_begun(container: &ContainerStatus) -> bool {
    let waits = container.state.as_ref().is_some_and(|state| state.waiting.is_some());
    !waits || container.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Containers by their states: w(aiting), c(rash loop), 0, 1 (ended).
    fn containers(states: &str) -> Option<Vec<ContainerStatus>> {
        let ended = |code: i32| json!({"terminated": {"exitCode": code}});
        let status = |(index, state)| -> Value {
            let (state, last) = match state {
                'w' => (json!({"waiting": {}}), json!({})),
                'c' => (json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended(1)),
                code => (ended(code.to_digit(10).expect("a digit") as i32), json!({})),
            };
            let name = format!("c{index}");
            json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
                "lastState": last})
        };
        let all: Vec<Value> = states.chars().enumerate().map(status).collect();
        (!all.is_empty()).then(|| serde_json::from_value(Value::Array(all)).expect("statuses"))
    }

    /// Their exit codes; `-` for one that waits.
    fn codes(containers: &Option<Vec<ContainerStatus>>) -> String {
        let code = |container: &ContainerStatus| {
            let end = container.state.as_ref().and_then(|state| state.terminated.as_ref());
            end.map_or("-".to_owned(), |end| end.exit_code.to_string())
        };
        containers.iter().flatten().map(code).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_waited_has_ended_with_its_pod() {
        for (inits, apps, deleted, want_inits, want_apps) in [
            ("", "w0", false, "", "137 0"),
            ("", "c1", false, "", "137 1"),
            ("", "c1", true, "", "1 1"),
            ("w", "w", false, "137", "-"),
            ("1w", "w", false, "1 -", "-"),
            ("0cw", "w", false, "0 137 -", "-"),
            ("00", "w", false, "0 0", "137"),
            ("c", "0", false, "137", "0"),
        ] {
            let mut status = PodStatus {
                init_container_statuses: containers(inits),
                container_statuses: containers(apps),
                ..PodStatus::default()
            };
            settle(&mut status, deleted);
            let found = (codes(&status.init_container_statuses), codes(&status.container_statuses));
            assert_eq!(found, (want_inits.to_owned(), want_apps.to_owned()), "{inits} {apps} {deleted}");
        }
    }
}
