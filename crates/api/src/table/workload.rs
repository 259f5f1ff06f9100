//! Workloads: sets of pods, and jobs.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    age::{human_duration, parse, seconds_between, since},
    cell::{at, containers, count_at, is_deleting, labels, list_at, number_at, selector, text_at},
    column::{AGE, NAME, boolean, integer, text, wide},
};
use crate::{resource::Column, selector::LabelSelector};

const TEMPLATE: &str = "/spec/template/spec";
const JOB_TEMPLATE: &str = "/spec/jobTemplate/spec/template/spec";

const CONTAINERS: Column =
    wide("Containers", "Names of the template's containers.", |o, _| containers(o, TEMPLATE, "name").into());
const IMAGES: Column =
    wide("Images", "Images of the template's containers.", |o, _| containers(o, TEMPLATE, "image").into());
const SELECTOR: Column = wide("Selector", "Which pods belong to it.", |o, _| selector(at(o, "/spec/selector")).into());

pub(super) const POD_TEMPLATES: &[Column] = &[
    NAME,
    text("Containers", "Names of the template's containers.", |o, _| containers(o, "/template/spec", "name").into()),
    text("Images", "Images of the template's containers.", |o, _| containers(o, "/template/spec", "image").into()),
    text("Pod Labels", "The template's labels.", |o, _| labels(at(o, "/template/metadata/labels")).into()),
];

pub(super) const REPLICATION_CONTROLLERS: &[Column] = &[
    NAME,
    integer("Desired", "How many pods there should be.", |o, _| number_at(o, "/spec/replicas").into()),
    integer("Current", "How many pods there are.", |o, _| number_at(o, "/status/replicas").into()),
    integer("Ready", "How many pods are ready.", |o, _| number_at(o, "/status/readyReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    wide("Selector", "Which pods belong to it.", |o, _| labels(at(o, "/spec/selector")).into()),
];

pub(super) const REPLICA_SETS: &[Column] = &[
    NAME,
    integer("Desired", "How many pods there should be.", |o, _| number_at(o, "/spec/replicas").into()),
    integer("Current", "How many pods there are.", |o, _| number_at(o, "/status/replicas").into()),
    integer("Ready", "How many pods are ready.", |o, _| number_at(o, "/status/readyReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const DEPLOYMENTS: &[Column] = &[
    NAME,
    text("Ready", "How many pods are ready, and how many there should be.", ready),
    text("Up-to-date", "How many pods have the present template.", |o, _| {
        number_at(o, "/status/updatedReplicas").into()
    }),
    text("Available", "How many pods have been ready long enough.", |o, _| {
        number_at(o, "/status/availableReplicas").into()
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    wide("Selector", "Which pods belong to it.", |o, _| {
        match LabelSelector::from_object(at(o, "/spec/selector").unwrap_or(&Value::Null)) {
            Ok(selector) => selector.to_string().into(),
            Err(_) => "<invalid>".into(),
        }
    }),
];

pub(super) const STATEFUL_SETS: &[Column] =
    &[NAME, text("Ready", "How many pods are ready, and how many there should be.", ready), AGE, CONTAINERS, IMAGES];

pub(super) const DAEMON_SETS: &[Column] = &[
    NAME,
    integer("Desired", "How many nodes should run it.", |o, _| number_at(o, "/status/desiredNumberScheduled").into()),
    integer("Current", "How many nodes run it.", |o, _| number_at(o, "/status/currentNumberScheduled").into()),
    integer("Ready", "On how many nodes it is ready.", |o, _| number_at(o, "/status/numberReady").into()),
    integer("Up-to-date", "How many nodes run the present template.", |o, _| {
        number_at(o, "/status/updatedNumberScheduled").into()
    }),
    integer("Available", "On how many nodes it has been ready long enough.", |o, _| {
        number_at(o, "/status/numberAvailable").into()
    }),
    text("Node Selector", "Which nodes should run it.", |o, _| {
        labels(at(o, "/spec/template/spec/nodeSelector")).into()
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const CONTROLLER_REVISIONS: &[Column] = &[
    NAME,
    text("Controller", "Which object it belongs to.", |o, _| controller(o).into()),
    text("Revision", "Its number.", |o, _| number_at(o, "/revision").into()),
    AGE,
];

pub(super) const JOBS: &[Column] = &[
    NAME,
    text("Status", "What has become of the job.", |o, _| job_status(o).into()),
    text("Completions", "How many pods succeeded, and how many should.", |o, _| completions(o).into()),
    text("Duration", "How long it ran.", |o, now| job_duration(o, now).into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const CRON_JOBS: &[Column] = &[
    NAME,
    text("Schedule", "When it runs, in cron's notation.", |o, _| text_at(o, "/spec/schedule").into()),
    text("Timezone", "The time zone of the schedule.", |o, _| {
        at(o, "/spec/timeZone").and_then(Value::as_str).unwrap_or("<none>").into()
    }),
    boolean("Suspend", "Whether it is suspended.", |o, _| match at(o, "/spec/suspend").and_then(Value::as_bool) {
        Some(true) => "True".into(),
        Some(false) => "False".into(),
        None => "<unset>".into(),
    }),
    integer("Active", "How many of its jobs run.", |o, _| count_at(o, "/status/active").into()),
    text("Last Schedule", "Time since it ran last.", |o, now| match at(o, "/status/lastScheduleTime") {
        Some(time) => since(Some(time), now).into(),
        None => "<none>".into(),
    }),
    AGE,
    wide("Containers", "Names of the template's containers.", |o, _| containers(o, JOB_TEMPLATE, "name").into()),
    wide("Images", "Images of the template's containers.", |o, _| containers(o, JOB_TEMPLATE, "image").into()),
    wide("Selector", "Which pods belong to its jobs.", |o, _| {
        selector(at(o, "/spec/jobTemplate/spec/selector")).into()
    }),
];

fn ready(object: &Value, _: Timestamp) -> Value {
    format!("{}/{}", number_at(object, "/status/readyReplicas"), number_at(object, "/spec/replicas")).into()
}

fn controller(object: &Value) -> String {
    let owners = list_at(object, "/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|o| o["controller"].as_bool() == Some(true)) else {
        return "<none>".to_owned();
    };
    let kind = text_at(owner, "/kind");
    let qualified = match text_at(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}"),
        None => kind.to_owned(),
    };
    format!("{}/{}", qualified.to_lowercase(), text_at(owner, "/name"))
}

fn job_status(job: &Value) -> &'static str {
    let conditions = list_at(job, "/status/conditions");
    let holds = |r#type: &str| {
        let found = conditions.iter().find(|c| text_at(c, "/type") == r#type);
        found.is_some_and(|c| text_at(c, "/status") == "True")
    };
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if is_deleting(job) => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = number_at(job, "/status/succeeded");
    match (at(job, "/spec/completions").and_then(Value::as_i64), number_at(job, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn job_duration(job: &Value, now: Timestamp) -> String {
    let Some(start) = parse(at(job, "/status/startTime")) else {
        return String::new();
    };
    let end = parse(at(job, "/status/completionTime")).unwrap_or(now);
    human_duration(seconds_between(start, end))
}
