//! What a pod shares with its node, what it is called there, and what the node refuses.

use std::fs;

use crate::cluster::{Cluster, eventually, http_get, text};

#[test]
fn pods_share_with_the_node_and_among_themselves_what_they_ask_for() {
    let cluster = Cluster::up();
    let port = cluster.node_port(50);
    cluster.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: host}}
spec:
  hostNetwork: true
  hostPID: true
  hostIPC: true
  dnsPolicy: ClusterFirstWithHostNet
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1
    command: [sleep, "1000"]
    securityContext: {{privileged: true}}
---
apiVersion: v1
kind: Pod
metadata: {{name: shared}}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: a, image: "busybox:1", command: [sleep, "1000"]}}
  - {{name: b, image: "busybox:1", command: [sleep, "1001"]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: published}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: c, image: "busybox:1", command: [sh, -c, "echo published > /tmp/index.html; httpd -f -p 80 -h /tmp"], ports: [{{containerPort: 80, hostPort: {port}}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: named, labels: {{app: named}}}}
spec:
  hostname: first
  subdomain: names
  setHostnameAsFQDN: true
  dnsPolicy: None
  dnsConfig: {{nameservers: [192.0.2.7], searches: [a.example], options: [{{name: ndots, value: "2"}}]}}
  hostAliases: [{{ip: 192.0.2.9, hostnames: [one.example, two.example]}}]
  terminationGracePeriodSeconds: 0
  securityContext: {{fsGroup: 3000, supplementalGroups: [4000], runAsUser: 1000, sysctls: [{{name: net.ipv4.ip_unprivileged_port_start, value: "79"}}]}}
  volumes: [{{name: v, emptyDir: {{}}}}]
  containers: [{{name: c, image: "busybox:1", command: [sleep, "1000"], volumeMounts: [{{name: v, mountPath: /v}}]}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: plain}}
spec:
  dnsPolicy: Default
  terminationGracePeriodSeconds: 0
  containers: [{{name: c, image: "busybox:1", command: [sleep, "1000"]}}]
"#
    ));
    for pod in ["host", "shared", "published", "named", "plain"] {
        cluster.wait_ready(&format!("pod/{pod}"));
    }
    let sh = |pod: &str, script: &str| cluster.kubectl(&["exec", pod, "--", "sh", "-c", script]);
    // The node's own namespaces.
    for kind in ["net", "ipc", "pid"] {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
        assert_eq!(sh("host", &format!("busybox readlink /proc/self/ns/{kind}")).trim(), own, "{kind}");
        assert_ne!(sh("plain", &format!("busybox readlink /proc/self/ns/{kind}")).trim(), own, "{kind}");
    }
    assert_eq!(cluster.jsonpath("pod/host", "{.status.podIP}"), cluster.jsonpath("pod/host", "{.status.hostIP}"));
    let capabilities = |status: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap().trim().to_owned();
        u64::from_str_radix(&line, 16).unwrap()
    };
    let own = capabilities(&fs::read_to_string("/proc/self/status").unwrap());
    assert_eq!(capabilities(&sh("host", "cat /proc/self/status")) & own, own, "a privileged container has them all");
    assert_eq!(sh("host", "busybox hostname").trim(), nix::unistd::gethostname().unwrap().to_str().unwrap());
    assert!(sh("host", "cat /etc/resolv.conf").contains("search default.svc.cluster.local"));
    // One PID namespace for the pod.
    let seen = cluster.kubectl(&["exec", "shared", "-c", "a", "--", "busybox", "ps"]);
    assert!(seen.contains("sleep 1000") && seen.contains("sleep 1001"), "{seen}");
    assert!(!sh("plain", "busybox ps").contains("sleep 1001"));
    assert_eq!(http_get(&format!("127.0.0.1:{port}"), "/index.html").unwrap(), "published\n");
    // Names.
    assert_eq!(sh("named", "hostname"), "first.names.default.svc.cluster.local\n");
    let hosts = sh("named", "cat /etc/hosts");
    assert!(hosts.contains("192.0.2.9\tone.example\ttwo.example"), "{hosts}");
    assert!(hosts.contains("first.names.default.svc.cluster.local\tfirst"), "{hosts}");
    assert_eq!(sh("named", "cat /etc/resolv.conf"), "search a.example\nnameserver 192.0.2.7\noptions ndots:2\n");
    let host = fs::read_to_string("/etc/resolv.conf").unwrap();
    let server = host.lines().find(|l| l.starts_with("nameserver"));
    assert!(server.is_none_or(|s| sh("plain", "cat /etc/resolv.conf").contains(s)));
    // Who it is.
    assert_eq!(sh("named", "id -u; id -G; touch /v/f; busybox stat -c %g /v/f"), "1000\n0 3000 4000\n3000\n");
    assert_eq!(sh("named", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "79\n");
}

