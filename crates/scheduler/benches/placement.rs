//! Decisions a second (of CPU time, so that a busy machine does not blur it) on 5,000 simulated nodes, each decision taken in (assumed) before the next.
//!
//! `cargo bench -p scheduler --bench placement [-- PODS]`

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use scheduler::{PodInfo, Snapshot, schedule};
use serde_json::{Value, json};

const NODES: usize = 5_000;

fn main() {
    let pods: usize = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(30_000);
    println!("{NODES} nodes; upstream publishes 100 to 500 pods/s at this size\n");
    println!("{:44} {:>9}  {:>12}  {:>14}", "pods that", "pods/s", "us each", "x upstream 500");
    let template = json!({});
    report("have requests and a controller", pods, &template, 100);
    report("select one zone of ten", pods, &json!({"nodeSelector": {"topology.kubernetes.io/zone": "z3"}}), 100);
    let required = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["z3", "z4"]}]}]}}});
    report("require one of two zones", pods, &json!({"affinity": required}), 100);
    let preferred = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}});
    report("prefer some nodes", pods, &json!({"affinity": preferred}), 100);
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a0"}}}]});
    report("must spread over zones (100 alike)", pods / 10, &spread, 100);
    let apart = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a0"}}}]}}});
    report("must keep apart by host (100 alike)", pods / 10, &apart, 100);
    unschedulable(pods / 30);
}

fn report(what: &str, pods: usize, extra: &Value, alike: usize) {
    let mut snapshot = cluster();
    let infos: Vec<_> = (0..pods).map(|n| Arc::new(PodInfo::new(&pod(n, n / alike, extra)))).collect();
    let start = cpu_time();
    for (turn, pod) in infos.into_iter().enumerate() {
        let placement = schedule(&pod, &snapshot, turn as u64).expect("there is room");
        snapshot.assume(pod, &placement.node);
    }
    line(what, pods, start);
}

fn unschedulable(pods: usize) {
    let snapshot = cluster();
    let huge = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1000"}}}]});
    let infos: Vec<_> = (0..pods).map(|n| PodInfo::new(&pod(n, n, &huge))).collect();
    let start = cpu_time();
    for (turn, pod) in infos.iter().enumerate() {
        let refused = schedule(pod, &snapshot, turn as u64).expect_err("nothing is that large");
        assert!(refused.to_string().starts_with("0/5000 nodes are available: 5000 Insufficient cpu."), "{refused}");
    }
    line("fit nowhere, told why", pods, start);
}

fn line(what: &str, pods: usize, start: Duration) {
    let seconds = (cpu_time() - start).as_secs_f64();
    let rate = pods as f64 / seconds;
    println!("{what:44} {rate:>9.0}  {:>12.1}  {:>14.0}", seconds * 1e6 / pods as f64, rate / 500.0);
}

fn cpu_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("getrusage works");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|t| Duration::from_micros((t.tv_sec() * 1_000_000 + t.tv_usec()) as u64))
        .sum()
}

fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::new();
    for n in 0..NODES {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": format!("node-{n}"), "labels": {
                "kubernetes.io/hostname": format!("node-{n}"), "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": format!("z{}", n % 10), "disk": if n % 3 == 0 { "ssd" } else { "hdd" }}},
            "status": {"allocatable": {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "100Gi", "pods": "110"}}
        }))
        .expect("a node");
        snapshot.set_node(&node);
    }
    snapshot
}

fn pod(n: usize, group: usize, extra: &Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": format!("p{n}"), "namespace": format!("ns{group}"), "uid": format!("uid-{n}"), "labels": {"app": "a0"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": format!("o{group}"), "controller": true}]},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]}
    });
    for (key, value) in extra.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).expect("a pod")
}
