//! The pod's conditions, as the kubelet computes them. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use super::{
    container::{ContainerRecord, Current, Role},
    phase::Phase,
    restart,
    status::time,
};

/// What the conditions depend on.
pub struct Inputs<'a> {
    /// The pod with its reported status (transition times, readiness gates).
    pub pod: &'a Pod,
    /// Its containers.
    pub records: &'a [ContainerRecord],
    /// Its phase.
    pub phase: Phase,
    /// Its sandbox and network are up.
    pub sandbox_ready: bool,
    /// All containers are being ended to start anew.
    pub restarting: bool,
    /// Conditions that are only there while they hold.
    pub passing: &'a [Passing],
    /// Now.
    pub now: Timestamp,
}

/// A condition that is true, or not there at all.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Passing {
    /// `PodResizePending`, `DisruptionTarget`…
    pub kind: String,
    /// For programs; may be empty.
    pub reason: String,
    /// For people; may be empty.
    pub message: String,
}

/// The conditions that the agent owns, in upstream's order.
pub fn of(inputs: &Inputs<'_>) -> Vec<PodCondition> {
    let containers_ready = containers_ready(inputs);
    let verdicts = [
        ("PodReadyToStartContainers", verdict(inputs.sandbox_ready && !inputs.phase.terminal(), "", String::new())),
        ("Initialized", initialized(inputs)),
        ("Ready", ready(inputs, &containers_ready)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", verdict(true, "", String::new())),
    ];
    let passing = inputs.passing.iter().map(|p| {
        let verdict = Verdict { status: true, reason: &p.reason, message: p.message.clone() };
        condition(inputs, &p.kind, verdict)
    });
    let restarting = inputs.pod.spec.as_ref().filter(|spec| restart::may_be_of_all(spec)).map(|_| {
        let verdict = match inputs.phase {
            Phase::Succeeded => verdict(false, "PodCompleted", String::new()),
            Phase::Failed => verdict(false, "PodFailed", String::new()),
            _ => verdict(inputs.restarting, "", String::new()),
        };
        condition(inputs, "AllContainersRestarting", verdict)
    });
    verdicts
        .into_iter()
        .map(|(kind, verdict)| condition(inputs, kind, verdict))
        .chain(restarting)
        .chain(passing)
        .collect()
}

#[derive(Clone)]
struct Verdict<'a> {
    status: bool,
    reason: &'a str,
    message: String,
}

