//! Kinds that the cluster keeps for itself: leases, classes, flow control, devices.

use serde_json::Value;

use super::{
    cell::{at, is_deleting, list_at, number_at, text_at, text_or, truth_at, up_to_three},
    column::{AGE, NAME, boolean, integer, name, text},
};
use crate::resource::Column;

pub(super) const NAME_AND_AGE: &[Column] = &[NAME, AGE];

pub(super) const LEASES: &[Column] =
    &[NAME, text("Holder", "Who holds it.", |o, _| text_at(o, "/spec/holderIdentity").into()), AGE];

pub(super) const LEASE_CANDIDATES: &[Column] = &[
    NAME,
    text("LeaseName", "The lease it stands for.", |o, _| text_at(o, "/spec/leaseName").into()),
    text("BinaryVersion", "Its version.", |o, _| text_at(o, "/spec/binaryVersion").into()),
    text("EmulationVersion", "The version that it behaves as.", |o, _| text_at(o, "/spec/emulationVersion").into()),
    AGE,
];

pub(super) const PRIORITY_CLASSES: &[Column] = &[
    NAME,
    integer("Value", "The priority.", |o, _| number_at(o, "/value").into()),
    boolean("Global-Default", "Whether pods without a class have it.", |o, _| {
        truth_at(o, "/globalDefault", false).into()
    }),
    AGE,
    text("PreemptionPolicy", "Whether its pods push others out.", |o, _| text_at(o, "/preemptionPolicy").into()),
];

pub(super) const RUNTIME_CLASSES: &[Column] =
    &[NAME, text("Handler", "What runs its containers.", |o, _| text_at(o, "/handler").into()), AGE];

pub(super) const FLOW_SCHEMAS: &[Column] = &[
    NAME,
    text("PriorityLevel", "The level of its requests.", |o, _| {
        text_at(o, "/spec/priorityLevelConfiguration/name").into()
    }),
    text("MatchingPrecedence", "The lower, the sooner it is asked.", |o, _| {
        number_at(o, "/spec/matchingPrecedence").into()
    }),
    text("DistinguisherMethod", "What tells its flows apart.", |o, _| match at(o, "/spec/distinguisherMethod") {
        Some(method) => text_at(method, "/type").into(),
        None => "<none>".into(),
    }),
    AGE,
    text("MissingPL", "Whether its level does not exist.", |o, _| {
        let dangling = list_at(o, "/status/conditions").iter().find(|c| text_at(c, "/type") == "Dangling");
        dangling.map_or("?", |c| text_at(c, "/status")).into()
    }),
];

pub(super) const PRIORITY_LEVELS: &[Column] = &[
    NAME,
    text("Type", "Whether it is limited.", |o, _| text_at(o, "/spec/type").into()),
    text("NominalConcurrencyShares", "Its share of the seats.", |o, _| {
        or_none(o, "/spec/limited/nominalConcurrencyShares")
    }),
    text("Queues", "How many queues it has.", |o, _| or_none(o, "/spec/limited/limitResponse/queuing/queues")),
    text("HandSize", "How many queues a flow may use.", |o, _| {
        or_none(o, "/spec/limited/limitResponse/queuing/handSize")
    }),
    text("QueueLengthLimit", "How long a queue may be.", |o, _| {
        or_none(o, "/spec/limited/limitResponse/queuing/queueLengthLimit")
    }),
    AGE,
];

pub(super) const STORAGE_VERSIONS: &[Column] = &[
    NAME,
    text("CommonEncodingVersion", "The version that all servers write.", |o, _| {
        at(o, "/status/commonEncodingVersion").and_then(Value::as_str).unwrap_or("<unset>").into()
    }),
    text("StorageVersions", "The version that each server writes.", |o, _| {
        let versions = list_at(o, "/status/storageVersions").iter();
        let texts = versions.map(|v| format!("{}={}", text_at(v, "/apiServerID"), text_at(v, "/encodingVersion")));
        up_to_three(&texts.collect::<Vec<_>>()).into()
    }),
    AGE,
];

pub(super) const MIGRATIONS: &[Column] = &[
    text("Name", "Name of the migration.", name),
    text("Resource", "What is migrated.", |o, _| {
        let part = |field: &str| text_at(o, &format!("/spec/resource/{field}"));
        match part("version") {
            "" => format!("{}.{}", part("resource"), part("group")).into(),
            version => format!("{}.{version}.{}", part("resource"), part("group")).into(),
        }
    }),
];

pub(super) const API_SERVICES: &[Column] = &[
    NAME,
    text("Service", "The Service that serves it.", |o, _| match at(o, "/spec/service") {
        Some(service) => format!("{}/{}", text_at(service, "/namespace"), text_at(service, "/name")).into(),
        None => "Local".into(),
    }),
    text("Available", "Whether it is served.", |o, _| {
        let found = list_at(o, "/status/conditions").iter().find(|c| text_at(c, "/type") == "Available");
        let Some(available) = found else {
            return "Unknown".into();
        };
        match text_at(available, "/status") {
            "True" => "True".into(),
            status => format!("{status} ({})", text_at(available, "/reason")).into(),
        }
    }),
    AGE,
];

pub(super) const COMPONENTS: &[Column] = &[
    NAME,
    text("Status", "Whether it is healthy.", |o, _| match healthy(o) {
        Some(condition) if text_at(condition, "/status") == "True" => "Healthy".into(),
        Some(_) => "Unhealthy".into(),
        None => "Unknown".into(),
    }),
    text("Message", "What it says.", |o, _| healthy(o).map_or("", |c| text_at(c, "/message")).into()),
    text("Error", "What is wrong.", |o, _| healthy(o).map_or("", |c| text_at(c, "/error")).into()),
];

pub(super) const RESOURCE_CLAIMS: &[Column] =
    &[NAME, text("State", "Whether it is allocated and reserved.", |o, _| claim_state(o).into()), AGE];

pub(super) const RESOURCE_SLICES: &[Column] = &[
    NAME,
    text("Node", "The node that has the devices.", |o, _| text_or(o, "/spec/nodeName", "").into()),
    text("Driver", "The driver.", |o, _| text_at(o, "/spec/driver").into()),
    text("Pool", "The pool of devices.", |o, _| text_at(o, "/spec/pool/name").into()),
    AGE,
];

fn or_none(object: &Value, pointer: &str) -> Value {
    at(object, pointer).cloned().unwrap_or_else(|| "<none>".into())
}

fn healthy(component: &Value) -> Option<&Value> {
    list_at(component, "/conditions").iter().find(|c| text_at(c, "/type") == "Healthy")
}

fn claim_state(claim: &Value) -> String {
    let mut states = Vec::new();
    if is_deleting(claim) {
        states.push("deleted");
    }
    match at(claim, "/status/allocation") {
        Some(_) => {
            states.push("allocated");
            if !list_at(claim, "/status/reservedFor").is_empty() {
                states.push("reserved");
            }
        }
        None if !is_deleting(claim) => states.push("pending"),
        None => {}
    }
    states.join(",")
}
