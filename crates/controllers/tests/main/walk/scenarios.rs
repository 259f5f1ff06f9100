//! What is walked: one life of an object of each controller.

use std::time::Duration;

use futures::FutureExt;
use http::Method;
use serde_json::{Value, json};

use super::{Step, walk, walk_with};
use crate::world::{OUTCOME, template};

const APPS: &str = "apis/apps/v1";
const BATCH: &str = "apis/batch/v1";
const CORE: &str = "api/v1";

/// `step!(stage => { what the user does }, state => whether it is done)`
macro_rules! step {
    ($stage:ident => $act:block, $state:ident => $done:expr) => {
        Step { act: |$stage| async move { $act }.boxed(), done: |$state: &Value| $done }
    };
}

fn first<'v>(state: &'v Value, plural: &str) -> &'v Value {
    &state[plural][0]
}

fn count(state: &Value, plural: &str) -> usize {
    state[plural].as_array().map_or(0, Vec::len)
}

fn is_true(object: &Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == condition && c["status"] == "True")
}

fn ready_addresses(state: &Value) -> usize {
    let slices = state["endpointslices"].as_array().into_iter().flatten();
    slices.map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len)).sum()
}

fn web(replicas: u32, image: &str) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": template("web", image)}})
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image,
        "ports": [{"name": "http", "containerPort": 8080}]}]}}}})
}

fn rolled_out(state: &Value, replicas: u32) -> bool {
    let status = &first(state, "deployments")["status"];
    ["replicas", "updatedReplicas", "availableReplicas"].into_iter().all(|field| status[field] == replicas)
        && count(state, "pods") == replicas as usize
}

