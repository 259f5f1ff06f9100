//! A pod's whole status from what the agent knows. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
        HostIP, Pod, PodIP, PodStatus, VolumeMount, VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    conditions::{self, Passing},
    container::{ContainerRecord, Current, Ended, Role},
    phase::{self, Phase},
    record::Whole,
    settle::settle,
};
use crate::spec::qos;

/// What the status depends on.
pub struct Inputs<'a> {
    /// The pod with its reported status.
    pub pod: &'a Pod,
    /// Its containers, in the order of their start.
    pub records: &'a [ContainerRecord],
    /// What it has as a whole.
    pub whole: Option<&'a Whole>,
    /// Its sandbox and network are up.
    pub sandbox_ready: bool,
    /// Its addresses, the primary one first.
    pub pod_ips: &'a [String],
    /// The node's.
    pub host_ips: &'a [String],
    /// When the agent first saw it.
    pub start_time: Timestamp,
    /// Nothing will be started any more.
    pub stopped: bool,
    /// All containers are being ended to start anew.
    pub restarting: bool,
    /// Conditions that are only there while they hold.
    pub passing: &'a [Passing],
    /// Why the pod as a whole failed: (reason, message). Told once nothing of it runs any more: what waits for a pod's
    /// end must not find it at work (upstream's status manager).
    pub failure: Option<(&'a str, &'a str)>,
    /// It failed because the node did not take it: of its containers there is nothing to tell, so that `kubectl get`
    /// shows the reason.
    pub refused: bool,
    /// Now.
    pub now: Timestamp,
}

/// The status and the phase in it.
pub fn of(inputs: &Inputs<'_>) -> (PodStatus, Phase) {
    let spec = inputs.pod.spec.as_ref();
    let mut phase = spec.map_or(Phase::Pending, |spec| phase::of(spec, inputs.records, inputs.stopped));
    let live = inputs.records.iter().any(ContainerRecord::running);
    let failure = inputs.failure.filter(|_| !live);
    if failure.is_some() {
        phase = Phase::Failed;
    }
    // A pod never leaves a final phase.
    match inputs.pod.status.as_ref().and_then(|s| s.phase.as_deref()) {
        Some("Succeeded") => phase = Phase::Succeeded,
        Some("Failed") => phase = Phase::Failed,
        _ => {}
    }
    let has_init = inputs.records.iter().any(|r| r.role == Role::Init);
    let initialized = inputs.records.iter().all(|r| match r.role {
        Role::Init => matches!(&r.current, Current::Ended(e) if e.exit_code == 0),
        _ => true,
    });
    let default_reason = if has_init && !initialized { "PodInitializing" } else { "ContainerCreating" };
    let statuses = |roles: &[Role]| -> Option<Vec<ContainerStatus>> {
        let list: Vec<_> = inputs
            .records
            .iter()
            .filter(|r| roles.contains(&r.role))
            .map(|r| container_status(r, default_reason, inputs.pod))
            .collect();
        (!list.is_empty() && !inputs.refused).then_some(list)
    };
    let reported = inputs.pod.status.as_ref();
    let ips = if inputs.pod_ips.is_empty() && (phase.terminal() || live) {
        reported.and_then(|s| s.pod_ips.clone()).unwrap_or_default()
    } else {
        inputs.pod_ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()
    };
    let conditions = conditions::of(&conditions::Inputs {
        pod: inputs.pod,
        records: inputs.records,
        phase,
        sandbox_ready: inputs.sandbox_ready,
        restarting: inputs.restarting,
        passing: inputs.passing,
        now: inputs.now,
    });
    let declared = spec.is_some_and(|s| s.resources.is_some());
    let whole = inputs.whole.filter(|_| declared);
    let mut status = PodStatus {
        phase: Some(phase.name().to_owned()),
        reason: failure.map(|(reason, _)| reason.to_owned()).or_else(|| reported.and_then(|s| s.reason.clone())),
        message: failure.map(|(_, message)| message.to_owned()).or_else(|| reported.and_then(|s| s.message.clone())),
        conditions: Some(conditions),
        init_container_statuses: statuses(&[Role::Init, Role::Sidecar]),
        container_statuses: statuses(&[Role::App]),
        ephemeral_container_statuses: statuses(&[Role::Ephemeral]),
        pod_ip: ips.first().map(|ip| ip.ip.clone()),
        pod_ips: (!ips.is_empty()).then_some(ips),
        host_ip: inputs.host_ips.first().cloned(),
        host_ips: Some(inputs.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        start_time: Some(reported.and_then(|s| s.start_time.clone()).unwrap_or(time(inputs.start_time))),
        qos_class: Some(
            reported.and_then(|s| s.qos_class.clone()).unwrap_or_else(|| qos::of(inputs.pod).name().to_owned()),
        ),
        observed_generation: inputs.pod.metadata.generation,
        allocated_resources: whole.and_then(|w| w.allocated.requests.clone()),
        resources: whole.map(|w| if inputs.sandbox_ready { &w.applied } else { &w.allocated }).cloned(),
        ..PodStatus::default()
    };
    if phase.terminal() && !live {
        settle(&mut status, inputs.pod.metadata.deletion_timestamp.is_some());
    }
    (status, phase)
}

fn container_status(record: &ContainerRecord, default_reason: &str, pod: &Pod) -> ContainerStatus {
    let waiting_reason = match record.role {
        Role::App => default_reason,
        Role::Ephemeral => "ContainerCreating",
        Role::Init | Role::Sidecar => "PodInitializing",
    };
    let state = match &record.current {
        Current::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.clone().unwrap_or_else(|| waiting_reason.to_owned())),
                message: message.clone(),
            }),
            ..ContainerState::default()
        },
        Current::Running { started_at, .. } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(time(*started_at)) }),
            ..ContainerState::default()
        },
        Current::Ended(ended) => terminated(ended),
    };
    let id = match &record.current {
        Current::Running { id, .. } => Some(id),
        Current::Ended(ended) => Some(&ended.id),
        Current::Waiting { .. } => record.last.as_ref().map(|e| &e.id),
    };
    let resources = pod
        .spec
        .iter()
        .flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
        .find(|c| c.name == record.name)
        .and_then(|c| c.resources.clone());
    let allocated = record.allocated.clone().or(resources).filter(|_| record.role != Role::Ephemeral);
    let actual = record.applied.clone().filter(|_| record.running()).or_else(|| allocated.clone());
    ContainerStatus {
        name: record.name.clone(),
        state: Some(state),
        last_state: Some(record.last.as_ref().map(terminated).unwrap_or_default()),
        ready: match record.role {
            Role::Init => matches!(&record.current, Current::Ended(e) if e.exit_code == 0),
            Role::Ephemeral => false,
            _ => record.ready,
        },
        started: (record.role != Role::Ephemeral).then_some(record.started),
        restart_count: i32::try_from(record.restart_count).unwrap_or(i32::MAX),
        image: record.image.clone(),
        image_id: record.image_id.clone(),
        container_id: id.filter(|i| !i.is_empty()).map(|id| container_id(id)),
        allocated_resources: allocated.as_ref().and_then(|r| r.requests.clone()),
        resources: actual.filter(|_| record.role != Role::Ephemeral),
        volume_mounts: volume_mounts(pod, &record.name),
        user: record.user.clone(),
        ..ContainerStatus::default()
    }
}

