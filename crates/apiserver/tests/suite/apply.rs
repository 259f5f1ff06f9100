use serde_json::{Value, json};

use super::client::{Api, revision};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_creates_changes_and_removes_what_it_no_longer_says() {
    let api = Api::new().await;
    let path = format!("{MAPS}/a?fieldManager=one");
    let (code, made) = api.patch("apply", &path, &map(json!({"x": "1", "y": "1"}))).await;
    assert_eq!(code, 201, "{made}");
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!((&entry["manager"], &entry["operation"]), (&json!("one"), &json!("Apply")));
    let (code, changed) = api.patch("apply", &path, &map(json!({"x": "2"}))).await;
    assert_eq!((code, &changed["data"]), (200, &json!({"x": "2"})));
    let (_, same) = api.patch("apply", &path, &map(json!({"x": "2"}))).await;
    assert_eq!(revision(&same), revision(&changed));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_appliers_conflict_unless_one_forces() {
    let api = Api::new().await;
    api.patch("apply", &format!("{MAPS}/a?fieldManager=one"), &map(json!({"x": "1"}))).await;
    let (code, status) = api.patch("apply", &format!("{MAPS}/a?fieldManager=two"), &map(json!({"x": "2"}))).await;
    assert_eq!(code, 409, "{status}");
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldManagerConflict");
    assert_eq!(status["details"]["causes"][0]["field"], ".data.x");
    let (code, forced) =
        api.patch("apply", &format!("{MAPS}/a?fieldManager=two&force=true"), &map(json!({"x": "2"}))).await;
    assert_eq!((code, &forced["data"]["x"]), (200, &json!("2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_asks_for_a_manager_and_the_right_kind() {
    let api = Api::new().await;
    let (code, status) = api.patch("apply", &format!("{MAPS}/a"), &map(json!({}))).await;
    assert_eq!(code, 422, "{status}");
    let wrong = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    let (code, status) = api.patch("apply", &format!("{MAPS}/a?fieldManager=one"), &wrong).await;
    assert_eq!(code, 400, "{status}");
    let (code, _) = api.patch("merge", &format!("{MAPS}/a"), &json!({})).await;
    assert_eq!(code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_own_what_they_change() {
    let api = Api::new().await;
    api.made(&format!("{MAPS}?fieldManager=maker"), &map(json!({"x": "1", "y": "1"}))).await;
    let (_, object) = api.patch("merge", &format!("{MAPS}/a?fieldManager=changer"), &json!({"data": {"y": "2"}})).await;
    let fields: Vec<(&Value, &Value)> = object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| (&entry["manager"], &entry["fieldsV1"]["f:data"]))
        .collect();
    assert_eq!(fields.len(), 2, "{object}");
    assert!(
        fields.iter().any(|(m, d)| **m == "maker" && d.get("f:x").is_some() && d.get("f:y").is_none()),
        "{fields:?}"
    );
    assert!(fields.iter().any(|(m, d)| **m == "changer" && d.get("f:y").is_some()), "{fields:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zero_that_is_applied_is_owned_and_not_shown() {
    let api = Api::new().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let labels = json!({"a": "b"});
    let applied = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "paused": false, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{
                "name": "c", "image": "i", "tty": false,
            }]}},
        },
    });
    let path = format!("{deployments}/web?fieldManager=me");
    let (code, made) = api.patch("apply", &path, &applied).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"].get("paused"), None, "{made}");
    assert_eq!(made["spec"]["template"]["spec"]["containers"][0].get("tty"), None, "{made}");
    let owned = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(owned["f:paused"], json!({}), "{owned}");
    assert_eq!(owned["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:tty"], json!({}), "{owned}");
    let (_, again) = api.patch("apply", &path, &applied).await;
    assert_eq!(again, made, "the same configuration again is no write");
}
