//! Start, status, failures and end of pods.

use serde_json::json;

use crate::cluster::{Node, PODS, condition, container};

#[tokio::test]
async fn a_node_registers_ready_with_its_lease() {
    let node = Node::start();
    let registered =
        node.api.until("/api/v1/nodes/node", |n| n.filter(|n| condition(n, "Ready") == "True").cloned()).await;
    assert_eq!(registered["metadata"]["labels"]["kubernetes.io/hostname"], "node");
    assert_eq!(registered["status"]["addresses"][0], json!({"type": "InternalIP", "address": "192.0.2.1"}));
    assert_eq!(registered["status"]["conditions"][3]["reason"], "KubeletReady");
    let declared = registered["status"]["declaredFeatures"].as_array().expect("what the node can do");
    assert!(declared.is_sorted_by_key(|name| name.as_str()), "{declared:?}");
    assert!(declared.contains(&json!("RestartAllContainersOnContainerExits")), "{declared:?}");
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node";
    node.api.until(lease, |l| l.filter(|l| l["spec"]["leaseDurationSeconds"] == 40).map(|_| ())).await;
}

#[tokio::test]
async fn a_declared_pod_runs_and_its_status_says_so() {
    let node = Node::start();
    let uid = node.declare("web", |pod| {
        pod["spec"]["containers"][0]["command"] = json!(["/app", "$(GREETING)"]);
        pod["spec"]["containers"][0]["env"] = json!([
            {"name": "GREETING", "value": "hello"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ]);
    });
    let pod = node.ready("web").await;
    let status = &pod["status"];
    assert_eq!(status["phase"], "Running");
    assert_eq!((&status["podIP"], &status["hostIP"]), (&json!("10.42.0.1"), &json!("192.0.2.1")));
    assert_eq!(status["qosClass"], "BestEffort");
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition(&pod, kind), "True", "{kind}");
    }
    let running = container(&pod);
    assert_eq!(
        (&running["ready"], &running["started"], &running["restartCount"]),
        (&json!(true), &json!(true), &json!(0))
    );
    assert_eq!(running["containerID"], format!("hythe://{uid}.0.c.0"));
    let spec = node.fake.spec(&format!("{uid}.0"), "c.0").expect("a container");
    assert_eq!(spec.args, ["/app", "hello"]);
    assert!(
        spec.env.contains(&"IP=10.42.0.1".to_owned()) && spec.env.contains(&"PATH=/bin".to_owned()),
        "{:?}",
        spec.env
    );
    assert!(spec.mounts.iter().any(|m| m.destination == "/etc/resolv.conf"));
    assert_eq!(
        node.event("Pulled").await,
        "Container image \"app:1\" already present on machine and can be accessed by the pod"
    );
    assert_eq!(node.event("Created").await, "Container created");
    assert_eq!(node.event("Started").await, "Container started");
}

#[tokio::test]
async fn a_deleted_pod_gets_its_grace_and_leaves_nothing() {
    let node = Node::start();
    let uid = node.declare("web", |_| {});
    node.ready("web").await;
    node.delete("web", 30);
    node.gone("web").await;
    node.fake.until("the sandbox and the network go", |f| f.sandbox_count() == 0 && f.attached() == 0).await;
    let journal = node.fake.journal();
    assert!(
        journal.contains(&"signal c.0 15".to_owned()) && !journal.contains(&"signal c.0 9".to_owned()),
        "{journal:?}"
    );
    assert_eq!(node.event("Killing").await, "Stopping container c");
    assert!(journal.contains(&format!("destroy {uid}.0")));
}

