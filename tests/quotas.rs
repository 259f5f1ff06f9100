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

#[test]
fn an_autoscaler_follows_a_load_up_and_down_again() {
    let cluster = Cluster::up();
    // Each pod spins while there is a file that one of them was told to make.
    cluster.apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: work}
spec:
  selector: {matchLabels: {app: work}}
  template:
    metadata: {labels: {app: work}}
    spec:
      terminationGracePeriodSeconds: 0
      volumes: [{name: load, emptyDir: {}}]
      containers:
      - name: c
        image: "busybox:1"
        command: [sh, -c, "while :; do [ -e /load/on ] || sleep 0.2; done"]
        volumeMounts: [{name: load, mountPath: /load}]
        resources: {requests: {cpu: 50m}, limits: {cpu: 200m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: work}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: work}
  minReplicas: 1
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
"#,
    );
    cluster.kubectl(&["rollout", "status", "deployment/work", "--timeout=90s"]);
    cluster.until("hpa/work", "{.status.conditions[?(@.type==\"ScalingActive\")].status}", "True");
    assert_eq!(cluster.jsonpath("deployment/work", "{.spec.replicas}"), "1");
    let first = cluster.jsonpath("pods -l app=work", "{.items[0].metadata.name}");
    cluster.kubectl(&["exec", &first, "--", "touch", "/load/on"]);
    // One pod at four times its request is more than two of them can have at 60 %.
    cluster.until("deployment/work", "{.spec.replicas}", "3");
    cluster.until("hpa/work", "{.status.desiredReplicas}", "3");
    cluster.kubectl(&["exec", &first, "--", "rm", "/load/on"]);
    cluster.until("deployment/work", "{.spec.replicas}", "1");
    eventually("the story of it", || {
        let told = cluster.told();
        told.contains("New size: 3; reason: cpu resource utilization (percentage of request) above target")
            && told.contains("New size: 1; reason: All metrics below target")
    });
}

#[test]
fn a_drain_asks_for_what_it_may_lose_and_waits_for_budgets() {
    let cluster = Cluster::up();
    let alone = crate::cluster::busybox("alone", "sleep 1000");
    let workload = |kind: &str, name: &str, more: &str, volumes: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: {name}}}, spec: {{{more} selector: {{matchLabels: {{app: {name}}}}}, \
             template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{terminationGracePeriodSeconds: 0, {volumes} containers: \
             [{{name: c, image: 'busybox:1', command: [sleep, '1000']}}]}}}}}}}}\n---\n"
        )
    };
    let budget = "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: kept}, \
                  spec: {selector: {matchLabels: {app: kept}}, maxUnavailable: 1}}\n---\n";
    cluster.apply(
        &(alone
            + &workload("DaemonSet", "everywhere", "", "")
            + &workload("Deployment", "kept", "replicas: 2,", "")
            + &workload("Deployment", "scratch", "", "volumes: [{name: v, emptyDir: {}}],")
            + "{apiVersion: v1, kind: ReplicationController, metadata: {name: old}, spec: {replicas: 1, selector: {app: old}, \
               template: {metadata: {labels: {app: old}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, \
               image: 'busybox:1', command: [sleep, '1000']}]}}}}\n---\n"
            + budget),
    );
    for what in ["deployment/kept", "deployment/scratch", "daemonset/everywhere"] {
        cluster.kubectl(&["rollout", "status", what, "--timeout=90s"]);
    }
    cluster.wait_ready("pod/alone");
    cluster.until("rc/old", "{.status.readyReplicas}", "1");
    cluster.until("pdb/kept", "{.status.disruptionsAllowed}", "1");
    let refused = cluster.kubectl_fails(&["drain", "node"]);
    for word in [
        "(use --force to override): default/alone",
        "(use --delete-emptydir-data to override): default/scratch-",
        "(use --ignore-daemonsets to ignore): default/everywhere-",
    ] {
        assert!(refused.contains(word), "{word} is not in {refused}");
    }
    let running = |app: &str| {
        let selector = format!("pods -l app={app} --field-selector=status.phase=Running");
        cluster.jsonpath(&selector, "{.items[*].metadata.name}").split_whitespace().count()
    };
    assert_eq!((running("alone"), running("kept"), running("old")), (1, 2, 1), "nothing was touched");
    let all = ["drain", "node", "--force", "--ignore-daemonsets", "--delete-emptydir-data"];
    let drain = |more: &str| cluster.try_kubectl(&[&all[..], &[more]].concat());
    // The second of the two would leave none, and there is nowhere for the first's successor.
    let first = drain("--timeout=5s");
    assert!(!first.status.success());
    assert!(text(&first.stderr).contains("violate the pod's disruption budget"), "{}", text(&first.stderr));
    assert_eq!((running("alone"), running("kept"), running("old")), (0, 1, 0));
    assert_eq!(running("everywhere"), 1);
    // With another place for it, the drain goes through; here that is the same node, for a moment.
    cluster.kubectl(&["uncordon", "node"]);
    cluster.until("pdb/kept", "{.status.disruptionsAllowed}", "1");
    cluster.until("rc/old", "{.status.readyReplicas}", "1");
    let rest = drain("--disable-eviction");
    assert!(rest.status.success(), "{}", text(&rest.stderr));
    assert_eq!((running("kept"), running("old"), running("everywhere")), (0, 0, 1));
    cluster.kubectl(&["uncordon", "node"]);
    cluster.kubectl(&["rollout", "status", "deployment/kept", "--timeout=90s"]);
    cluster.kubectl(&["scale", "rc/old", "--replicas=3"]);
    cluster.until("rc/old", "{.status.readyReplicas}", "3");
    cluster.kubectl(&["delete", "rc", "old"]);
    eventually("the end of its pods", || running("old") == 0);
}