#[test]
fn a_pod_lives_no_longer_than_it_may() {
    let cluster = Cluster::up();
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: mayfly}, spec: {activeDeadlineSeconds: 2, terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'busybox:1', command: [sleep, '1000']}]}}");
    cluster.until("pod/mayfly", "{.status.phase}/{.status.reason}", "Failed/DeadlineExceeded");
    assert_eq!(
        cluster.jsonpath("pod/mayfly", "{.status.message}"),
        "Pod was active on the node longer than the specified deadline"
    );
    eventually("its container's end", || {
        cluster.jsonpath("pod/mayfly", "{.status.containerStatuses[0].state.terminated.exitCode}") == "137"
    });
}

#[test]
fn the_node_refuses_what_it_cannot_take_whoever_sent_it() {
    let cluster = Cluster::up();
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: big}, spec: {nodeName: node, containers: [{name: c, image: 'busybox:1', resources: {requests: {cpu: '1000'}}}]}}\n---\n\
         {apiVersion: v1, kind: Pod, metadata: {name: elsewhere}, spec: {nodeName: node, nodeSelector: {disk: ssd}, containers: [{name: c, image: 'busybox:1'}]}}\n---\n\
         {apiVersion: v1, kind: Pod, metadata: {name: tuned}, spec: {securityContext: {sysctls: [{name: kernel.msgmax, value: '9'}]}, containers: [{name: c, image: 'busybox:1'}]}}\n",
    );
    for (pod, reason, words) in [
        ("big", "OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: "),
        (
            "elsewhere",
            "NodeAffinity",
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ),
        ("tuned", "SysctlForbidden", "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted"),
    ] {
        cluster.until(&format!("pod/{pod}"), "{.status.phase}/{.status.reason}", &format!("Failed/{reason}"));
        let message = cluster.jsonpath(&format!("pod/{pod}"), "{.status.message}");
        assert!(message.starts_with(words), "{message}");
        let shown = cluster.kubectl(&["get", "pod", pod, "--no-headers"]);
        assert!(shown.contains(reason), "{shown}");
        eventually("the event", || text(&cluster.try_kubectl(&["get", "events"]).stdout).contains(reason));
    }
    cluster.kubectl(&["label", "node", "node", "disk=ssd"]);
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: at-home}, spec: {nodeName: node, terminationGracePeriodSeconds: 0, nodeSelector: {disk: ssd}, containers: [{name: c, image: 'busybox:1', command: [sleep, '1000']}]}}");
    cluster.wait_ready("pod/at-home");
    let images = cluster.jsonpath("node/node", "{.status.images[*].names}");
    assert!(images.contains("busybox:1"), "{images}");
}

#[test]
fn a_pod_of_higher_priority_pushes_a_lesser_one_out() {
    let cluster = Cluster::up();
    let cpu = cluster.jsonpath("node/node", "{.status.allocatable.cpu}");
    cluster.apply(
        "---\napiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: important}\nvalue: 1000\n",
    );
    let pod = |name: &str, class: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n{class}\
             \x20 containers: [{{name: c, image: 'busybox:1', command: [sleep, '1000'], resources: {{requests: {{cpu: '{cpu}'}}}}}}]\n"
        )
    };
    cluster.apply(&pod("low", ""));
    cluster.wait_ready("pod/low");
    cluster.apply(&pod("high", "  priorityClassName: important\n"));
    cluster.wait_ready("pod/high");
    assert_eq!(cluster.jsonpath("pod/high", "{.spec.priority}"), "1000");
    eventually("the lesser pod is gone", || !cluster.try_kubectl(&["get", "pod", "low"]).status.success());
    let events = cluster.kubectl(&["get", "events", "--field-selector", "reason=Preempted"]);
    assert!(events.contains("pod/low") && events.contains("Preempted by pod"), "{events}");
}
