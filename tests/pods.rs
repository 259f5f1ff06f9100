//! What a pod promises.

use crate::cluster::{Cluster, busybox, eventually};

fn logs(cluster: &Cluster, pod: &str) -> String {
    cluster.kubectl(&["logs", pod])
}

#[test]
fn containers_get_what_their_pod_says() {
    let cluster = Cluster::up();
    cluster.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOR: blue, file.txt: "from a map"}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: all, labels: {app: all}, annotations: {note: hello}}
spec:
  restartPolicy: Never
  hostname: named
  hostAliases: [{ip: 10.9.9.9, hostnames: [alias.example]}]
  initContainers:
  - {name: first, image: "busybox:1", command: [sh, -c, "echo prepared > /shared/file"], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: c
    image: busybox:1
    command: [sh, -c]
    args:
    - |
      echo color=$COLOR password=$PASSWORD ip=$IP expanded=$EXPANDED literal=$LITERAL
      echo user=$(id -u):$(id -g) dir=$(pwd) host=$(hostname)
      cat /shared/file /maps/file.txt /etc/podinfo/labels; echo
      grep alias.example /etc/hosts
      grep nameserver /etc/resolv.conf
      touch /forbidden 2> /dev/null || echo read-only
      grep Seccomp: /proc/self/status
      grep CapEff /proc/self/status
      cat /proc/self/limits > /dev/null
      echo last words > /dev/termination-log
      exit 3
    workingDir: /tmp
    securityContext: {runAsUser: 1000, runAsGroup: 2000, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
    envFrom: [{configMapRef: {name: settings}}]
    env:
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: hidden, key: password}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: EXPANDED, value: "is-$(COLOR)"}
    - {name: LITERAL, value: "$$(COLOR)"}
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: maps, mountPath: /maps}
    - {name: podinfo, mountPath: /etc/podinfo}
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: maps, configMap: {name: settings}}
  - {name: podinfo, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
"#,
    );
    cluster.until("pod/all", "{.status.phase}", "Failed");
    let ip = cluster.jsonpath("pod/all", "{.status.podIP}");
    let log = logs(&cluster, "all");
    for line in [
        &format!("color=blue password=s3cret ip={ip} expanded=is-blue literal=$(COLOR)"),
        "user=1000:2000 dir=/tmp host=named",
        "prepared",
        "from a map",
        "app=\"all\"",
        "10.9.9.9\talias.example",
        "read-only",
        "Seccomp:\t2",
        "CapEff:\t0000000000000000",
    ] {
        assert!(log.contains(line), "{line:?} is not in\n{log}");
    }
    let terminated = cluster.jsonpath("pod/all", "{.status.containerStatuses[0].state.terminated.exitCode} {.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.message}");
    assert_eq!(terminated, "3 Error last words\n");
    assert!(!cluster.log().contains("s3cret"), "secrets never appear in logs");
}

#[test]
fn too_much_memory_is_an_oom_kill() {
    let cluster = Cluster::up();
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: hungry}, spec: {restartPolicy: Never, containers: [{name: c, image: 'busybox:1', command: [sh, -c, 'x=x; while true; do x=$x$x; done'], resources: {limits: {memory: 32Mi}}}]}}");
    cluster.until("pod/hungry", "{.status.containerStatuses[0].state.terminated.reason}", "OOMKilled");
    assert_eq!(cluster.jsonpath("pod/hungry", "{.status.containerStatuses[0].state.terminated.exitCode}"), "137");
}

#[test]
fn a_failing_container_is_restarted_with_backoff_and_a_succeeding_one_is_done() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("fails", "echo attempt; exit 1"));
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: done}, spec: {restartPolicy: OnFailure, containers: [{name: c, image: 'busybox:1', command: ['true']}]}}");
    cluster.until("pod/done", "{.status.phase}", "Succeeded");
    eventually("the backoff", || {
        cluster.jsonpath("pod/fails", "{.status.containerStatuses[0].state.waiting.reason}") == "CrashLoopBackOff"
    });
    assert!(cluster.kubectl(&["get", "pods"]).contains("CrashLoopBackOff"));
    assert!(cluster.kubectl(&["logs", "fails", "--previous"]).contains("attempt"));
    let events = cluster.kubectl(&["get", "events", "--field-selector", "involvedObject.name=fails"]);
    assert!(events.contains("Back-off restarting failed container"), "{events}");
}