/// Its Services serve by pods that are going away while there are no others (`ProxyTerminatingEndpoints`).
#[tokio::test]
async fn a_pod_that_is_going_away_is_ready_until_its_probe_says_otherwise() {
    let node = Node::start();
    node.fake.ignore_term();
    node.declare("web", |pod| {
        pod["spec"]["containers"][0]["readinessProbe"] =
            json!({"exec": {"command": ["ready?"]}, "periodSeconds": 1, "failureThreshold": 1});
    });
    node.ready("web").await;
    node.delete("web", 30);
    assert_eq!(node.event("Killing").await, "Stopping container c");
    node.fake.until("the container was asked to end", |f| f.journal().contains(&"signal c.0 15".to_owned())).await;
    let pod = node.pod("web", |p| p["metadata"]["deletionTimestamp"].as_str().map(|_| p.clone())).await;
    assert_eq!(condition(&pod, "Ready"), "True");
    node.fake.exec_exits_with(1);
    node.pod("web", |p| (condition(p, "Ready") == "False").then_some(())).await;
    let pod = node.pod("web", |p| Some(p.clone())).await;
    assert!(container(&pod)["state"]["running"].is_object(), "{pod}");
}

#[tokio::test]
async fn a_pod_removed_by_force_is_killed_at_once() {
    let node = Node::start();
    node.fake.ignore_term();
    node.declare("web", |_| {});
    node.ready("web").await;
    assert!(node.api.remove(&format!("{PODS}/web")));
    node.fake.until("the sandbox goes", |f| f.sandbox_count() == 0 && f.attached() == 0).await;
}

