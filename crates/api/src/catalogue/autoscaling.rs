//! The horizontal pod autoscaler: stored as v2; v1 carries what it lacks in annotations, as upstream does.

use serde_json::{Map, Value, json};

use super::entry::{Entry, namespaced};
use crate::schema::types::{autoscaling_v1_HorizontalPodAutoscaler, autoscaling_v2_HorizontalPodAutoscaler};

const GROUP: &str = "autoscaling";
const KIND: &str = "HorizontalPodAutoscaler";
const PLURAL: &str = "horizontalpodautoscalers";

pub fn entries() -> Vec<Entry> {
    vec![
        namespaced(GROUP, "v2", KIND, PLURAL, &autoscaling_v2_HorizontalPodAutoscaler)
            .short(&["hpa"])
            .category(&["all"])
            .status(),
        namespaced(GROUP, "v1", KIND, PLURAL, &autoscaling_v1_HorizontalPodAutoscaler)
            .short(&["hpa"])
            .category(&["all"])
            .status()
            .stored_as("horizontalpodautoscalers.autoscaling", (GROUP, "v2"), to_v2, from_v2),
    ]
}

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn to_v2(object: &mut Value) {
    object["apiVersion"] = "autoscaling/v2".into();
    let mut parked = take_annotations(object);
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let mut metrics = Vec::new();
        if let Some(percent) = spec.remove("targetCPUUtilizationPercentage") {
            metrics.push(cpu(json!({ "target": { "type": "Utilization", "averageUtilization": percent } })));
        }
        if let Some(Value::Array(others)) = parked.remove(METRICS) {
            metrics.extend(others);
        }
        if !metrics.is_empty() {
            spec.insert("metrics".into(), metrics.into());
        }
        if let Some(behavior) = parked.remove(BEHAVIOR) {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        let mut metrics = Vec::new();
        if let Some(percent) = status.remove("currentCPUUtilizationPercentage") {
            metrics.push(cpu(json!({ "current": { "averageUtilization": percent } })));
        }
        if let Some(Value::Array(others)) = parked.remove(CURRENT_METRICS) {
            metrics.extend(others);
        }
        if !metrics.is_empty() {
            status.insert("currentMetrics".into(), metrics.into());
        }
        if let Some(conditions) = parked.remove(CONDITIONS) {
            status.insert("conditions".into(), conditions);
        }
    }
}

fn from_v2(object: &mut Value) {
    object["apiVersion"] = "autoscaling/v1".into();
    let mut parked = Map::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        if let Some(Value::Array(metrics)) = spec.remove("metrics") {
            let (percent, others) = split(metrics, "/resource/target/averageUtilization");
            if let Some(percent) = percent {
                spec.insert("targetCPUUtilizationPercentage".into(), percent);
            }
            park(&mut parked, METRICS, others);
        }
        if let Some(behavior) = spec.remove("behavior") {
            parked.insert(BEHAVIOR.into(), behavior.to_string().into());
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        // Always written in v1, unlike in v2.
        status.entry("currentReplicas").or_insert_with(|| 0.into());
        if let Some(Value::Array(metrics)) = status.remove("currentMetrics") {
            let (percent, others) = split(metrics, "/resource/current/averageUtilization");
            if let Some(percent) = percent {
                status.insert("currentCPUUtilizationPercentage".into(), percent);
            }
            park(&mut parked, CURRENT_METRICS, others);
        }
        if let Some(Value::Array(conditions)) = status.remove("conditions") {
            park(&mut parked, CONDITIONS, conditions);
        }
    }
    if !parked.is_empty() && object["metadata"].is_object() {
        match object["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
            Some(annotations) => annotations.extend(parked),
            None => object["metadata"]["annotations"] = parked.into(),
        }
    }
}

/// The average utilization of the CPU, which v1 has a field for, and all other metrics.
fn split(metrics: Vec<Value>, utilization: &str) -> (Option<Value>, Vec<Value>) {
    let mut percent = None;
    let mut others = Vec::new();
    for metric in metrics {
        let is_cpu = metric["type"] == "Resource" && metric["resource"]["name"] == "cpu";
        match metric.pointer(utilization).filter(|_| is_cpu && percent.is_none()) {
            Some(found) => percent = Some(found.clone()),
            None => others.push(metric),
        }
    }
    (percent, others)
}

fn cpu(mut resource: Value) -> Value {
    resource["name"] = "cpu".into();
    json!({ "type": "Resource", "resource": resource })
}

fn park(parked: &mut Map<String, Value>, key: &str, values: Vec<Value>) {
    if !values.is_empty() {
        parked.insert(key.into(), Value::Array(values).to_string().into());
    }
}

/// Takes the annotations that stand for fields of v2 out of the object; what is not JSON stays.
fn take_annotations(object: &mut Value) -> Map<String, Value> {
    let mut taken = Map::new();
    let Some(annotations) = object["metadata"].get_mut("annotations").and_then(Value::as_object_mut) else {
        return taken;
    };
    for key in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
        let parsed = annotations.get(key).and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
        if let Some(value) = parsed {
            annotations.remove(key);
            taken.insert(key.into(), value);
        }
    }
    if annotations.is_empty() {
        object["metadata"].as_object_mut().expect("it has just been walked").remove("annotations");
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v1_lacks_survives_in_annotations() {
        let v2 = json!({
            "apiVersion": "autoscaling/v2", "kind": KIND, "metadata": {"name": "a"},
            "spec": {
                "maxReplicas": 3,
                "metrics": [
                    cpu(json!({"target": {"type": "Utilization", "averageUtilization": 70}})),
                    {"type": "Pods", "pods": {"metric": {"name": "m"}}},
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}},
            },
            "status": {"currentReplicas": 0, "conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let mut converted = v2.clone();
        from_v2(&mut converted);
        assert_eq!(converted["spec"]["targetCPUUtilizationPercentage"], 70);
        assert_eq!(converted["apiVersion"], "autoscaling/v1");
        assert!(converted["spec"].get("metrics").is_none());
        to_v2(&mut converted);
        assert_eq!(converted, v2);
    }

    #[test]
    fn a_v1_target_becomes_a_metric() {
        let mut object = json!({"metadata": {}, "spec": {"targetCPUUtilizationPercentage": 50}});
        to_v2(&mut object);
        assert_eq!(object["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    }
}
