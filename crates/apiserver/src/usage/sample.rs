//! What a node's agent has counted at one moment, and what was used between two moments. Pure.

use std::collections::HashMap;

use api::quantity::{Format, Quantity};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// What had been used up to a moment (the kubelet's `/stats/summary`).
pub(super) struct Sample {
    pub at: Timestamp,
    node: Counter,
    /// By uid of the pod and name of the container.
    containers: HashMap<(String, String), Counter>,
}

#[derive(Clone, Copy, Default)]
struct Counter {
    /// CPU time since the start, in nanoseconds.
    cpu: u64,
    /// Bytes of memory at that moment.
    memory: u64,
}

impl Sample {
    /// Reads a summary; `None` if it is none.
    pub fn read(summary: &Value) -> Option<Sample> {
        let node = &summary["node"];
        let mut containers = HashMap::new();
        for pod in summary["pods"].as_array()? {
            let uid = pod["podRef"]["uid"].as_str()?;
            for container in pod["containers"].as_array().into_iter().flatten() {
                let name = container["name"].as_str()?;
                containers.insert((uid.to_owned(), name.to_owned()), Counter::read(container));
            }
        }
        let at = node["memory"]["time"].as_str()?.parse().ok()?;
        Some(Sample { at, node: Counter::read(node), containers })
    }

    /// Whether what was used between an earlier sample and this one says something about now.
    pub fn follows(&self, earlier: &Sample, least: SignedDuration, most: SignedDuration) -> bool {
        (least..=most).contains(&self.at.duration_since(earlier.at))
    }
}

impl Counter {
    fn read(tree: &Value) -> Counter {
        Counter {
            cpu: tree["cpu"]["usageCoreNanoSeconds"].as_u64().unwrap_or(0),
            memory: tree["memory"]["workingSetBytes"].as_u64().unwrap_or(0),
        }
    }
}

/// What a node and its containers used between two samples.
pub(super) struct Used {
    pub at: Timestamp,
    window: SignedDuration,
    node: Value,
    containers: HashMap<(String, String), Value>,
}

impl Used {
    /// A container that the earlier sample does not know has started since, and so has all that it used.
    pub fn between(earlier: &Sample, later: &Sample) -> Used {
        let window = later.at.duration_since(earlier.at);
        let usage = |before: Counter, now: Counter| {
            // A counter that went back belongs to a container that was started anew.
            let spent = if now.cpu >= before.cpu { now.cpu - before.cpu } else { now.cpu };
            let cores = spent as f64 / window.as_secs_f64().max(f64::MIN_POSITIVE);
            let cpu: Quantity = format!("{}n", cores.round() as u64).parse().expect("a number and a suffix");
            let memory = Quantity::new(i64::try_from(now.memory).unwrap_or(i64::MAX), Format::BinarySi);
            json!({"cpu": cpu.to_string(), "memory": memory.to_string()})
        };
        let containers = later.containers.iter().map(|(key, now)| {
            let before = earlier.containers.get(key).copied().unwrap_or_default();
            (key.clone(), usage(before, *now))
        });
        Used { at: later.at, window, node: usage(earlier.node, later.node), containers: containers.collect() }
    }

    /// The `NodeMetrics` of a node.
    pub fn node_metrics(&self, node: &Value) -> Value {
        let mut metrics = self.head("NodeMetrics", node);
        metrics["usage"] = self.node.clone();
        metrics
    }

    /// The `PodMetrics` of a pod; `None` if nothing is known of its containers.
    pub fn pod_metrics(&self, pod: &Value) -> Option<Value> {
        let uid = pod["metadata"]["uid"].as_str()?;
        let mut containers: Vec<(&String, &Value)> =
            self.containers.iter().filter(|((of, _), _)| of == uid).map(|((_, name), usage)| (name, usage)).collect();
        containers.sort_by_key(|(name, _)| *name);
        let mut metrics = self.head("PodMetrics", pod);
        metrics["containers"] = containers.iter().map(|(name, usage)| json!({"name": name, "usage": usage})).collect();
        (!containers.is_empty()).then_some(metrics)
    }

    fn head(&self, kind: &str, of: &Value) -> Value {
        let time = format!("{:.0}", self.at);
        let mut metadata = json!({"name": of["metadata"]["name"]});
        for field in ["namespace", "labels"] {
            if !of["metadata"][field].is_null() {
                metadata[field] = of["metadata"][field].clone();
            }
        }
        metadata["creationTimestamp"] = time.as_str().into();
        let window = format!("{:.3}s", self.window.as_secs_f64());
        json!({"kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata,
            "timestamp": time, "window": window})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(time: &str, node: u64, containers: &[(&str, u64, u64)]) -> Sample {
        let containers: Vec<Value> = containers
            .iter()
            .map(|(name, cpu, memory)| {
                json!({"name": name, "cpu": {"usageCoreNanoSeconds": cpu}, "memory": {"workingSetBytes": memory}})
            })
            .collect();
        let summary = json!({
            "node": {"cpu": {"usageCoreNanoSeconds": node}, "memory": {"time": time, "workingSetBytes": 1 << 30}},
            "pods": [{"podRef": {"uid": "u"}, "containers": containers}],
        });
        Sample::read(&summary).expect("it is a summary")
    }

    #[test]
    fn usage_is_what_was_spent_in_the_window() {
        let earlier = sample("2026-01-01T00:00:00Z", 5_000_000_000, &[("b", 1_000_000_000, 1), ("c", 900, 1)]);
        let later = sample(
            "2026-01-01T00:00:02Z",
            8_000_000_000,
            &[("b", 1_500_000_000, 4096), ("a", 100_000_000, 2048), ("c", 600, 0)],
        );
        let used = Used::between(&earlier, &later);
        let node = used.node_metrics(&json!({"metadata": {"name": "n", "labels": {"a": "b"}}}));
        assert_eq!(node["usage"], json!({"cpu": "1500m", "memory": "1Gi"}));
        assert_eq!((&node["window"], &node["metadata"]["labels"]["a"]), (&json!("2.000s"), &json!("b")));
        let pod = used.pod_metrics(&json!({"metadata": {"name": "p", "namespace": "x", "uid": "u"}})).unwrap();
        assert_eq!(
            pod["containers"],
            json!([
                {"name": "a", "usage": {"cpu": "50m", "memory": "2Ki"}},
                {"name": "b", "usage": {"cpu": "250m", "memory": "4Ki"}},
                {"name": "c", "usage": {"cpu": "300n", "memory": "0"}},
            ])
        );
        assert!(used.pod_metrics(&json!({"metadata": {"name": "q", "uid": "other"}})).is_none());
    }
}
