//! The types of `metrics.k8s.io`, which `k8s-openapi` has not (`k8s.io/metrics/pkg/apis/metrics/v1beta1`).

use serde_json::{Map, Value, json};

const META: &str = "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "#/$defs/io.k8s.apimachinery.pkg.api.resource.Quantity";
const OWN: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";

/// Their definitions by name.
pub fn definitions() -> Map<String, Value> {
    let usage = json!({
        "description": "What was used, by the name of the resource.",
        "type": "object",
        "additionalProperties": { "$ref": QUANTITY },
    });
    let of_object = |what: &str, own: &str, field: Value| {
        let mut definition = json!({
            "description": format!("What {what} used in a window of time that ended at the timestamp."),
            "type": "object",
            "properties": {
                "apiVersion": { "type": "string", "description": "The version of this representation." },
                "kind": { "type": "string", "description": "The kind of this object." },
                "metadata": { "$ref": format!("{META}.ObjectMeta"), "description": "Standard metadata." },
                "timestamp": { "$ref": format!("{META}.Time"), "description": "The end of the window." },
                "window": { "type": "string", "description": "The length of the window." },
            },
            "required": ["timestamp", "window", own],
        });
        definition["properties"][own] = field;
        definition
    };
    let containers = json!({
        "description": "What each container used.",
        "type": "array",
        "items": { "$ref": format!("#/$defs/{OWN}.ContainerMetrics") },
    });
    let container = json!({
        "description": "What a container used.",
        "type": "object",
        "properties": {
            "name": { "type": "string", "description": "The container's name." },
            "usage": usage,
        },
        "required": ["name", "usage"],
    });
    Map::from_iter([
        (format!("{OWN}.NodeMetrics"), of_object("a node", "usage", usage)),
        (format!("{OWN}.PodMetrics"), of_object("a pod", "containers", containers)),
        (format!("{OWN}.ContainerMetrics"), container),
    ])
}
