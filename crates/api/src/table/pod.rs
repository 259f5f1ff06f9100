//! Pods: the status column sums up phase, conditions and container states.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    age::{human_duration, parse, seconds_between},
    cell::{at, is_deleting, list_at, number_at, text_at, text_or, truth_at},
    column::{AGE, NAME, text, wide},
};
use crate::resource::Column;

pub(super) const PODS: &[Column] = &[
    NAME,
    text("Ready", "How many of the pod's containers are ready, and how many there are.", |pod, _| {
        let summary = Summary::of(pod);
        format!("{}/{}", summary.ready, summary.total).into()
    }),
    text("Status", "The states of the pod and its containers in a word.", |pod, _| Summary::of(pod).reason.into()),
    text("Restarts", "How often containers were restarted, and when the last one was.", |pod, now| {
        Summary::of(pod).restarts_text(now).into()
    }),
    AGE,
    wide("IP", "The pod's address.", |pod, _| {
        let first = list_at(pod, "/status/podIPs").first();
        match first.map(|ip| text_at(ip, "/ip")).unwrap_or_default() {
            "" => text_or(pod, "/status/podIP", "<none>").into(),
            ip => ip.into(),
        }
    }),
    wide("Node", "The node it is bound to.", |pod, _| text_or(pod, "/spec/nodeName", "<none>").into()),
    wide("Nominated Node", "The node on which pods are preempted for it.", |pod, _| {
        text_or(pod, "/status/nominatedNodeName", "<none>").into()
    }),
    wide("Readiness Gates", "How many of its readiness gates are true, and how many there are.", |pod, _| {
        readiness_gates(pod).into()
    }),
];

/// All fields that the columns look at, sorted.
pub(super) const FIELDS: &[&str] = &[
    "conditionType",
    "conditions",
    "containerStatuses",
    "containers",
    "creationTimestamp",
    "deletionTimestamp",
    "exitCode",
    "finishedAt",
    "initContainerStatuses",
    "initContainers",
    "ip",
    "lastState",
    "metadata",
    "name",
    "nodeName",
    "nominatedNodeName",
    "phase",
    "podIP",
    "podIPs",
    "readinessGates",
    "ready",
    "reason",
    "restartCount",
    "restartPolicy",
    "running",
    "signal",
    "spec",
    "started",
    "state",
    "status",
    "terminated",
    "type",
    "waiting",
];

/// What a row says of a pod that is over.
pub(super) fn row_condition(pod: &Value) -> Option<Value> {
    let message = match text_at(pod, "/status/phase") {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!({
        "type": "Completed",
        "status": "True",
        "reason": text_at(pod, "/status/phase"),
        "message": message,
    }))
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let phase = text_at(pod, "/status/phase");
        let mut summary = Self {
            ready: 0,
            total: list_at(pod, "/spec/containers").len(),
            reason: text_or(pod, "/status/reason", phase).to_owned(),
            restarts: 0,
            last_restart: None,
        };
        let conditions = list_at(pod, "/status/conditions");
        if conditions
            .iter()
            .any(|c| text_at(c, "/type") == "PodScheduled" && text_at(c, "/reason") == "SchedulingGated")
        {
            summary.reason = "SchedulingGated".to_owned();
        }
        let initializing = summary.init_containers(pod);
        if !initializing || condition(conditions, "Initialized") {
            summary.containers(pod, conditions);
        }
        if is_deleting(pod) && text_at(pod, "/status/reason") == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if is_deleting(pod) && !matches!(phase, "Failed" | "Succeeded") {
            summary.reason = "Terminating".to_owned();
        }
        summary
    }

    /// Counts init containers and sidecars; whether the pod is still at its init containers.
    fn init_containers(&mut self, pod: &Value) -> bool {
        let declared = list_at(pod, "/spec/initContainers");
        let is_sidecar = |c: &Value| text_at(c, "/restartPolicy") == "Always";
        self.total += declared.iter().filter(|c| is_sidecar(c)).count();

        let (mut all, mut last_of_all) = (0, None);
        let mut initializing = false;
        for (index, status) in list_at(pod, "/status/initContainerStatuses").iter().enumerate() {
            let name = text_at(status, "/name");
            let sidecar = declared.iter().any(|c| text_at(c, "/name") == name && is_sidecar(c));
            let ended = parse(at(status, "/lastState/terminated/finishedAt"));
            all += number_at(status, "/restartCount");
            last_of_all = last_of_all.max(ended);
            if sidecar {
                self.restarts += number_at(status, "/restartCount");
                self.last_restart = self.last_restart.max(ended);
            }
            let terminated = at(status, "/state/terminated");
            if terminated.is_some_and(|t| number_at(t, "/exitCode") == 0) {
                continue;
            }
            if sidecar && truth_at(status, "/started", false) {
                self.ready += usize::from(truth_at(status, "/ready", false));
                continue;
            }
            let waiting = text_at(status, "/state/waiting/reason");
            self.reason = match terminated {
                Some(terminated) => format!("Init:{}", ending(terminated)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", declared.len()),
            };
            initializing = true;
            break;
        }
        if initializing && !condition(list_at(pod, "/status/conditions"), "Initialized") {
            (self.restarts, self.last_restart) = (all, last_of_all);
        }
        initializing
    }

    fn containers(&mut self, pod: &Value, conditions: &[Value]) {
        let mut running = false;
        for status in list_at(pod, "/status/containerStatuses").iter().rev() {
            self.restarts += number_at(status, "/restartCount");
            self.last_restart = self.last_restart.max(parse(at(status, "/lastState/terminated/finishedAt")));
            let waiting = text_at(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = at(status, "/state/terminated") {
                self.reason = ending(terminated);
            } else if truth_at(status, "/ready", false) && at(status, "/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if condition(conditions, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn restarts_text(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(last) if self.restarts != 0 => {
                format!("{} ({} ago)", self.restarts, human_duration(seconds_between(last, now)))
            }
            _ => self.restarts.to_string(),
        }
    }
}

/// Why a container ended.
fn ending(terminated: &Value) -> String {
    let reason = text_at(terminated, "/reason");
    match number_at(terminated, "/signal") {
        _ if !reason.is_empty() => reason.to_owned(),
        0 => format!("ExitCode:{}", number_at(terminated, "/exitCode")),
        signal => format!("Signal:{signal}"),
    }
}

fn condition(conditions: &[Value], r#type: &str) -> bool {
    let found = conditions.iter().find(|c| text_at(c, "/type") == r#type);
    found.is_some_and(|c| text_at(c, "/status") == "True")
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list_at(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = list_at(pod, "/status/conditions");
    let open = gates.iter().filter(|g| condition(conditions, text_at(g, "/conditionType"))).count();
    format!("{open}/{}", gates.len())
}
