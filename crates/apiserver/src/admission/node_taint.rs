//! A new node takes no pods until its conditions say that it is ready (upstream's `TaintNodesByCondition`); the node
//! life-cycle controller takes the taint back.

use serde_json::{Value, json};

use super::Attributes;
use crate::failure::Outcome;

const KEY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub(super) fn add(_: &Attributes<'_>, node: &mut Value) -> Outcome<()> {
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    let taints = &mut node["spec"]["taints"];
    if !taints.is_array() {
        *taints = json!([]);
    }
    if let Some(taints) =
        taints.as_array_mut().filter(|all| !all.iter().any(|t| t["key"] == KEY && t["effect"] == EFFECT))
    {
        taints.push(json!({"key": KEY, "effect": EFFECT}));
    }
    Ok(())
}
