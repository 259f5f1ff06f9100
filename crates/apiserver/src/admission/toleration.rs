//! Pods stay five minutes on a node that is not ready or not reachable, unless they say otherwise.

use serde_json::{Value, json};

use super::Attributes;
use crate::failure::Outcome;

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) fn give(_: &Attributes<'_>, pod: &mut Value) -> Outcome<()> {
    for taint in TAINTS {
        let present = pod["spec"]["tolerations"].as_array().map(Vec::as_slice).unwrap_or_default();
        let tolerated = present.iter().any(|toleration| {
            let key = toleration["key"].as_str().unwrap_or("");
            let effect = toleration["effect"].as_str().unwrap_or("");
            (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if tolerated {
            continue;
        }
        let toleration =
            json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
        match pod["spec"]["tolerations"].as_array_mut() {
            Some(list) => list.push(toleration),
            None => pod["spec"]["tolerations"] = json!([toleration]),
        }
    }
    Ok(())
}
