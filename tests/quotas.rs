//! What a namespace may take and what pods do take: quotas, limits, budgets, and `kubectl top`.

use crate::cluster::{Cluster, eventually, text};

#[test]
fn a_namespace_takes_what_its_quota_and_its_limits_let_it() {
    let cluster = Cluster::up();
    cluster.apply(
        r#"
apiVersion: v1
kind: LimitRange
metadata: {name: usual}
spec: {limits: [{type: Container, default: {cpu: 200m, memory: 64Mi}, defaultRequest: {cpu: 50m, memory: 32Mi}, max: {memory: 128Mi}}]}
"#,
    );
    cluster.kubectl(&["create", "quota", "small", "--hard=pods=2,requests.cpu=1,count/configmaps=3"]);
    cluster.until("resourcequota/small", "{.status.used.pods}", "0");
    cluster.kubectl(&["create", "deployment", "web", "--image=busybox:1", "--replicas=3", "--", "sleep", "1000"]);
    // Two of three come, and the quota says so; why the third does not is told as an event.
    cluster.until("resourcequota/small", "{.status.used.pods} {.status.used.requests\\.cpu}", "2 100m");
    cluster.until("deployment/web", "{.status.readyReplicas}", "2");
    eventually("the event of the refusal", || {
        cluster.told().contains("exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2")
    });
    let resources = cluster.jsonpath("pods -l app=web", "{.items[0].spec.containers[0].resources.limits.memory}");
    assert_eq!(resources, "64Mi");
    let refused = cluster.kubectl_fails(&[
        "run",
        "big",
        "--image=busybox:1",
        r#"--overrides={"spec":{"containers":[{"name":"big","image":"busybox:1","resources":{"limits":{"memory":"256Mi"}}}]}}"#,
    ]);
    assert!(refused.contains("maximum memory usage per Container is 128Mi, but limit is 256Mi"), "{refused}");
    // What is given back may be taken again.
    cluster.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    cluster.until("resourcequota/small", "{.status.used.pods}", "0");
    cluster.kubectl(&["scale", "deployment/web", "--replicas=1"]);
    cluster.until("deployment/web", "{.status.readyReplicas}", "1");
}

#[test]
fn top_tells_what_nodes_pods_and_containers_use_and_budgets_hold_evictions_up() {
    let cluster = Cluster::up();
    cluster.apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: spin, image: "busybox:1", command: [sh, -c, "while :; do :; done"], resources: {requests: {cpu: 100m}, limits: {cpu: 300m}}}
      - {name: idle, image: "busybox:1", command: [sleep, "1000"], resources: {requests: {cpu: 10m}}}
"#,
    );
    cluster.kubectl(&["rollout", "status", "deployment/busy", "--timeout=90s"]);
    let cores = |line: &str, column: usize| -> u64 {
        let cell = line.split_whitespace().nth(column).unwrap_or_default();
        cell.strip_suffix('m').and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{line:?} has no such column"))
    };
    let node = cluster.kubectl(&["top", "nodes", "--no-headers"]);
    assert!(node.starts_with("node") && cores(&node, 1) > 0, "{node}");
    let containers = cluster.kubectl(&["top", "pods", "--containers", "--no-headers"]);
    let line = |name: &str| {
        let mut lines = containers.lines();
        lines.find(|l| l.contains(name)).unwrap_or_else(|| panic!("{name} is not in {containers}"))
    };
    // The limit of the one is 300m; the other sleeps.
    assert!((1..=450).contains(&cores(line(" spin "), 2)), "{containers}");
    assert!(cores(line(" idle "), 2) < cores(line(" spin "), 2), "{containers}");
    let pods = cluster.kubectl(&["top", "pods", "--no-headers", "-l", "app=busy"]);
    assert_eq!(pods.lines().count(), 1, "{pods}");
    // The autoscaler reads the same.
    cluster.kubectl(&["autoscale", "deployment/busy", "--min=1", "--max=2", "--cpu-percent=50"]);
    cluster.until("hpa/busy", "{.status.conditions[?(@.type==\"ScalingActive\")].status}", "True");
    cluster.until("deployment/busy", "{.spec.replicas}", "2");
    cluster.kubectl(&["delete", "hpa", "busy"]);
    cluster.kubectl(&["scale", "deployment/busy", "--replicas=1"]);
    cluster.until("deployment/busy", "{.status.replicas} {.status.readyReplicas}", "1 1");
    cluster.apply(
        "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: busy}, \
         spec: {selector: {matchLabels: {app: busy}}, minAvailable: 1}}",
    );
    cluster.until("pdb/busy", "{.status.currentHealthy}", "1");
    let drained = cluster.try_kubectl(&["drain", "node", "--ignore-daemonsets", "--timeout=1s"]);
    let said = text(&drained.stderr);
    assert!(said.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{said}");
    cluster.kubectl(&["delete", "pdb", "busy"]);
    cluster.kubectl(&["drain", "node", "--ignore-daemonsets", "--timeout=90s"]);
    assert_eq!(cluster.jsonpath("node/node", "{.spec.unschedulable}"), "true");
    cluster.kubectl(&["uncordon", "node"]);
    cluster.kubectl(&["rollout", "status", "deployment/busy", "--timeout=90s"]);
}
