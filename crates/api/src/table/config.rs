//! Namespaces and what configures workloads in them.

use serde_json::Value;

use super::{
    cell::{at, count_at, quantity, text_at},
    column::{AGE, NAME, text},
};
use crate::resource::Column;

pub(super) const NAMESPACES: &[Column] =
    &[NAME, text("Status", "Its phase.", |o, _| text_at(o, "/status/phase").into()), AGE];

pub(super) const SECRETS: &[Column] = &[
    NAME,
    text("Type", "What the data is for.", |o, _| text_at(o, "/type").into()),
    text("Data", "How many keys it has.", |o, _| count_at(o, "/data").into()),
    AGE,
];

pub(super) const CONFIG_MAPS: &[Column] = &[
    NAME,
    text("Data", "How many keys it has.", |o, _| (count_at(o, "/data") + count_at(o, "/binaryData")).into()),
    AGE,
];

pub(super) const SERVICE_ACCOUNTS: &[Column] =
    &[NAME, text("Secrets", "How many Secrets belong to it.", |o, _| count_at(o, "/secrets").into()), AGE];

pub(super) const RESOURCE_QUOTAS: &[Column] = &[
    NAME,
    text("Request", "Used and allowed amounts, but for limits.", |o, _| amounts(o, false).into()),
    text("Limit", "Used and allowed limits.", |o, _| amounts(o, true).into()),
    AGE,
];

fn amounts(quota: &Value, limits: bool) -> String {
    let Some(hard) = at(quota, "/status/hard").and_then(Value::as_object) else {
        return String::new();
    };
    let used = at(quota, "/status/used").and_then(Value::as_object);
    let mut names: Vec<&String> = hard.keys().filter(|n| n.starts_with("limits.") == limits).collect();
    names.sort_unstable();
    let zero = || "0".to_owned();
    let texts = names.into_iter().map(|name| {
        let used = quantity(used.and_then(|u| u.get(name))).unwrap_or_else(zero);
        format!("{name}: {used}/{}", quantity(hard.get(name)).unwrap_or_else(zero))
    });
    texts.collect::<Vec<_>>().join(", ")
}