/// What a container has mounted, and whether a read-only mount is so with all that is mounted below it.
fn volume_mounts(pod: &Pod, name: &str) -> Option<Vec<VolumeMountStatus>> {
    let spec = pod.spec.as_ref()?;
    let ephemeral = spec.ephemeral_containers.iter().flatten().find(|c| c.name == name);
    let declared = spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name);
    let mounts = declared.and_then(|c| c.volume_mounts.as_ref()).or(ephemeral.and_then(|c| c.volume_mounts.as_ref()))?;
    let status = |mount: &VolumeMount| {
        let read_only = mount.read_only.filter(|read_only| *read_only);
        let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only,
            recursive_read_only: read_only.map(|_| if recursive { "Enabled" } else { "Disabled" }.to_owned()),
            ..VolumeMountStatus::default()
        }
    };
    Some(mounts.iter().map(status).collect())
}

/// The id as the API shows it.
pub fn container_id(id: &str) -> String {
    format!("hythe://{id}")
}

/// A time as the API keeps it: in whole seconds.
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn terminated(ended: &Ended) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: (!ended.id.is_empty()).then(|| container_id(&ended.id)),
            exit_code: ended.exit_code,
            signal: None,
            reason: Some(ended.reason.clone()),
            message: ended.message.clone(),
            started_at: ended.started_at.map(time),
            finished_at: Some(time(ended.finished_at)),
        }),
        ..ContainerState::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_is_being_evicted_has_failed_once_nothing_of_it_runs() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c"}]}})).expect("a pod");
        let mut record = ContainerRecord::new(&pod.spec.as_ref().expect("a spec").containers[0], Role::App);
        let of = |record: &ContainerRecord| {
            let (status, _) = of(&Inputs {
                pod: &pod,
                records: std::slice::from_ref(record),
                whole: None,
                sandbox_ready: true,
                pod_ips: &[],
                host_ips: &[],
                start_time: Timestamp::UNIX_EPOCH,
                stopped: !record.running(),
                restarting: false,
                passing: &[],
                failure: Some(("Evicted", "why")),
                refused: false,
                now: Timestamp::UNIX_EPOCH,
            });
            (status.phase, status.reason, status.message)
        };
        let text = |s: &str| Some(s.to_owned());
        record.current = Current::Running { id: "c.0".to_owned(), started_at: Timestamp::UNIX_EPOCH };
        assert_eq!(of(&record), (text("Running"), None, None));
        record.end(Ended {
            id: "c.0".to_owned(),
            exit_code: 137,
            signal: Some(9),
            reason: "Error".to_owned(),
            message: None,
            started_at: None,
            finished_at: Timestamp::UNIX_EPOCH,
        });
        assert_eq!(of(&record), (text("Failed"), text("Evicted"), text("why")));
    }
}