#[test]
fn probes_decide_over_traffic_and_restarts() {
    let cluster = Cluster::up();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1
    command: [sh, -c, "touch /tmp/alive; mkdir /tmp/www; httpd -p 8080 -h /tmp/www; sleep 1000"]
    readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
    livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 2}
---
{apiVersion: v1, kind: Service, metadata: {name: p}, spec: {selector: {app: p}, ports: [{port: 80, targetPort: 8080}]}}
"#,
    );
    cluster.until("pod/p", "{.status.phase}", "Running");
    eventually("the failed probe's event", || {
        cluster.kubectl(&["get", "events"]).contains("Readiness probe failed: HTTP probe failed with statuscode: 404")
    });
    assert_eq!(cluster.jsonpath("endpoints/p", "{.subsets[*].addresses}"), "");
    cluster.kubectl(&["exec", "p", "--", "touch", "/tmp/www/ready"]);
    cluster.wait_ready("pod/p");
    eventually("the endpoint", || !cluster.jsonpath("endpoints/p", "{.subsets[*].addresses[*].ip}").is_empty());
    cluster.kubectl(&["exec", "p", "--", "rm", "/tmp/alive"]);
    eventually("the restart", || cluster.jsonpath("pod/p", "{.status.containerStatuses[0].restartCount}") == "1");
    assert!(cluster.kubectl(&["get", "events"]).contains("Liveness probe failed"));
}

#[test]
fn configuration_reaches_running_pods() {
    let cluster = Cluster::up();
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: live}, data: {key: one}}");
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: reader}, spec: {terminationGracePeriodSeconds: 0, volumes: [{name: v, configMap: {name: live}}], containers: [{name: c, image: 'busybox:1', command: [sleep, '1000'], volumeMounts: [{name: v, mountPath: /v}]}]}}");
    cluster.wait_ready("pod/reader");
    assert_eq!(cluster.kubectl(&["exec", "reader", "--", "cat", "/v/key"]), "one");
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: live}, data: {key: two}}");
    eventually("the new value", || cluster.kubectl(&["exec", "reader", "--", "cat", "/v/key"]) == "two");
}

#[test]
fn a_pod_that_fits_nowhere_says_why() {
    let cluster = Cluster::up();
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: big}, spec: {containers: [{name: c, image: 'busybox:1', resources: {requests: {cpu: '1000'}}}]}}");
    eventually("the verdict", || {
        cluster.kubectl(&["get", "events"]).contains("0/1 nodes are available: 1 Insufficient cpu")
    });
    assert_eq!(
        cluster.jsonpath("pod/big", "{.status.conditions[?(@.type==\"PodScheduled\")].reason}"),
        "Unschedulable"
    );
    cluster.kubectl(&["cordon", "node"]);
    cluster.apply(&busybox("kept-out", "sleep 100"));
    eventually("the verdict", || cluster.kubectl(&["get", "events"]).contains("1 node(s) were unschedulable"));
    cluster.kubectl(&["uncordon", "node"]);
    cluster.wait_ready("pod/kept-out");
}

#[test]
fn deleting_a_pod_runs_its_hook_and_waits_its_grace() {
    let cluster = Cluster::up();
    let dir = cluster.scratch().join("host");
    std::fs::create_dir(&dir).unwrap();
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: polite}}, spec: {{terminationGracePeriodSeconds: 20, volumes: [{{name: h, hostPath: {{path: {}}}}}], containers: [{{name: c, image: 'busybox:1', \
         command: [sh, -c, 'trap \"echo term >> /h/log; exit 0\" TERM; while true; do sleep 0.1; done'], volumeMounts: [{{name: h, mountPath: /h}}], \
         lifecycle: {{preStop: {{exec: {{command: [sh, -c, 'echo hook >> /h/log']}}}}}}}}]}}}}",
        dir.display()
    ));
    cluster.wait_ready("pod/polite");
    cluster.kubectl(&["delete", "pod", "polite"]);
    assert_eq!(std::fs::read_to_string(dir.join("log")).unwrap(), "hook\nterm\n");
}