#[tokio::test]
async fn a_crashed_container_is_restarted_at_once_and_then_held_back() {
    let node = Node::start();
    let uid = node.declare("web", |_| {});
    node.ready("web").await;
    node.fake.exit(&format!("{uid}.0"), "c.0", 3);
    let again = node
        .pod("web", |p| (container(p)["restartCount"] == 1 && container(p)["ready"] == true).then(|| p.clone()))
        .await;
    let last = &container(&again)["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(3), &json!("Error")));
    node.fake.oom(&format!("{uid}.0"), "c.1");
    let held = node
        .pod("web", |p| (container(p)["state"]["waiting"]["reason"] == "CrashLoopBackOff").then(|| p.clone()))
        .await;
    let message = format!("back-off 10s restarting failed container=c pod=web_default({uid})");
    assert_eq!(container(&held)["state"]["waiting"]["message"], message);
    assert_eq!(container(&held)["lastState"]["terminated"]["reason"], "OOMKilled");
    assert_eq!((&held["status"]["phase"], condition(&held, "Ready")), (&json!("Running"), "False"));
    assert_eq!(
        node.event("BackOff").await,
        format!("Back-off restarting failed container c in pod web_default({uid})")
    );
}

#[tokio::test]
async fn a_pod_that_completed_keeps_its_status_and_frees_its_sandbox() {
    let node = Node::start();
    let uid = node.declare("job", |pod| pod["spec"]["restartPolicy"] = json!("Never"));
    node.ready("job").await;
    node.fake.exit(&format!("{uid}.0"), "c.0", 0);
    let done = node.pod("job", |p| (p["status"]["phase"] == "Succeeded").then(|| p.clone())).await;
    assert_eq!(container(&done)["state"]["terminated"]["reason"], "Completed");
    assert_eq!(done["status"]["podIP"], "10.42.0.1");
    node.fake.until("the sandbox goes", |f| f.sandbox_count() == 0 && f.attached() == 0).await;
    node.delete("job", 0);
    node.gone("job").await;
}

#[tokio::test]
async fn init_containers_run_in_order_before_the_others() {
    let node = Node::start();
    let uid = node.declare("web", |pod| {
        pod["spec"]["initContainers"] = json!([{"name": "one", "image": "app:1"}, {"name": "two", "image": "app:1"}]);
    });
    let sandbox = format!("{uid}.0");
    node.fake.until("the first starts", |f| f.journal().contains(&"start one.0".to_owned())).await;
    let pod = node.pod("web", |p| (!p["status"]["initContainerStatuses"].is_null()).then(|| p.clone())).await;
    assert_eq!(condition(&pod, "Initialized"), "False");
    assert_eq!(container(&pod)["state"]["waiting"]["reason"], "PodInitializing");
    node.fake.exit(&sandbox, "one.0", 0);
    node.fake.until("the second starts", |f| f.journal().contains(&"start two.0".to_owned())).await;
    assert!(!node.fake.journal().contains(&"create c.0".to_owned()));
    node.fake.exit(&sandbox, "two.0", 0);
    assert_eq!(condition(&node.ready("web").await, "Initialized"), "True");
}

#[tokio::test]
async fn a_missing_image_is_pulled_or_told_of() {
    let node = Node::start();
    node.fake.allow_pull("new:1");
    node.declare("good", |pod| pod["spec"]["containers"][0]["image"] = json!("new:1"));
    node.ready("good").await;
    let pulled = node.event("Pulled").await;
    assert!(
        pulled.starts_with("Successfully pulled image \"new:1\" in ") && pulled.ends_with("Image size: 1234 bytes."),
        "{pulled}"
    );
    node.declare("bad", |pod| pod["spec"]["containers"][0]["image"] = json!("none:1"));
    let reason = |p: &serde_json::Value| container(p)["state"]["waiting"]["reason"].as_str().map(str::to_owned);
    node.pod("bad", |p| (reason(p)? == "ErrImagePull").then_some(())).await;
    node.pod("bad", |p| (reason(p)? == "ImagePullBackOff").then_some(())).await;
    node.declare("never", |pod| {
        pod["spec"]["containers"][0]["image"] = json!("none:1");
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    });
    node.pod("never", |p| (reason(p)? == "ErrImageNeverPull").then_some(())).await;
    node.declare("odd", |pod| pod["spec"]["containers"][0]["image"] = json!("not a name"));
    node.pod("odd", |p| (reason(p)? == "InvalidImageName").then_some(())).await;
}

#[tokio::test]
async fn what_a_container_needs_and_misses_is_its_waiting_reason_until_it_is_there() {
    let node = Node::start();
    node.declare("web", |pod| {
        pod["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    });
    let waiting = node.pod("web", |p| container(p)["state"]["waiting"]["message"].as_str().map(str::to_owned)).await;
    assert_eq!(waiting, "configmap \"settings\" not found");
    node.api
        .put("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "settings"}, "data": {"A": "1"}}));
    node.ready("web").await;
}

#[tokio::test]
async fn a_program_that_cannot_start_is_a_start_error() {
    let node = Node::start();
    node.declare("web", |pod| {
        pod["spec"]["restartPolicy"] = json!("Never");
        pod["spec"]["containers"][0]["command"] = json!(["/missing"]);
    });
    let failed = node.pod("web", |p| (p["status"]["phase"] == "Failed").then(|| p.clone())).await;
    let ended = &container(&failed)["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("StartError"), &json!(128)));
}

#[tokio::test]
async fn an_exec_probe_gates_readiness_and_restarts_what_is_not_alive() {
    let node = Node::start();
    node.declare("web", |pod| {
        pod["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["ready?"]}, "periodSeconds": 1});
    });
    node.ready("web").await;
    node.fake.exec_exits_with(1);
    node.declare("sick", |pod| {
        pod["spec"]["containers"][0]["livenessProbe"] =
            json!({"exec": {"command": ["alive?"]}, "periodSeconds": 1, "failureThreshold": 1});
    });
    node.pod("sick", |p| (container(p)["restartCount"].as_i64()? >= 1).then_some(())).await;
    assert_eq!(node.event("Killing").await, "Container c failed liveness probe, will be restarted");
    assert!(node.event("Unhealthy").await.contains(" probe failed: "));
}

#[tokio::test]
async fn a_probe_that_cannot_be_run_says_nothing_of_its_container() {
    let node = Node::start();
    node.declare("web", |pod| {
        pod["spec"]["containers"][0]["livenessProbe"] =
            json!({"exec": {"command": ["/missing"]}, "periodSeconds": 1, "failureThreshold": 1});
    });
    node.ready("web").await;
    let tries = |f: &crate::fake_runtime::Fake| f.journal().iter().filter(|line| line.contains("/missing")).count();
    node.fake.until("a third try", |f| tries(f) == 3).await;
    let told = node.event("Unhealthy").await;
    assert!(told.starts_with("Liveness probe errored and resulted in unknown state: rpc error:"), "{told}");
    assert!(!node.fake.journal().iter().any(|line| line.starts_with("signal")), "it was not restarted");
}

#[tokio::test]
async fn config_maps_are_files_that_follow_the_api() {
    let node = Node::start();
    let maps = "/api/v1/namespaces/default/configmaps";
    node.api.put(maps, json!({"metadata": {"name": "settings"}, "data": {"key": "old"}}));
    let uid = node.declare("web", |pod| {
        pod["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "settings"}}, {"name": "t", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}}, {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}
        ]}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}, {"name": "t", "mountPath": "/t", "readOnly": true}]);
    });
    let told = container(&node.ready("web").await)["volumeMounts"].clone();
    let token = json!({"name": "t", "mountPath": "/t", "readOnly": true, "recursiveReadOnly": "Disabled"});
    assert_eq!(told, json!([{"name": "v", "mountPath": "/v"}, token]));
    let spec = node.fake.spec(&format!("{uid}.0"), "c.0").expect("a container");
    let source = |path: &str| spec.mounts.iter().find(|m| m.destination == path).expect("a mount").source.clone();
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(read(format!("{}/key", source("/v"))), "old");
    assert_eq!(
        (read(format!("{}/token", source("/t"))), read(format!("{}/name", source("/t")))),
        ("a-token".into(), "web".into())
    );
    node.api.put(maps, json!({"metadata": {"name": "settings"}, "data": {"key": "new"}}));
    let file = format!("{}/key", source("/v"));
    let wait = async {
        while read(file.clone()) != "new" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("the file follows");
}

#[tokio::test]
async fn a_pod_that_wants_another_runtime_is_not_run_with_this_one() {
    let node = Node::start();
    for (name, handler) in [("safer", "gvisor"), ("usual", "runc")] {
        let class = json!({"metadata": {"name": name}, "handler": handler});
        node.api.put("/apis/node.k8s.io/v1/runtimeclasses", class);
    }
    node.declare("other", |pod| pod["spec"]["runtimeClassName"] = "safer".into());
    let message = node.event("FailedCreatePodSandBox").await;
    assert!(message.contains("no runtime for \"gvisor\" is configured"), "{message}");
    node.declare("web", |pod| pod["spec"]["runtimeClassName"] = "usual".into());
    node.ready("web").await;
}

#[tokio::test]
async fn a_pod_past_its_deadline_fails() {
    let node = Node::start();
    node.declare("web", |pod| pod["spec"]["activeDeadlineSeconds"] = json!(1));
    let failed = node
        .pod("web", |p| {
            (p["status"]["reason"] == "DeadlineExceeded" && p["status"]["phase"] == "Failed").then(|| p.clone())
        })
        .await;
    assert_eq!(failed["status"]["message"], "Pod was active on the node longer than the specified deadline");
    node.fake.until("its sandbox goes", |f| f.sandbox_count() == 0).await;
}

/// Declares a Service with one endpoint, or a change of its port.
fn service(node: &Node, port: u16) {
    node.api.put(
        "/api/v1/namespaces/default/services",
        json!({"metadata": {"name": "web"},
        "spec": {"clusterIP": "10.43.0.9", "ports": [{"port": port}]}}),
    );
    node.api.put(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        json!({"addressType": "IPv4",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.42.0.7"], "conditions": {"ready": true}}]}),
    );
}

/// Waits until the Service has its endpoint at a port.
async fn rules_appear(node: &Node, port: u16) {
    let rules = node.rules.clone();
    let there = |r: &network::service::ServiceRules| r.ports[0].port == port && !r.ports[0].endpoints.is_empty();
    let wait = async {
        while !rules.0.lock().get("default/web").is_some_and(there) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("rules appear");
}

#[tokio::test]
async fn ready_endpoints_of_a_service_become_rules() {
    let node = Node::start();
    service(&node, 80);
    rules_appear(&node, 80).await;
}

#[tokio::test]
async fn rules_that_were_refused_are_tried_again_though_nothing_else_changes() {
    let node = Node::start();
    node.rules.1.store(2, std::sync::atomic::Ordering::SeqCst);
    service(&node, 80);
    rules_appear(&node, 80).await;
    node.rules.1.store(2, std::sync::atomic::Ordering::SeqCst);
    service(&node, 81);
    rules_appear(&node, 81).await;
}
