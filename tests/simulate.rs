//! Nodes whose containers are only pretended.

use std::process::Stdio;

use nix::{sys::signal, unistd::Pid};

use crate::cluster::{Cluster, Running, eventually};

#[test]
fn simulated_nodes_take_pods_and_go_without_a_trace() {
    let cluster = Cluster::prepare();
    cluster.start();
    let mut command = cluster.hythe_command();
    command.args(["simulate", "--nodes", "2", "--prefix", "pretended"]).env("TMPDIR", cluster.scratch());
    let mut simulation = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    simulation.read_until("2 simulated nodes are ready");
    let nodes = cluster.kubectl(&["get", "nodes"]);
    assert!(nodes.contains("pretended-0") && nodes.contains("pretended-1"), "{nodes}");
    cluster.apply(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: 6, selector: {matchLabels: {app: d}}, template: {metadata: {labels: \
         {app: d}}, spec: {nodeSelector: {hythe.io/simulated: 'true'}, containers: [{name: c, image: 'nowhere/nothing:1'}]}}}}",
    );
    cluster.kubectl(&["wait", "--for=condition=Available", "deployment/d", "--timeout=90s"]);
    let where_they_are = cluster.jsonpath("pod -l app=d", "{.items[*].spec.nodeName}");
    assert!(where_they_are.split(' ').all(|node| node.starts_with("pretended-")), "{where_they_are}");
    // A pretended program takes SIGTERM as its cue to finish.
    cluster.kubectl(&["delete", "deployment/d", "--cascade=foreground", "--timeout=60s"]);
    assert_eq!(cluster.jsonpath("pod -l app=d", "{.items[*].metadata.name}"), "");
    signal::kill(Pid::from_raw(simulation.0.id().cast_signed()), signal::Signal::SIGTERM).unwrap();
    eventually("the end of the simulation", || simulation.0.try_wait().unwrap().is_some());
    let nodes = cluster.kubectl(&["get", "nodes"]);
    assert!(!nodes.contains("pretended"), "{nodes}");
    let names = std::fs::read_dir(cluster.scratch()).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("simulate")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The node is taken for lost after 50 s, as upstream does it.
#[test]
fn a_frozen_node_sets_itself_right_as_soon_as_it_wakes() {
    let cluster = Cluster::prepare();
    cluster.start();
    let mut command = cluster.hythe_command();
    command.args(["simulate", "--nodes", "1", "--prefix", "sleeper"]).env("TMPDIR", cluster.scratch());
    let mut simulation = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    simulation.read_until("1 simulated nodes are ready");
    for (name, seconds) in [("leaves", "tolerationSeconds: 0"), ("stays", "")] {
        cluster.apply(&format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeSelector: {{hythe.io/simulated: 'true'}}, \
             tolerations: [{{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, {seconds}}}], \
             containers: [{{name: c, image: 'nowhere/nothing:1'}}]}}}}"
        ));
    }
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/leaves", "pod/stays", "--timeout=90s"]);
    let signal = |signal| signal::kill(Pid::from_raw(simulation.0.id().cast_signed()), signal).unwrap();
    signal(signal::Signal::SIGSTOP);
    cluster.kubectl(&["wait", "--for=condition=Ready=Unknown", "node/sleeper-0", "--timeout=120s"]);
    eventually("the pod to be on its way", || {
        !cluster.jsonpath("pod/leaves", "{.metadata.deletionTimestamp}").is_empty()
    });
    cluster.kubectl(&["wait", "--for=condition=Ready=False", "pod/stays", "--timeout=60s"]);

    signal(signal::Signal::SIGCONT);
    cluster.kubectl(&["wait", "--for=condition=Ready", "node/sleeper-0", "pod/stays", "--timeout=60s"]);
    eventually("no taint", || cluster.jsonpath("node/sleeper-0", "{.spec.taints}").is_empty());
    cluster.kubectl(&["wait", "--for=delete", "pod/leaves", "--timeout=60s"]);
    cluster.kubectl(&["delete", "node", "sleeper-0"]);
    let told = ["RegisteredNode", "NodeHasSufficientPID", "NodeNotReady", "NodeReady", "RemovingNode"];
    eventually("the node's story", || {
        let events = cluster.kubectl(&["get", "events", "--field-selector", "involvedObject.name=sleeper-0"]);
        told.iter().all(|reason| events.contains(reason))
    });
}
