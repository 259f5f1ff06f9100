//! Refusals in the words that clients know.

use http::Method;
use serde_json::{Value, json};

use super::client::Api;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MAP: &str = "/api/v1/namespaces/default/configmaps/a";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/web";

async fn with_objects() -> Api {
    let api = Api::new().await;
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    assert_eq!(api.post(MAPS, &map).await.0, 201);
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    assert_eq!(api.post("/apis/apps/v1/namespaces/default/deployments", &deployment).await.0, 201);
    api
}

async fn ask(api: &Api, method: Method, path: &str, content_type: &str, body: &str) -> (u16, String, Value) {
    let response = api.send(method, path, &[("content-type", content_type)], body.to_owned()).await;
    let code = response.status().as_u16();
    let text = response.into_body().collect_bytes().await.expect("bodies end well");
    let status: Value = serde_json::from_slice(&text).unwrap_or_default();
    (code, status["message"].as_str().unwrap_or_default().to_owned(), status)
}

async fn patch(api: &Api, path: &str, how: &str, body: &str) -> (u16, String) {
    let (code, message, _) = ask(api, Method::PATCH, path, &format!("application/{how}+json"), body).await;
    (code, message)
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_patches_are_refused_by_the_first_wrong_character() {
    let api = with_objects().await;
    let fault = "invalid character 'b' looking for beginning of object key string";
    let prefixed = format!("error decoding patch: {fault}");
    assert_eq!(patch(&api, MAP, "json-patch", "{bad").await, (400, prefixed.clone()));
    assert_eq!(patch(&api, MAP, "merge-patch", "{bad").await, (400, prefixed));
    assert_eq!(patch(&api, MAP, "strategic-merge-patch", "{bad").await, (400, fault.into()));
    let wanted = |what: &str| format!("json: cannot unmarshal number into Go value of type {what}");
    let (code, message) = patch(&api, MAP, "json-patch", "5").await;
    assert_eq!((code, message), (400, format!("error decoding patch: {}", wanted("[]handlers.jsonPatchOp"))));
    let (code, message) = patch(&api, MAP, "strategic-merge-patch", "5").await;
    assert_eq!((code, message), (400, wanted("map[string]interface {}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_that_makes_a_wrong_type_is_shown_with_its_fault() {
    let api = with_objects().await;
    for (body, shown) in [
        (r#"{"spec":{"replicas":"x"}}"#, r#""map[spec:map[replicas:x]]": unrecognized type: int32"#),
        (r#"{"spec":{"replicas":1.5}}"#, r#""map[spec:map[replicas:1.5]]": cannot convert float64 to int32"#),
        (
            r#"{"metadata":{"labels":{"a":5}}}"#,
            r#""map[metadata:map[labels:map[a:5]]]": cannot convert int64 to string"#,
        ),
        (
            r#"{"metadata":{"labels":{"a":true}}}"#,
            r#""map[metadata:map[labels:map[a:true]]]": unrecognized type: string"#,
        ),
    ] {
        let (code, message) = patch(&api, DEPLOYMENT, "strategic-merge-patch", body).await;
        assert_eq!((code, message), (422, format!(" \"\" is invalid: patch: Invalid value: {shown}")));
    }
    let (code, message) = patch(&api, DEPLOYMENT, "merge-patch", r#"{"spec":{"replicas":"x"}}"#).await;
    assert_eq!(code, 422);
    let fault = ": json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
    assert!(message.ends_with(fault) && !message.contains("cannot be handled"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_patch_that_does_not_fit_is_refused_and_a_warning_says_why() {
    let api = with_objects().await;
    let headers = [("content-type", "application/json-patch+json")];
    let body = r#"[{"op":"test","path":"/data/k","value":"w"}]"#;
    let response = api.send(Method::PATCH, MAP, &headers, body).await;
    assert_eq!(response.status(), 422);
    assert_eq!(response.headers()["warning"], r#"299 - "testing value /data/k failed: test failed""#);
    let text = response.into_body().collect_bytes().await.expect("bodies end well");
    let status: Value = serde_json::from_slice(&text).expect("a status");
    assert_eq!(status["message"], "the server rejected our request due to an error in our request");
    assert_eq!((&status["reason"], &status["details"]), (&json!("Invalid"), &json!({})));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_mean_nothing_are_invalid() {
    let api = with_objects().await;
    let map = r#"{"metadata":{"name":"b"}}"#;
    let long = "m".repeat(129);
    for (query, fault) in [
        ("dryRun=Some", "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"".to_owned()),
        (
            "fieldValidation=Some",
            "fieldValidation: Unsupported value: \"Some\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                .to_owned(),
        ),
        (&format!("fieldManager={long}"), "fieldManager: Too long: may not be more than 128 bytes".to_owned()),
    ] {
        let (code, message, _) = ask(&api, Method::POST, &format!("{MAPS}?{query}"), "application/json", map).await;
        assert_eq!((code, message), (422, format!("CreateOptions.meta.k8s.io \"\" is invalid: {fault}")));
    }
    let forced = format!("{MAP}?force=true");
    assert_eq!(
        patch(&api, &forced, "merge-patch", "{}").await,
        (
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
                .into()
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_selectors_are_refused_as_upstream_does() {
    let api = with_objects().await;
    for (method, path) in [(Method::POST, MAP), (Method::PUT, MAPS), (Method::DELETE, "/api/v1/namespaces")] {
        let (code, message, status) = ask(&api, method, path, "application/json", "{}").await;
        assert_eq!((code, message.as_str()), (405, "the server does not allow this method on the requested resource"));
        assert_eq!(status["reason"], "MethodNotAllowed");
    }
    let (code, status) = api.get(&format!("{MAPS}?labelSelector=app%20in%20(")).await;
    assert_eq!(code, 400);
    assert_eq!(status["message"], "unable to parse requirement: found '', expected: ',', ')' or identifier");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_is_tabled_with_its_own_columns() {
    let api = with_objects().await;
    let headers = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let response = api.send(Method::GET, &format!("{DEPLOYMENT}/scale"), &headers, "").await;
    let text = response.into_body().collect_bytes().await.expect("bodies end well");
    let table: Value = serde_json::from_slice(&text).expect("a table");
    let names: Vec<_> = table["columnDefinitions"].as_array().into_iter().flatten().map(|c| &c["name"]).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    assert_eq!((&table["rows"][0]["cells"][0], &table["rows"][0]["cells"][1]), (&json!("web"), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_range_of_a_node_is_given_once() {
    let api = Api::new().await;
    let node = json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.1.0.0/16"}});
    let (code, node) = api.post("/api/v1/nodes", &node).await;
    assert_eq!((code, &node["spec"]["podCIDRs"]), (201, &json!(["10.1.0.0/16"])));
    let (code, message) =
        patch(&api, "/api/v1/nodes/n", "strategic-merge-patch", r#"{"spec":{"podCIDR":"10.2.0.0/16"}}"#).await;
    assert_eq!(code, 422);
    assert!(message.contains("node updates may not change podCIDR except from \"\" to valid"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_the_same_process_own_what_they_write_under_their_names() {
    let api = Api::new().await;
    let client = kube::Client::new(api.server.in_process().named("kube-scheduler"), "default");
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::default_namespaced(client);
    let map = serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"k": "v"}})).expect("a ConfigMap");
    let made = maps.create(&kube::api::PostParams::default(), &map).await.expect("the map is made");
    let managers = made.metadata.managed_fields.unwrap_or_default();
    assert_eq!(managers[0].manager.as_deref(), Some("kube-scheduler"));
    let patch = kube::api::Patch::Merge(json!({"data": {"k": "w"}}));
    let patched = maps.patch("m", &kube::api::PatchParams::apply("mine"), &patch).await.expect("the map is patched");
    let managers = patched.metadata.managed_fields.unwrap_or_default();
    assert!(managers.iter().any(|m| m.manager.as_deref() == Some("mine")), "{managers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_has_no_columns() {
    let api = Api::new().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}).to_string();
    for (accept, code) in [
        ("application/json;as=Table;v=v1;g=meta.k8s.io", 406),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", 201),
    ] {
        let headers = [("accept", accept), ("content-type", "application/json")];
        let response = api.send(http::Method::POST, path, &headers, review.clone()).await;
        assert_eq!(response.status().as_u16(), code, "{accept}");
        let bytes = response.into_body().collect_bytes().await.expect("a body");
        let answer: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        let kind = if code == 406 { "Status" } else { "SelfSubjectAccessReview" };
        assert_eq!(answer["kind"], kind, "{accept}: {answer}");
    }
}
