//! `kubectl debug`, and other resources for what runs.

use crate::{
    attach::Terminal,
    cluster::{Cluster, busybox, eventually},
};

#[test]
fn debug_looks_into_a_running_pod() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("web", "exec sleep 4242"));
    cluster.wait_ready("pod/web");
    let mut debugger = Terminal::open(
        &cluster,
        &["debug", "-it", "web", "--image=busybox:1", "--target=c", "--container=debugger", "--", "sh"],
        24,
        80,
    );
    debugger.type_line("ps | grep 'sleep 424[2]' && echo found-$((40 + 2))");
    debugger.until("found-42");
    debugger.type_line("exit 7");
    cluster.until("pod/web", "{.status.ephemeralContainerStatuses[0].state.terminated.exitCode}", "7");
    assert_eq!(cluster.jsonpath("pod/web", "{.status.phase}"), "Running");
    assert!(cluster.kubectl(&["logs", "web", "-c", "debugger"]).contains("found-42"));
    assert!(cluster.kubectl(&["describe", "pod", "web"]).contains("Ephemeral Containers:"));

    cluster.kubectl(&["debug", "web", "--copy-to=copy", "--image=busybox:1", "--share-processes", "--", "sleep", "99"]);
    cluster.wait_ready("pod/copy");
    let names = cluster.jsonpath("pod/copy", "{.spec.containers[*].name}");
    assert_eq!(names.split(' ').count(), 2, "{names}");

    let said =
        cluster.kubectl(&["debug", "node/node", "--image=busybox:1", "--", "sh", "-c", "ls -d /host/proc; hostname"]);
    let pod = said.split(' ').find(|word| word.starts_with("node-debugger-node-")).expect("a pod's name").to_owned();
    cluster.until(&format!("pod/{pod}"), "{.status.phase}", "Succeeded");
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(cluster.kubectl(&["logs", &pod]), format!("/host/proc\n{host}\n"));
}

#[test]
fn a_running_container_is_resized_in_place() {
    let cluster = Cluster::up();
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: c, image: 'busybox:1', command: [sleep, '999'], \
         resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 32Mi}}}]}}",
    );
    cluster.wait_ready("pod/web");
    let limit = || {
        let files = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2> /dev/null || cat /sys/fs/cgroup/memory.max";
        cluster.kubectl(&["exec", "web", "--", "sh", "-c", files])
    };
    assert_eq!(limit(), "33554432\n");
    let patch = r#"{"spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "64Mi"}}}]}}"#;
    cluster.kubectl(&["patch", "pod", "web", "--subresource", "resize", "--patch", patch]);
    cluster.until("pod/web", "{.status.containerStatuses[0].resources.limits.memory}", "64Mi");
    assert_eq!(limit(), "67108864\n");
    assert_eq!(cluster.jsonpath("pod/web", "{.status.containerStatuses[0].restartCount}"), "0");
    eventually("the event", || cluster.kubectl(&["get", "events"]).contains("ResizeCompleted"));
}