fn verdict(status: bool, reason: &'static str, message: String) -> Verdict<'static> {
    Verdict { status, reason, message }
}

fn initialized(inputs: &Inputs<'_>) -> Verdict<'static> {
    let begun = inputs
        .records
        .iter()
        .any(|r| r.role == Role::App && (!matches!(r.current, Current::Waiting { .. }) || r.last.is_some()));
    let incomplete: Vec<&str> = inputs
        .records
        .iter()
        .filter(|r| match r.role {
            Role::App | Role::Ephemeral => false,
            Role::Init => !matches!(&r.current, Current::Ended(e) if e.exit_code == 0),
            Role::Sidecar => !r.started,
        })
        .map(|r| r.name.as_str())
        .collect();
    match inputs.phase {
        Phase::Succeeded => verdict(true, "PodCompleted", String::new()),
        _ if begun || incomplete.is_empty() => verdict(true, "", String::new()),
        _ => verdict(
            false,
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{}]", incomplete.join(" ")),
        ),
    }
}

fn containers_ready(inputs: &Inputs<'_>) -> Verdict<'static> {
    match inputs.phase {
        Phase::Succeeded => return verdict(false, "PodCompleted", String::new()),
        Phase::Failed => return verdict(false, "PodFailed", String::new()),
        _ => {}
    }
    let unready: Vec<&str> = inputs
        .records
        .iter()
        .filter(|r| matches!(r.role, Role::App | Role::Sidecar) && !r.ready)
        .map(|r| r.name.as_str())
        .collect();
    if unready.is_empty() {
        verdict(true, "", String::new())
    } else {
        verdict(false, "ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
    }
}

fn ready(inputs: &Inputs<'_>, containers: &Verdict<'static>) -> Verdict<'static> {
    if !containers.status {
        return containers.clone();
    }
    let reported = inputs.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut messages = Vec::new();
    for gate in inputs.pod.spec.iter().flat_map(|s| s.readiness_gates.iter().flatten()) {
        let kind = &gate.condition_type;
        match reported.into_iter().flatten().find(|c| c.type_ == *kind) {
            None => messages.push(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
            Some(c) if c.status != "True" => {
                messages.push(format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {}", c.status));
            }
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        verdict(true, "", String::new())
    } else {
        verdict(false, "ReadinessGatesNotReady", messages.join(", "))
    }
}

fn condition(inputs: &Inputs<'_>, kind: &str, verdict: Verdict<'_>) -> PodCondition {
    let status = if verdict.status { "True" } else { "False" };
    let old = inputs
        .pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_ref())
        .and_then(|list| list.iter().find(|c| c.type_ == kind));
    // The time of the transition stays as long as the status does.
    let since = old.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
    let text = |s: String| if s.is_empty() { None } else { Some(s) };
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: text(verdict.reason.to_owned()),
        message: text(verdict.message),
        last_transition_time: Some(since.unwrap_or(time(inputs.now))),
        last_probe_time: None,
        observed_generation: inputs.pod.metadata.generation,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::container;

    fn conditions(pod: serde_json::Value, edit: impl Fn(&mut Vec<ContainerRecord>), phase: Phase) -> Vec<String> {
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let mut records: Vec<_> =
            container::of(pod.spec.as_ref().expect("a spec")).map(|(role, c)| ContainerRecord::new(c, role)).collect();
        edit(&mut records);
        let inputs = Inputs {
            pod: &pod,
            records: &records,
            phase,
            sandbox_ready: true,
            restarting: false,
            passing: &[],
            now: Timestamp::UNIX_EPOCH,
        };
        of(&inputs)
            .into_iter()
            .map(|c| {
                format!("{}={} {}|{}", c.type_, c.status, c.reason.unwrap_or_default(), c.message.unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn containers_that_are_not_ready_are_named() {
        let pod = json!({"spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(
            conditions(pod, |_| {}, Phase::Pending),
            [
                "PodReadyToStartContainers=True |",
                "Initialized=False ContainersNotInitialized|containers with incomplete status: [i]",
                "Ready=False ContainersNotReady|containers with unready status: [a b]",
                "ContainersReady=False ContainersNotReady|containers with unready status: [a b]",
                "PodScheduled=True |",
            ]
        );
    }

    #[test]
    fn readiness_gates_hold_the_pod_back() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "x/y"}]}});
        let ready = |r: &mut Vec<ContainerRecord>| r[0].ready = true;
        let got = conditions(pod.clone(), ready, Phase::Running);
        assert_eq!(
            got[2],
            "Ready=False ReadinessGatesNotReady|corresponding condition of pod readiness gate \"x/y\" does not exist."
        );
        assert_eq!(got[3], "ContainersReady=True |");
        pod["status"] = json!({"conditions": [{"type": "x/y", "status": "True"}]});
        assert_eq!(conditions(pod, ready, Phase::Running)[2], "Ready=True |");
    }

    #[test]
    fn a_finished_pod_is_not_ready() {
        let pod = json!({"spec": {"containers": [{"name": "a"}]}});
        let got = conditions(pod, |_| {}, Phase::Succeeded);
        assert_eq!(got[1], "Initialized=True PodCompleted|");
        assert_eq!(got[2], "Ready=False PodCompleted|");
    }

    #[test]
    fn transition_times_change_only_with_the_status() {
        let old = json!([{"type": "Ready", "status": "False", "lastTransitionTime": "2001-01-01T00:00:00Z"},
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2001-01-01T00:00:00Z"}]);
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": []}, "status": {"conditions": old}})).expect("a pod");
        let inputs = Inputs {
            pod: &pod,
            records: &[],
            phase: Phase::Running,
            sandbox_ready: true,
            restarting: false,
            passing: &[],
            now: Timestamp::UNIX_EPOCH,
        };
        let times: Vec<_> = of(&inputs).into_iter().map(|c| c.last_transition_time.expect("a time").0).collect();
        assert_eq!(times[2], Timestamp::UNIX_EPOCH);
        assert_eq!(times[4], "2001-01-01T00:00:00Z".parse().expect("a time"));
    }
}
