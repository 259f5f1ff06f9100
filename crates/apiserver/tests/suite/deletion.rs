use serde_json::{Value, json};

use super::client::{Api, revision};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn with_pod(name: &str) -> Api {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    api.made(PODS, &pod).await;
    api
}

async fn bind(api: &Api, name: &str) {
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "n"}});
    let (code, answer) = api.post(&format!("{PODS}/{name}/binding"), &binding).await;
    assert_eq!(code, 201, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_delete_answers_with_a_status_that_names_the_object() {
    let api = Api::new().await;
    let made = api.made(MAPS, &json!({"metadata": {"name": "a"}})).await;
    let (code, status) = api.delete(&format!("{MAPS}/a"), &Value::Null).await;
    assert_eq!(code, 200);
    assert_eq!(status["status"], "Success");
    assert_eq!(status["details"], json!({"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}));
    assert_eq!(api.delete(&format!("{MAPS}/a"), &Value::Null).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_pod_waits_for_its_agent() {
    let api = with_pod("p").await;
    bind(&api, "p").await;
    let (code, pod) = api.delete(&format!("{PODS}/p"), &Value::Null).await;
    assert_eq!(code, 200);
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    // A longer grace changes nothing, a shorter one shortens.
    let (_, again) = api.delete(&format!("{PODS}/p"), &json!({"gracePeriodSeconds": 60})).await;
    assert_eq!(revision(&again), revision(&pod));
    let (_, sooner) = api.delete(&format!("{PODS}/p"), &json!({"gracePeriodSeconds": 5})).await;
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    // The agent's word.
    let (code, _) = api.delete(&format!("{PODS}/p"), &json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(code, 200);
    assert_eq!(api.get(&format!("{PODS}/p")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_on_no_node_goes_at_once() {
    let api = with_pod("p").await;
    let (code, pod) = api.delete(&format!("{PODS}/p"), &Value::Null).await;
    assert_eq!((code, &pod["kind"]), (200, &json!("Pod")));
    assert_eq!(api.get(&format!("{PODS}/p")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let api = Api::new().await;
    api.made(MAPS, &json!({"metadata": {"name": "a", "finalizers": ["example.com/f"]}})).await;
    let path = format!("{MAPS}/a");
    let (code, held) = api.delete(&path, &Value::Null).await;
    assert_eq!(code, 200);
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    let (code, status) =
        api.patch("merge", &path, &json!({"metadata": {"finalizers": ["example.com/f", "example.com/g"]}})).await;
    assert_eq!(code, 422, "{status}");
    let (code, last) = api.patch("merge", &path, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(code, 200, "{last}");
    assert_eq!(api.get(&path).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn propagation_leaves_a_finalizer_for_the_garbage_collector() {
    let api = Api::new().await;
    for (name, policy, finalizer) in [("f", "Foreground", "foregroundDeletion"), ("o", "Orphan", "orphan")] {
        api.made(MAPS, &json!({"metadata": {"name": name}})).await;
        let (code, held) = api.delete(&format!("{MAPS}/{name}"), &json!({"propagationPolicy": policy})).await;
        assert_eq!(code, 200);
        assert_eq!(held["metadata"]["finalizers"], json!([finalizer]));
        assert!(held["metadata"]["deletionTimestamp"].is_string());
    }
    api.made(MAPS, &json!({"metadata": {"name": "b"}})).await;
    api.delete(&format!("{MAPS}/b?propagationPolicy=Background"), &Value::Null).await;
    assert_eq!(api.get(&format!("{MAPS}/b")).await.0, 404);
    let (code, _) = api.delete(&format!("{MAPS}/f"), &json!({"propagationPolicy": "Sideways"})).await;
    assert_eq!(code, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_jobs_and_replication_controllers_stay_unless_the_delete_says_otherwise() {
    let api = Api::new().await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let always = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    for (path, spec) in
        [(jobs, json!({"template": template})), (controllers, json!({"selector": {"a": "b"}, "template": always}))]
    {
        for (options, finalizers) in [
            (Value::Null, json!(["orphan"])),
            (json!({"propagationPolicy": "Foreground"}), json!(["foregroundDeletion"])),
            (json!({"propagationPolicy": "Background"}), Value::Null),
            (json!({"orphanDependents": false}), Value::Null),
        ] {
            api.made(path, &json!({"metadata": {"name": "x"}, "spec": spec})).await;
            let (code, answer) = api.delete(&format!("{path}/x"), &options).await;
            assert!(code < 300, "{answer}");
            assert_eq!(answer["metadata"]["finalizers"], finalizers, "{path} {options}: {answer}");
            if !finalizers.is_null() {
                api.patch("merge", &format!("{path}/x"), &json!({"metadata": {"finalizers": null}})).await;
            }
            assert_eq!(api.get(&format!("{path}/x")).await.0, 404);
        }
    }
    api.made(jobs, &json!({"metadata": {"name": "x"}, "spec": {"template": template}})).await;
    for (query, warned) in [("?propagationPolicy=Orphan&dryRun=All", false), ("", true)] {
        let response = api.send(http::Method::DELETE, &format!("{jobs}/x{query}"), &[], "").await;
        let warning = response.headers().get("warning").map(|w| w.to_str().expect("text").to_owned());
        assert_eq!(warning.is_some_and(|w| w.contains("child pods are preserved by default")), warned, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn preconditions_guard_a_delete() {
    let api = Api::new().await;
    let made = api.made(MAPS, &json!({"metadata": {"name": "a"}})).await;
    for wrong in [json!({"uid": "x"}), json!({"resourceVersion": "1"})] {
        let (code, status) = api.delete(&format!("{MAPS}/a"), &json!({"preconditions": wrong})).await;
        assert_eq!((code, &status["reason"]), (409, &json!("Conflict")), "{status}");
    }
    let right = json!({"preconditions": {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}});
    assert_eq!(api.delete(&format!("{MAPS}/a"), &right).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_deleted_by_its_selector() {
    let api = Api::new().await;
    for n in 0..100 {
        let label = if n % 2 == 0 { "even" } else { "odd" };
        api.made(MAPS, &json!({"metadata": {"name": format!("m{n}"), "labels": {"n": label}}})).await;
    }
    let (code, _) = api.delete(&format!("{MAPS}?labelSelector=n%3Deven"), &Value::Null).await;
    assert_eq!(code, 200);
    let (_, list) = api.get(MAPS).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(50));
    let (code, _) = api.delete(&format!("{MAPS}?dryRun=All"), &Value::Null).await;
    assert_eq!(code, 200);
    let (_, list) = api.get(MAPS).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(50));
    // A page of it, if that is what the client asks for.
    let (code, page) = api.delete(&format!("{MAPS}?limit=20"), &Value::Null).await;
    assert_eq!((code, page["items"].as_array().map(Vec::len)), (200, Some(20)));
    let (_, list) = api.get(MAPS).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_ends_when_its_controller_says_so() {
    let api = Api::new().await;
    api.made("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await;
    let (code, held) = api.delete("/api/v1/namespaces/n", &Value::Null).await;
    assert_eq!((code, &held["status"]["phase"]), (200, &json!("Terminating")));
    let (code, status) = api.post("/api/v1/namespaces/n/configmaps", &json!({"metadata": {"name": "a"}})).await;
    assert_eq!(code, 403);
    assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut done = held.clone();
    done["spec"] = json!({});
    let (code, _) = api.put("/api/v1/namespaces/n/finalize", &done).await;
    assert_eq!(code, 200);
    assert_eq!(api.get("/api/v1/namespaces/n").await.0, 404);
    let (code, status) = api.delete("/api/v1/namespaces/default", &Value::Null).await;
    assert_eq!(code, 403, "{status}");
}
