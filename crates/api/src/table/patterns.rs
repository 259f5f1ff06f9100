//! The patterns and the kinds of the Gateway API.

use serde_json::Value;

use super::{
    cell::{at, count_at, list_at, number_at, selector, text_at},
    column::{AGE, NAME, integer, text, wide},
};
use crate::resource::Column;

const READY: Column = text("Ready", "Whether it serves.", |o, _| condition(o, "/status/conditions", "Ready").into())
    .at(".status.conditions[?(@.type==\"Ready\")].status");
const TIER: Column = text("Tier", "Its own pods: those that are ready of those that should be.", |o, _| {
    format!("{}/{}", number_at(o, "/status/readyReplicas"), number_at(o, "/status/replicas")).into()
})
.at(".status.readyReplicas");
const ADDRESS: Column =
    text("Address", "Where clients reach it.", |o, _| text_at(o, "/status/address").into()).at(".status.address");
const REASON: Column = wide("Reason", "Why it is or isn't ready.", |o, _| {
    let conditions = list_at(o, "/status/conditions").iter();
    conditions.filter(|c| text_at(c, "/type") == "Ready").map(|c| text_at(c, "/reason")).next().unwrap_or("").into()
})
.at(".status.conditions[?(@.type==\"Ready\")].reason");

pub(super) const SHARDED_SERVICES: &[Column] = &[
    NAME,
    text("Protocol", "What its clients and its shards speak.", |o, _| text_at(o, "/spec/protocol").into())
        .at(".spec.protocol"),
    integer("Shards", "How many servers hold its keys.", |o, _| number_at(o, "/status/backends").into())
        .at(".status.backends"),
    TIER,
    READY,
    ADDRESS,
    AGE,
    REASON,
];

pub(super) const REQUEST_SPLITS: &[Column] = &[
    NAME,
    text("Split", "The Services with their weights.", |o, _| {
        let backends = list_at(o, "/spec/backends").iter();
        let all: Vec<_> = backends
            .map(|b| format!("{}={}", text_at(b, "/name"), at(b, "/weight").and_then(Value::as_i64).unwrap_or(1)))
            .collect();
        all.join(",").into()
    })
    .at(".spec.backends[*].name"),
    text("Sticky", "What keeps a user at one of them.", |o, _| text_at(o, "/spec/sticky/by").into())
        .at(".spec.sticky.by"),
    TIER,
    READY,
    ADDRESS,
    AGE,
    REASON,
];

pub(super) const CACHE_TIERS: &[Column] = &[
    NAME,
    text("Service", "What stands behind it.", |o, _| text_at(o, "/spec/service/name").into()).at(".spec.service.name"),
    text("Memory", "How much the answers of a replica may take.", |o, _| text_at(o, "/spec/memory").into())
        .at(".spec.memory"),
    TIER,
    READY,
    ADDRESS,
    AGE,
    REASON,
];

pub(super) const RATE_LIMITS: &[Column] = &[
    NAME,
    text("Service", "What stands behind it.", |o, _| text_at(o, "/spec/service/name").into()).at(".spec.service.name"),
    text("Limit", "Requests in seconds.", |o, _| {
        let (requests, period) = (number_at(o, "/spec/limit/requests"), number_at(o, "/spec/limit/periodSeconds"));
        format!("{requests}/{}s", period.max(1)).into()
    })
    .at(".spec.limit.requests"),
    TIER,
    READY,
    ADDRESS,
    AGE,
    REASON,
];

pub(super) const SCATTER_GATHERS: &[Column] = &[
    NAME,
    integer("Leaves", "How many Services are asked.", |o, _| count_at(o, "/spec/leaves").into()).at(".status.backends"),
    text("Merge", "How their answers become one.", |o, _| text_at(o, "/spec/merge").into()).at(".spec.merge"),
    TIER,
    READY,
    ADDRESS,
    AGE,
    REASON,
];

pub(super) const SIDECARS: &[Column] = &[
    NAME,
    text("Selector", "Which pods get it.", |o, _| selector(at(o, "/spec/selector")).into())
        .at(".spec.selector.matchLabels"),
    text("Containers", "What they get.", |o, _| {
        let names: Vec<_> = ["/spec/containers", "/spec/initContainers"]
            .into_iter()
            .flat_map(|field| list_at(o, field))
            .map(|c| text_at(c, "/name"))
            .collect();
        names.join(",").into()
    })
    .at(".spec.containers[*].name"),
    AGE,
];

pub(super) const GATEWAY_CLASSES: &[Column] = &[
    NAME,
    text("Controller", "What serves the class.", |o, _| text_at(o, "/spec/controllerName").into())
        .at(".spec.controllerName"),
    text("Accepted", "Whether it has taken it.", |o, _| condition(o, "/status/conditions", "Accepted").into())
        .at(".status.conditions[?(@.type==\"Accepted\")].status"),
    AGE,
    wide("Description", "For people.", |o, _| text_at(o, "/spec/description").into()).at(".spec.description"),
];

pub(super) const GATEWAYS: &[Column] = &[
    NAME,
    text("Class", "Its GatewayClass.", |o, _| text_at(o, "/spec/gatewayClassName").into()).at(".spec.gatewayClassName"),
    text("Address", "Where it is reached.", |o, _| {
        let addresses: Vec<_> = list_at(o, "/status/addresses").iter().map(|a| text_at(a, "/value")).collect();
        addresses.join(",").into()
    })
    .at(".status.addresses[*].value"),
    text("Programmed", "Whether its data plane has it.", |o, _| {
        condition(o, "/status/conditions", "Programmed").into()
    })
    .at(".status.conditions[?(@.type==\"Programmed\")].status"),
    AGE,
];

pub(super) const HTTP_ROUTES: &[Column] = &[
    NAME,
    text("Hostnames", "The hosts that it is for.", |o, _| match list_at(o, "/spec/hostnames") {
        [] => "".into(),
        hosts => Value::Array(hosts.to_vec()).to_string().into(),
    })
    .at(".spec.hostnames"),
    AGE,
];

pub(super) const REFERENCE_GRANTS: &[Column] = &[NAME, AGE];

fn condition<'a>(object: &'a Value, at: &str, wanted: &str) -> &'a str {
    let conditions = list_at(object, at).iter();
    conditions.filter(|c| text_at(c, "/type") == wanted).map(|c| text_at(c, "/status")).next().unwrap_or("Unknown")
}
