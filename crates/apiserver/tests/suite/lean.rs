//! Clients that do without managed fields are not sent them, and what they write keeps them; the ways in which less is
//! copied and decoded lead to the same objects.

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::client::{Api, revision};

const PODS: &str = "/api/v1/namespaces/default/pods";
const OMIT: &[(&str, &str)] = &[("hythe-omit", "managedFields")];

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "annotations": {"a": ",\"managedFields\":[{"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// With the account that pods run under.
async fn with_account() -> Api {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    api
}

async fn text(api: &Api, path: &str, headers: &[(&str, &str)]) -> String {
    let response = api.send(Method::GET, path, headers, "").await;
    let bytes = response.into_body().collect().await.expect("bodies end well").to_bytes();
    String::from_utf8(bytes.into()).expect("it is text")
}

fn without(mut object: Value) -> Value {
    object["metadata"].as_object_mut().expect("it has metadata").remove("managedFields").expect("it has them");
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_without_managed_fields_gets_all_else() {
    let api = with_account().await;
    let made = api.made(PODS, &pod("p")).await;
    let lean: Value = serde_json::from_str(&text(&api, &format!("{PODS}/p"), OMIT).await).expect("it is JSON");
    assert_eq!(lean, without(made.clone()));
    let list: Value = serde_json::from_str(&text(&api, PODS, OMIT).await).expect("it is JSON");
    assert_eq!(list["items"], json!([lean]));
    let from = revision(&made) - 1;
    for version in [0, from] {
        let watch = format!("{PODS}?watch=1&timeoutSeconds=1&resourceVersion={version}");
        let event: Value = serde_json::from_str(text(&api, &watch, OMIT).await.trim()).expect("one event");
        assert_eq!(event, json!({"type": "ADDED", "object": lean}), "from {version}");
        let event: Value = serde_json::from_str(text(&api, &watch, &[]).await.trim()).expect("one event");
        assert_eq!(event["object"], made, "from {version}");
    }
    let metadata =
        [("hythe-omit", "managedFields"), ("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")];
    let shown: Value = serde_json::from_str(&text(&api, &format!("{PODS}/p"), &metadata).await).expect("it is JSON");
    assert_eq!(shown["metadata"], lean["metadata"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_subresources_keep_the_list_of_managers_and_the_order_of_fields() {
    let api = with_account().await;
    let made = api.made(PODS, &pod("p")).await;
    let status = json!({"metadata": {"uid": made["metadata"]["uid"]}, "status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}]}});
    let (code, patched) = api.patch("strategic", &format!("{PODS}/p/status"), &status).await;
    assert_eq!((code, &patched["status"]["phase"]), (200, &json!("Running")), "{patched}");
    let keys = |object: &Value| object.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&patched), keys(&made));
    assert_eq!(patched["spec"], made["spec"]);
    let managers = patched["metadata"]["managedFields"].as_array().expect("it has managers");
    assert_eq!(managers[0], made["metadata"]["managedFields"][0]);
    assert_eq!((managers.len(), &managers[1]["subresource"]), (2, &json!("status")));
    // The same again changes nothing.
    let (_, again) = api.patch("strategic", &format!("{PODS}/p/status"), &status).await;
    assert_eq!(again, patched);
    // What a patch names is decoded as ever.
    let (code, refused) = api.patch("strategic", &format!("{PODS}/p/status"), &json!({"status": {"phase": 1}})).await;
    assert_eq!(code, 422, "{refused}");
    let wrong = json!({"spec": {"activeDeadlineSeconds": "soon"}});
    assert_eq!(api.patch("strategic", &format!("{PODS}/p"), &wrong).await.0, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_tables_have_all_rows_in_order() {
    let api = Api::new().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for number in 0..250 {
        let map =
            json!({"metadata": {"name": format!("m{number:03}"), "annotations": {"n": "}]"}}, "data": {"k": "v"}});
        api.made(maps, &map).await;
    }
    let accept = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table: Value = serde_json::from_str(&text(&api, maps, &accept).await).expect("it is JSON");
    let rows = table["rows"].as_array().expect("it has rows");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["cells"][0].as_str()).collect();
    let wanted: Vec<String> = (0..250).map(|number| format!("m{number:03}")).collect();
    assert_eq!(names, wanted);
    let one = &rows[200];
    assert_eq!(one["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(one["object"]["metadata"]["annotations"]["n"], "}]");
    assert_eq!(one["object"]["metadata"].get("managedFields"), None);
    let whole: Value =
        serde_json::from_str(&text(&api, &format!("{maps}?includeObject=Object"), &accept).await).expect("it is JSON");
    assert_eq!(whole["rows"][7]["object"]["data"]["k"], "v");
    let none: Value =
        serde_json::from_str(&text(&api, &format!("{maps}?includeObject=None&labelSelector=x"), &accept).await)
            .expect("it is JSON");
    assert_eq!(none["rows"], json!([]));
}
