//! Probes and hooks.

use crate::cluster::{Cluster, eventually};

#[test]
fn probes_hold_back_restart_and_tell() {
    let cluster = Cluster::up();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: slow}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1
    command: [sh, -c, "sleep 3; touch /started; exec httpd -f -p 9000 -h /tmp"]
    startupProbe: {exec: {command: [test, -e, /started]}, periodSeconds: 1, failureThreshold: 60}
    readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}
    livenessProbe: {exec: {command: [test, -e, /started]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - name: c
    image: busybox:1
    command: [sh, -c, "trap '' TERM; while true; do sleep 1; done"]
    livenessProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: never-starts}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1
    command: [sleep, "1000"]
    startupProbe: {tcpSocket: {port: 9}, periodSeconds: 1, failureThreshold: 2}
---
apiVersion: v1
kind: Pod
metadata: {name: bad-hook}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "busybox:1", command: [sleep, "1000"], lifecycle: {postStart: {exec: {command: [sh, -c, "echo no; exit 9"]}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: rests}
spec:
  terminationGracePeriodSeconds: 30
  containers:
  - {name: c, image: "busybox:1", command: [sh, -c, "trap 'exit 0' TERM; while true; do sleep 0.1; done"], lifecycle: {postStart: {sleep: {seconds: 1}}, preStop: {sleep: {seconds: 2}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: wire}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "busybox:1", command: [sleep, "1000"], readinessProbe: {grpc: {port: 9999}, periodSeconds: 1}}
  - {name: d, image: "busybox:1", command: [sleep, "1000"], readinessProbe: {httpGet: {port: 9998, scheme: HTTPS}, periodSeconds: 1}}
"#,
    );
    cluster.wait_ready("pod/slow");
    assert_eq!(cluster.jsonpath("pod/slow", "{.status.containerStatuses[0].restartCount}"), "0");
    // The probe's own grace period, not the pod's ten minutes.
    eventually("the restart", || {
        cluster.jsonpath("pod/stubborn", "{.status.containerStatuses[0].restartCount}") != "0"
    });
    assert_eq!(cluster.jsonpath("pod/stubborn", "{.status.containerStatuses[0].lastState.terminated.exitCode}"), "137");
    cluster.until("pod/never-starts", "{.status.phase}", "Failed");
    cluster.wait_ready("pod/rests");
    let begin = std::time::Instant::now();
    cluster.kubectl(&["delete", "pod", "rests"]);
    let took = begin.elapsed().as_secs_f32();
    assert!((2.0..20.0).contains(&took), "{took}");
    let events = || cluster.kubectl(&["get", "events"]);
    for words in [
        "Container c failed liveness probe, will be restarted",
        "Container c failed startup probe, will be restarted",
        "Startup probe failed: dial tcp",
        "PostStartHook failed",
        "Readiness probe failed: timeout: failed to connect service",
        "Readiness probe failed: Get \"https://",
    ] {
        eventually(words, || events().contains(words));
    }
    assert!(!events().contains("PostStartHook failed:"), "what a hook says may be a secret");
    cluster.kubectl(&["delete", "pod", "stubborn", "--grace-period=0", "--force"]);
}
