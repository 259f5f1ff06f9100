//! `autoscaling HorizontalPodAutoscaler` (both versions) and `policy/v1 PodDisruptionBudget`.

use serde_json::{Value, json};

use super::{
    access::{ensure_object, fill, get, is_empty, object_mut, set},
    prepare::{self, WITH_GENERATION, WITH_STATUS},
};
use crate::resource::Strategy;

/// The strategy of HorizontalPodAutoscalers.
pub const HORIZONTAL_POD_AUTOSCALER: Strategy = Strategy {
    default: default_autoscaler,
    prepare_create: |object| prepare::empty_status(object, json!({"desiredReplicas": 0, "currentMetrics": null})),
    ..WITH_STATUS
};

/// The strategy of PodDisruptionBudgets.
pub const POD_DISRUPTION_BUDGET: Strategy = Strategy {
    prepare_create: |object| {
        prepare::first_generation(object);
        prepare::empty_status(
            object,
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}),
        );
    },
    unconditional_update: false,
    ..WITH_GENERATION
};

fn default_autoscaler(object: &mut Value) {
    let first = super::access::text(object, "apiVersion") == "autoscaling/v1";
    let spec = ensure_object(object, "spec");
    fill(spec, "minReplicas", 1);
    if first {
        fill(spec, "targetCPUUtilizationPercentage", 80);
        return;
    }
    if is_empty(spec, "metrics") {
        set(
            spec,
            "metrics",
            json!([{"type": "Resource", "resource": {
                "name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80},
            }}]),
        );
    }
    if let Some(behavior) = object_mut(spec, "behavior") {
        let up = ensure_object(behavior, "scaleUp");
        fill(up, "stabilizationWindowSeconds", 0);
        fill(up, "selectPolicy", "Max");
        if get(up, "policies").is_none() {
            set(
                up,
                "policies",
                json!([
                    {"type": "Pods", "value": 4, "periodSeconds": 15},
                    {"type": "Percent", "value": 100, "periodSeconds": 15},
                ]),
            );
        }
        let down = ensure_object(behavior, "scaleDown");
        fill(down, "selectPolicy", "Max");
        if get(down, "policies").is_none() {
            set(down, "policies", json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
        }
    }
}
