//! What nodes and pods use, as `metrics-server` shows it.

use serde_json::Value;

use super::{
    cell::{at, list_at, text_at},
    column::{NAME, text},
};
use crate::{
    quantity::{Format, Quantity},
    resource::Column,
};

pub(super) const NODES: &[Column] = &[
    NAME,
    text("cpu", "CPU used.", |o, _| text_at(o, "/usage/cpu").into()),
    text("memory", "Memory used.", |o, _| text_at(o, "/usage/memory").into()),
    WINDOW,
];

pub(super) const PODS: &[Column] = &[
    NAME,
    text("cpu", "CPU used by all containers.", |o, _| sum(o, "/usage/cpu").into()),
    text("memory", "Memory used by all containers.", |o, _| sum(o, "/usage/memory").into()),
    WINDOW,
];

const WINDOW: Column = text("Window", "Time that was looked at.", |o, _| text_at(o, "/window").into());

fn sum(pod: &Value, pointer: &str) -> String {
    let mut total = Quantity::new(0, Format::DecimalSi);
    for amount in list_at(pod, "/containers").iter().filter_map(|c| Quantity::from_json(at(c, pointer)?).ok()) {
        total.add(&amount);
    }
    total.to_string()
}
