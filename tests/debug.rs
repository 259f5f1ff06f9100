//! `kubectl debug`, and other resources for what runs.

use serde_json::{Value, json};

use crate::{
    attach::Terminal,
    cluster::{Cluster, busybox, eventually},
};

#[test]
fn debug_looks_into_a_running_pod() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("web", "exec sleep 4242"));
    cluster.wait_ready("pod/web");
    let debug = ["debug", "-it", "web", "--image=busybox:1", "--target=c", "--container=debugger", "--", "sh"];
    // Up to 1.21, kubectl asked for it by a kind that no server has had since; what it does after that, it can.
    let attach = ["attach", "-it", "web", "--container=debugger"];
    let arguments = if cluster.kubectl_minor() >= 22 { &debug[..] } else { &attach[..] };
    if cluster.kubectl_minor() < 22 {
        let container = json!({"name": "debugger", "image": "busybox:1", "command": ["sh"], "stdin": true, "tty": true,
            "targetContainerName": "c"});
        let patch = json!({"spec": {"ephemeralContainers": [container]}});
        cluster.merge_part("/api/v1/namespaces/default/pods/web", "ephemeralcontainers", &patch);
        let started = "{.status.ephemeralContainerStatuses[0].state.running.startedAt}";
        eventually("the debugger", || !cluster.jsonpath("pod/web", started).is_empty());
    }
    let mut debugger = Terminal::open(&cluster, arguments, 24, 80);
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
    if cluster.kubectl_minor() >= 32 {
        let patch = r#"{"spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "64Mi"}}}]}}"#;
        cluster.kubectl(&["patch", "pod", "web", "--subresource", "resize", "--patch", patch]);
    } else {
        let path = "/api/v1/namespaces/default/pods/web";
        let pod: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", path])).unwrap();
        let mut containers = pod["spec"]["containers"].clone();
        containers[0]["resources"]["limits"]["memory"] = json!("64Mi");
        cluster.merge_part(path, "resize", &json!({"spec": {"containers": containers}}));
    }
    cluster.until("pod/web", "{.status.containerStatuses[0].resources.limits.memory}", "64Mi");
    assert_eq!(limit(), "67108864\n");
    assert_eq!(cluster.jsonpath("pod/web", "{.status.containerStatuses[0].restartCount}"), "0");
    eventually("the event", || cluster.kubectl(&["get", "events"]).contains("ResizeCompleted"));
}
