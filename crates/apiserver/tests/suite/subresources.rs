use serde_json::{Value, json};

use super::client::{Api, revision};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn with_pod() -> Api {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    api.made(PODS, &pod).await;
    api
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_bound_once() {
    let api = with_pod().await;
    let binding = |node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
    let nominated = json!({"status": {"nominatedNodeName": "n1"}});
    let (_, pod) = api.patch("merge", &format!("{PODS}/p/status"), &nominated).await;
    assert_eq!(pod["status"]["nominatedNodeName"], "n1");
    let (code, status) = api.post(&format!("{PODS}/p/binding"), &binding("n1")).await;
    assert_eq!((code, &status["status"]), (201, &json!("Success")));
    let (_, pod) = api.get(&format!("{PODS}/p")).await;
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert!(pod["status"].get("nominatedNodeName").is_none(), "{pod}");
    let condition = &pod["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("PodScheduled"), &json!("True")));
    let (code, status) = api.post(&format!("{PODS}/p/binding"), &binding("n2")).await;
    assert_eq!(code, 409);
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
    assert_eq!(
        api.post(&format!("{PODS}/nope/binding"), &json!({"target": {"kind": "Node", "name": "n"}})).await.0,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_a_node_says_in_which_zone_it_is() {
    let api = with_pod().await;
    let (zone, region) = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region");
    let labels = json!({zone: "z1", region: "r1", "kubernetes.io/arch": "amd64"});
    api.made("/api/v1/nodes", &json!({"metadata": {"name": "n1", "labels": labels}})).await;
    let binding = json!({"metadata": {"name": "p", "labels": {"app": "not taken", "told": "taken", region: "r2"}},
        "target": {"kind": "Node", "name": "n1"}});
    api.made(&format!("{PODS}/p/binding"), &binding).await;
    let (_, bound) = api.get(&format!("{PODS}/p")).await;
    assert_eq!(bound["metadata"]["labels"], json!({"app": "a", "told": "taken", region: "r2", zone: "z1"}));
    // Made where it is to run, and with a word of its own; on no known node; and on none yet.
    let pod = |name: &str, labels: Value, node: Value| {
        json!({"metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": node}})
    };
    let placed = api.made(PODS, &pod("placed", json!({zone: "mine"}), json!("n1"))).await;
    assert_eq!(placed["metadata"]["labels"], json!({zone: "mine", region: "r1"}));
    for node in [json!("unknown"), Value::Null] {
        let other = api.made(PODS, &pod(&format!("on-{}", node.as_str().unwrap_or("none")), Value::Null, node)).await;
        assert!(other["metadata"].get("labels").is_none(), "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_and_the_rest_change_apart() {
    let api = with_pod().await;
    let (_, pod) = api.get(&format!("{PODS}/p")).await;
    let mut changed = pod.clone();
    changed["status"]["phase"] = "Running".into();
    changed["spec"]["containers"][0]["image"] = "other".into();
    changed["metadata"]["resourceVersion"] = Value::Null;
    let (code, through_status) = api.put(&format!("{PODS}/p/status"), &changed).await;
    assert_eq!(code, 200, "{through_status}");
    assert_eq!(
        (&through_status["status"]["phase"], &through_status["spec"]["containers"][0]["image"]),
        (&json!("Running"), &json!("i"))
    );
    changed["status"]["phase"] = "Failed".into();
    let (code, through_main) = api.put(&format!("{PODS}/p"), &changed).await;
    assert_eq!(code, 200, "{through_main}");
    assert_eq!(
        (&through_main["status"]["phase"], &through_main["spec"]["containers"][0]["image"]),
        (&json!("Running"), &json!("other"))
    );
    let (code, patched) = api
        .patch(
            "strategic",
            &format!("{PODS}/p/status"),
            &json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        )
        .await;
    assert_eq!(code, 200);
    assert_eq!(patched["status"]["phase"], "Running");
    assert!(
        patched["status"]["conditions"].as_array().is_some_and(|c| c.iter().any(|c| c["type"] == "Ready")),
        "{patched}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_shows_and_changes_the_replicas() {
    let api = Api::new().await;
    let spec = json!({
        "replicas": 2, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    });
    let made = api.made(DEPLOYMENTS, &json!({"metadata": {"name": "d"}, "spec": spec})).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let (code, scale) = api.get(&path).await;
    assert_eq!(
        (code, &scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]),
        (200, &json!("Scale"), &json!(2), &json!("a=b"))
    );
    let mut more = scale.clone();
    more["spec"]["replicas"] = 5.into();
    let (code, answer) = api.put(&path, &more).await;
    assert_eq!((code, &answer["spec"]["replicas"]), (200, &json!(5)), "{answer}");
    assert_eq!(api.put(&path, &more).await.0, 409, "the version is stale now");
    let (code, answer) = api.patch("merge", &path, &json!({"spec": {"replicas": 1}})).await;
    assert_eq!((code, &answer["spec"]["replicas"]), (200, &json!(1)));
    let (_, deployment) = api.get(&format!("{DEPLOYMENTS}/d")).await;
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert!(deployment["metadata"]["generation"].as_i64() > made["metadata"]["generation"].as_i64());
    assert_eq!(api.patch("merge", &path, &json!({"spec": {"replicas": -1}})).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_scale_owns_the_replicas_and_respects_who_else_does() {
    let api = Api::new().await;
    let spec = json!({
        "replicas": 2, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    });
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
    let made = format!("{DEPLOYMENTS}/d?fieldManager=author");
    assert_eq!(api.patch("apply", &made, &deployment).await.0, 201);
    let scale = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": replicas}});
    let path = format!("{DEPLOYMENTS}/d/scale?fieldManager=scaler");
    let (code, refused) = api.patch("apply", &path, &scale(5)).await;
    assert_eq!(
        (code, &refused["message"]),
        (409, &json!("Apply failed with 1 conflict: conflict with \"author\": .spec.replicas"))
    );
    let (code, forced) = api.patch("apply", &format!("{path}&force=true"), &scale(5)).await;
    assert_eq!((code, &forced["kind"], &forced["spec"]["replicas"]), (200, &json!("Scale"), &json!(5)), "{forced}");
    let (_, now) = api.get(&format!("{DEPLOYMENTS}/d")).await;
    let owners: Vec<_> = now["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["fieldsV1"]["f:spec"].get("f:replicas").is_some())
        .map(|entry| (&entry["manager"], &entry["operation"], &entry["subresource"]))
        .collect();
    assert_eq!(owners, [(&json!("scaler"), &json!("Apply"), &json!("scale"))]);
    assert_eq!(now["spec"]["template"]["spec"]["containers"][0]["image"], "i");
    assert_eq!(api.patch("apply", &path, &scale(-1)).await.0, 422);
    assert_eq!(api.patch("apply", &format!("{DEPLOYMENTS}/d/scale"), &scale(1)).await.0, 422, "no manager");
    assert_eq!(api.patch("apply", &path, &deployment).await.0, 400, "not a Scale");
    let missing = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "e"}});
    assert_eq!(api.patch("apply", &format!("{DEPLOYMENTS}/e/scale?fieldManager=s"), &missing).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_created_has_no_version_yet() {
    let api = Api::new().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = |version: &str| json!({"metadata": {"name": "m", "resourceVersion": version}});
    let (code, refused) = api.post(maps, &map("7")).await;
    assert_eq!(
        (code, &refused["message"]),
        (500, &json!("resourceVersion should not be set on objects to be created"))
    );
    assert_eq!(api.post(maps, &map("0")).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_asks_the_budget() {
    let api = with_pod().await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    api.made(&format!("{PODS}/p/binding"), &binding).await;
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let status = json!({"status": {"phase": "Running", "conditions": ready}});
    api.patch("merge", &format!("{PODS}/p/status"), &status).await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    api.made(
        budgets,
        &json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}}),
    )
    .await;
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    let (code, answer) = api.patch("merge", &format!("{budgets}/b/status"), &status).await;
    assert_eq!(code, 200, "{answer}");
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}});
    let (code, refused) = api.post(&format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(
        (code, &refused["message"]),
        (429, &json!("Cannot evict pod as it would violate the pod's disruption budget."))
    );
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "The disruption budget b needs 1 healthy pods and has 1 currently"
    );
    api.patch("merge", &format!("{budgets}/b/status"), &json!({"status": {"disruptionsAllowed": 1}})).await;
    let (code, answer) = api.post(&format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(code, 201, "{answer}");
    let (_, pod) = api.get(&format!("{PODS}/p")).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let (_, budget) = api.get(&format!("{budgets}/b")).await;
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(budget["status"]["disruptedPods"]["p"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_not_ready_goes_without_asking_a_healthy_budget() {
    let api = with_pod().await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    api.made(&format!("{PODS}/p/binding"), &binding).await;
    api.patch("merge", &format!("{PODS}/p/status"), &json!({"status": {"phase": "Running"}})).await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}});
    api.made(budgets, &json!({"metadata": {"name": "b"}, "spec": spec})).await;
    let healthy = |number: i64| json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": number, "desiredHealthy": 1, "expectedPods": 2}});
    api.patch("merge", &format!("{budgets}/b/status"), &healthy(0)).await;
    let eviction = |dry_run: Value| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"dryRun": dry_run}});
    let (code, refused) = api.post(&format!("{PODS}/p/eviction"), &eviction(json!([]))).await;
    assert_eq!((code, &refused["details"]["causes"][0]["reason"]), (429, &json!("DisruptionBudget")));
    let failed = json!([{"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "why"}]);
    api.patch("merge", &format!("{budgets}/b/status"), &json!({"status": {"conditions": failed}})).await;
    let (_, refused) = api.post(&format!("{PODS}/p/eviction"), &eviction(json!([]))).await;
    let why = "The disruption budget b does not allow evicting pods currently because it failed sync: why";
    assert_eq!(refused["details"]["causes"][0]["message"], why);
    api.patch("merge", &format!("{budgets}/b/status"), &healthy(1)).await;
    let (code, answer) = api.post(&format!("{PODS}/p/eviction"), &eviction(json!(["All"]))).await;
    assert_eq!(code, 201, "{answer}");
    assert!(api.get(&format!("{PODS}/p")).await.1["metadata"]["deletionTimestamp"].is_null(), "that was a dry run");
    let (code, answer) = api.post(&format!("{PODS}/p/eviction"), &eviction(json!([]))).await;
    assert_eq!(code, 201, "{answer}");
    let (_, pod) = api.get(&format!("{PODS}/p")).await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let target = conditions.find(|c| c["type"] == "DisruptionTarget").expect("the pod says why it goes");
    assert_eq!(
        (&target["reason"], &target["message"], &target["observedGeneration"]),
        (&json!("EvictionByEvictionAPI"), &json!("Eviction API: evicting"), &json!(1))
    );
    assert!(api.get(&format!("{budgets}/b")).await.1["status"]["disruptedPods"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unhealthy_pod_may_always_go_if_its_budget_says_so() {
    let api = with_pod().await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    api.made(&format!("{PODS}/p/binding"), &binding).await;
    api.patch("merge", &format!("{PODS}/p/status"), &json!({"status": {"phase": "Running"}})).await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let spec = json!({"minAvailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": {"matchLabels": {"app": "a"}}});
    for name in ["b", "c"] {
        api.made(budgets, &json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let (code, refused) = api.post(&format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            500,
            &json!("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
        )
    );
    api.delete(&format!("{budgets}/c"), &Value::Null).await;
    let (code, answer) = api.post(&format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(code, 201, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_changes_cpu_and_memory_and_nothing_else() {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let resources = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}});
    api.made(PODS, &pod).await;
    let path = format!("{PODS}/p/resize");
    let patch = |container: Value| json!({"spec": {"containers": [container]}});
    let more = patch(json!({"name": "c", "resources": {"requests": {"cpu": "150m"}}}));
    let (code, answer) = api.patch("strategic", &path, &more).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(answer["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "150m", "memory": "64Mi"}));
    assert_eq!(answer["metadata"]["generation"], 2);
    let guaranteed = patch(json!({"name": "c", "resources": {"requests": {"cpu": "200m"}}}));
    let (code, status) = api.patch("strategic", &path, &guaranteed).await;
    assert_eq!(code, 422, "{status}");
    let message = status["message"].as_str().unwrap_or("");
    assert!(message.contains("Pod QOS Class may not change as a result of resizing"), "{message}");
    // What is not resources is not taken over.
    let image = patch(json!({"name": "c", "image": "other"}));
    let (code, answer) = api.patch("strategic", &path, &image).await;
    assert_eq!((code, &answer["spec"]["containers"][0]["image"]), (200, &json!("i")));
    // The main door stays shut.
    let (code, status) = api.patch("strategic", &format!("{PODS}/p"), &more).await;
    assert_eq!(code, 200, "the same amount is no change: {status}");
    let (code, status) = api.patch("strategic", &format!("{PODS}/p"), &guaranteed).await;
    assert_eq!(code, 422, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_beyond_the_node_is_refused_at_once() {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let node = |name: &str, os: &str| {
        json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/os": os}},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}},
        })
    };
    for (name, os) in [("n", "linux"), ("w", "windows")] {
        api.made("/api/v1/nodes", &node(name, os)).await;
        let resources = json!({"requests": {"cpu": "100m", "memory": "64Mi"}});
        let container = json!({"name": "c", "image": "i", "resources": resources});
        let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": name, "containers": [container]}});
        api.made(PODS, &pod).await;
    }
    let ask = async |pod: &str, requests: Value| {
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
        api.patch("strategic", &format!("{PODS}/{pod}/resize"), &patch).await
    };
    let (code, status) = ask("n", json!({"cpu": "2001m", "memory": "2Gi"})).await;
    assert_eq!(code, 403, "{status}");
    assert_eq!(
        status["message"],
        "pods \"n\" is forbidden: Node didn't have enough allocatable resources: cpu, requested: 2001, allocatable: 2000; \
         memory, requested: 2147483648, allocatable: 1073741824"
    );
    assert_eq!(status["details"]["causes"], json!([{"reason": "NodeCapacity"}]));
    let (code, status) = ask("n", json!({"cpu": "2"})).await;
    assert_eq!(code, 200, "as much as there is: {status}");
    let (code, status) = ask("w", json!({"cpu": "1"})).await;
    assert_eq!(code, 403, "{status}");
    let why = "pod resize is only supported on linux nodes, node \"w\" is \"windows\"";
    assert_eq!(status["message"], format!("pods \"w\" is forbidden: {why}"));
    assert_eq!(status["details"]["causes"], json!([{"reason": "UnsupportedPlatform"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_for_debugging_are_added_and_never_taken_away() {
    let api = with_pod().await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let add = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}});
    let (code, pod) = api.patch("strategic", &path, &add).await;
    assert_eq!(code, 200, "{pod}");
    assert_eq!(pod["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "Always");
    let (_, before) = api.get(&format!("{PODS}/p")).await;
    let (code, status) = api.patch("merge", &path, &json!({"spec": {"ephemeralContainers": []}})).await;
    assert_eq!(code, 422, "{status}");
    let second = |target: &str| json!({"spec": {"ephemeralContainers": [{"name": "two", "image": "b", "targetContainerName": target}]}});
    let (code, status) = api.patch("strategic", &path, &second("none")).await;
    assert_eq!(
        (code, &status["details"]["causes"][0]["field"]),
        (422, &json!("spec.ephemeralContainers[0].targetContainerName"))
    );
    let ports =
        json!({"spec": {"ephemeralContainers": [{"name": "two", "image": "b", "ports": [{"containerPort": 80}]}]}});
    let (code, status) = api.patch("strategic", &path, &ports).await;
    assert_eq!((code, &status["details"]["causes"][0]["field"]), (422, &json!("spec.ephemeralContainers[0].ports")));
    let (_, after) = api.get(&format!("{PODS}/p")).await;
    assert_eq!(revision(&before), revision(&after));
}