/// A pod that ends by itself, with this outcome.
fn work(outcome: &str) -> Value {
    json!({"metadata": {"annotations": {OUTCOME: outcome}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_with_its_service_converges_from_any_write() {
    let steps = [
        step!(stage => {
            let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
            stage.create(CORE, "services", service).await;
            stage.create(APPS, "deployments", web(2, "one")).await;
        }, state => rolled_out(state, 2) && ready_addresses(state) == 2),
        step!(stage => { stage.patch(&stage.path(APPS, "deployments", "web"), image("two")).await; },
            state => rolled_out(state, 2) && count(state, "replicasets") == 2 && ready_addresses(state) == 2),
        step!(stage => { stage.patch(&stage.path(APPS, "deployments", "web"), json!({"spec": {"replicas": 1}})).await; },
            state => rolled_out(state, 1) && ready_addresses(state) == 1),
    ];
    walk(&["node-a"], &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_with_claims_converges_from_any_write() {
    let steps = [
        step!(stage => {
            let mut set = web(2, "one");
            set["spec"]["serviceName"] = json!("web");
            set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
            set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "storageClassName": "", "resources": {"requests": {"storage": "1Mi"}}}}]);
            stage.create(APPS, "statefulsets", set).await;
        }, state => set_is_done(state, 2)),
        step!(stage => { stage.patch(&stage.path(APPS, "statefulsets", "web"), image("two")).await; },
            state => set_is_done(state, 2) && count(state, "controllerrevisions") == 2
                && first(state, "pods")["spec"]["containers"][0]["image"] == "two"),
        step!(stage => { stage.patch(&stage.path(APPS, "statefulsets", "web"), json!({"spec": {"replicas": 1}})).await; },
            state => set_is_done(state, 1)),
        step!(stage => { stage.delete(APPS, "statefulsets", "web", "Background").await; },
            state => ["statefulsets", "pods", "persistentvolumeclaims", "controllerrevisions"].into_iter().all(|p| count(state, p) == 0)),
    ];
    walk(&["node-a"], &steps).await;
}

fn set_is_done(state: &Value, replicas: u32) -> bool {
    let set = &first(state, "statefulsets")["status"];
    ["replicas", "updatedReplicas", "readyReplicas"].into_iter().all(|field| set[field] == replicas)
        && set["currentRevision"] == set["updateRevision"]
        && count(state, "pods") == replicas as usize
        && count(state, "persistentvolumeclaims") == replicas as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_set_converges_from_any_write() {
    fn done(state: &Value, image: &str) -> bool {
        let status = &first(state, "daemonsets")["status"];
        let pods = state["pods"].as_array().into_iter().flatten();
        status["numberAvailable"] == 2
            && status["updatedNumberScheduled"] == 2
            && pods.filter(|pod| pod["spec"]["containers"][0]["image"] == image).count() == 2
            && count(state, "pods") == 2
    }
    let steps = [
        step!(stage => {
            let mut set = web(1, "one");
            set["spec"].as_object_mut().unwrap().remove("replicas");
            stage.create(APPS, "daemonsets", set).await;
        }, state => done(state, "one")),
        step!(stage => { stage.patch(&stage.path(APPS, "daemonsets", "web"), image("two")).await; },
            state => done(state, "two") && count(state, "controllerrevisions") == 2),
    ];
    walk(&["node-a", "node-b"], &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_counts_each_pod_once_from_any_write() {
    let steps = [
        step!(stage => {
            let job = json!({"metadata": {"name": "work"}, "spec": {"completions": 3, "parallelism": 2, "template": work("exit:0")}});
            stage.create(BATCH, "jobs", job).await;
        }, state => {
            let job = first(state, "jobs");
            is_true(job, "Complete") && job["status"]["succeeded"] == 3 && count(state, "pods") == 3 && nothing_held(state)
        }),
        step!(stage => { stage.delete(BATCH, "jobs", "work", "Background").await; },
            state => count(state, "jobs") == 0 && count(state, "pods") == 0),
    ];
    walk(&["node-a"], &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_indexed_job_completes_each_index_once_from_any_write() {
    let steps = [step!(stage => {
        let job = json!({"metadata": {"name": "work"}, "spec": {"completions": 3, "parallelism": 3, "completionMode": "Indexed",
            "template": work("exit:0")}});
        stage.create(BATCH, "jobs", job).await;
    }, state => {
        let job = first(state, "jobs");
        is_true(job, "Complete") && job["status"]["completedIndexes"] == "0-2" && count(state, "pods") == 3 && nothing_held(state)
    })];
    walk(&["node-a"], &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_job_counts_each_failure_once_from_any_write() {
    let steps = [step!(stage => {
        let job = json!({"metadata": {"name": "work"}, "spec": {"backoffLimit": 0, "template": work("exit:3")}});
        stage.create(BATCH, "jobs", job).await;
    }, state => {
        let job = first(state, "jobs");
        is_true(job, "Failed") && job["status"]["failed"] == 1 && count(state, "pods") == 1 && nothing_held(state)
    })];
    walk(&["node-a"], &steps).await;
}

/// No pod waits to be counted, and no finalizer is left.
fn nothing_held(state: &Value) -> bool {
    let pods = state["pods"].as_array().into_iter().flatten();
    let held = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    let uncounted = &first(state, "jobs")["status"]["uncountedTerminatedPods"];
    pods.into_iter().all(|pod| !held(&pod["metadata"]["finalizers"]))
        && !held(&uncounted["succeeded"])
        && !held(&uncounted["failed"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_makes_its_job_once_from_any_write() {
    let steps = [step!(stage => {
        // The last time was the turn of this year at the latest, and there was only one since.
        let cron_job = json!({"metadata": {"name": "tick"}, "spec": {"schedule": "0 0 1 1 *", "suspend": true,
            "jobTemplate": {"spec": {"template": work("exit:0")}}}});
        stage.create(BATCH, "cronjobs", cron_job).await;
        let year = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year() - 1;
        let status = json!({"status": {"lastScheduleTime": format!("{year}-06-01T00:00:00Z")}});
        stage.patch(&(stage.path(BATCH, "cronjobs", "tick") + "/status"), status).await;
        stage.patch(&stage.path(BATCH, "cronjobs", "tick"), json!({"spec": {"suspend": false}})).await;
    }, state => {
        let cron_job = &first(state, "cronjobs")["status"];
        is_true(first(state, "jobs"), "Complete") && cron_job["lastSuccessfulTime"].is_string()
            && cron_job.get("active").is_none() && count(state, "jobs") == 1 && nothing_held(state)
    })];
    walk(&["node-a"], &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_converges_from_any_write() {
    let steps = [step!(stage => {
        stage.create(APPS, "deployments", web(1, "one")).await;
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
        let autoscaler = json!({"metadata": {"name": "web"}, "spec": {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 5,
            "metrics": [metric]}});
        stage.create("apis/autoscaling/v2", "horizontalpodautoscalers", autoscaler).await;
    }, state => rolled_out(state, 3))];
    walk(&["node-a"], &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disruption_budget_converges_from_any_write() {
    let steps = [
        step!(stage => {
            let budget = json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
            stage.create("apis/policy/v1", "poddisruptionbudgets", budget).await;
            stage.create(APPS, "deployments", web(2, "one")).await;
        }, state => rolled_out(state, 2) && first(state, "poddisruptionbudgets")["status"]["disruptionsAllowed"] == 1),
        step!(stage => {
            let pods = stage.get(&stage.path(CORE, "pods", "")).await;
            let name = pods["items"][0]["metadata"]["name"].as_str().expect("there are two").to_owned();
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
            stage.request(Method::POST, &(stage.path(CORE, "pods", &name) + "/eviction"), &eviction).await.expect("it may go");
        }, state => rolled_out(state, 2) && {
            let budget = &first(state, "poddisruptionbudgets")["status"];
            budget["disruptionsAllowed"] == 1 && budget.get("disruptedPods").is_none()
        }),
    ];
    walk(&["node-a"], &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_and_its_volume_converge_from_any_write() {
    let steps = [
        step!(stage => {
            let class = stage.namespace.clone();
            for (name, size) in [("small", "1Gi"), ("large", "5Gi")] {
                let volume = json!({"metadata": {"name": format!("{class}-{name}"), "labels": {"size": name}}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "storageClassName": class,
                    "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/x"}}});
                stage.request(Method::POST, "/api/v1/persistentvolumes", &volume).await.expect("it can be made");
            }
            let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "selector": {"matchLabels": {"size": "small"}}, "resources": {"requests": {"storage": "1Gi"}}}});
            stage.create(CORE, "persistentvolumeclaims", claim).await;
        }, state => first(state, "persistentvolumeclaims")["status"]["phase"] == "Bound" && volumes_are(state, "Bound")),
        step!(stage => { stage.delete(CORE, "persistentvolumeclaims", "data", "Background").await; },
            state => count(state, "persistentvolumeclaims") == 0 && volumes_are(state, "Released")),
    ];
    walk(&["node-a"], &steps).await;
}

/// The small volume has that phase, the large one is free.
fn volumes_are(state: &Value, small: &str) -> bool {
    let mut volumes = state["persistentvolumes"].as_array().into_iter().flatten();
    volumes.all(|volume| {
        let wanted = if volume["metadata"]["labels"]["size"] == "small" { small } else { "Available" };
        volume["status"]["phase"] == wanted
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn collection_in_the_foreground_converges_from_any_write() {
    let steps = [
        step!(stage => { stage.create(APPS, "deployments", web(2, "one")).await; }, state => rolled_out(state, 2)),
        step!(stage => { stage.delete(APPS, "deployments", "web", "Foreground").await; },
            state => ["deployments", "replicasets", "pods"].into_iter().all(|plural| count(state, plural) == 0)),
    ];
    walk(&["node-a"], &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphaning_converges_from_any_write() {
    let steps = [
        step!(stage => { stage.create(APPS, "deployments", web(2, "one")).await; }, state => rolled_out(state, 2)),
        step!(stage => { stage.delete(APPS, "deployments", "web", "Orphan").await; },
            state => count(state, "deployments") == 0 && count(state, "pods") == 2
                && first(state, "replicasets")["metadata"].get("ownerReferences").is_none()),
    ];
    walk(&["node-a"], &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_empties_from_any_write() {
    let steps = [
        step!(stage => {
            stage.create(APPS, "deployments", web(1, "one")).await;
            stage.create(CORE, "configmaps", json!({"metadata": {"name": "c"}})).await;
        }, state => rolled_out(state, 1)),
        step!(stage => {
            let path = format!("/api/v1/namespaces/{}", stage.namespace);
            stage.request(Method::DELETE, &path, &json!({})).await.expect("it can be deleted");
        }, state => state["namespace"].is_null() && state.as_object().unwrap().values().all(|v| v.as_array().is_none_or(Vec::is_empty))),
    ];
    walk(&["node-a"], &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_loses_its_pods_and_comes_back_from_any_write() {
    fn node_is(state: &Value, ready: &str, taints: usize) -> bool {
        let node = first(state, "nodes");
        let conditions = node["status"]["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|c| c["type"] == "Ready");
        found.is_some_and(|c| c["status"] == ready) && node["spec"]["taints"].as_array().map_or(0, Vec::len) == taints
    }
    let steps = [
        step!(stage => {
            let name = &stage.namespace;
            let node = json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
            stage.request(Method::POST, "/api/v1/nodes", &node).await.expect("it can be made");
            for (pod, seconds) in [("leaves", 0), ("stays", 3600)] {
                let toleration = json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
                    "tolerationSeconds": seconds});
                let pod = json!({"metadata": {"name": pod, "annotations": {OUTCOME: "pending"}}, "spec": {"nodeName": name,
                    "containers": [{"name": "c", "image": "i"}], "tolerations": [toleration]}});
                stage.create(CORE, "pods", pod).await;
            }
            let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
            stage.patch(&(stage.path(CORE, "pods", "stays") + "/status"), status).await;
        }, state => node_is(state, "Unknown", 2) && count(state, "pods") == 1
            && first(state, "pods")["status"]["phase"] == "Running" && !is_true(first(state, "pods"), "Ready")),
        step!(stage => { stage.revive(); }, state => node_is(state, "True", 0) && count(state, "pods") == 1),
    ];
    walk_with(&["node-a"], &steps, Duration::from_secs(1)).await;
}
