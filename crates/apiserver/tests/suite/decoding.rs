use http::Method;
use serde_json::{Value, json};

use super::client::Api;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_refused_warned_of_or_dropped_as_asked() {
    let api = Api::new().await;
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "dat": {}}).to_string();
    let strict = api.send(Method::POST, &format!("{MAPS}?fieldValidation=Strict"), &[], body.clone()).await;
    assert_eq!(strict.status(), 400);
    let text = strict.into_body().collect_bytes().await.expect("bodies end well");
    let status: Value = serde_json::from_slice(&text).expect("a status");
    assert!(
        status["message"].as_str().is_some_and(|m| m.contains("strict decoding error: unknown field \"dat\"")),
        "{status}"
    );
    let warned = api.send(Method::POST, &format!("{MAPS}?fieldValidation=Warn&dryRun=All"), &[], body.clone()).await;
    assert_eq!(warned.status(), 201);
    assert_eq!(warned.headers()["warning"], "299 - \"unknown field \\\"dat\\\"\"");
    let ignored = api.send(Method::POST, &format!("{MAPS}?fieldValidation=Ignore"), &[], body).await;
    assert_eq!(ignored.status(), 201);
    assert!(!ignored.headers().contains_key("warning"));
}

#[tokio::test(flavor = "multi_thread")]
async fn yaml_is_taken_and_given() {
    let api = Api::new().await;
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {a: b}\n";
    let headers = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let response = api.send(Method::POST, MAPS, &headers, body).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["content-type"], "application/yaml");
    let text = response.into_body().collect_bytes().await.expect("bodies end well");
    assert!(String::from_utf8_lossy(&text).contains("kind: ConfigMap"));
    let broken = api.send(Method::POST, MAPS, &headers, "a: [").await;
    assert_eq!(broken.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_are_refused_by_their_fault() {
    let api = Api::new().await;
    let large = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"a\"}},\"data\":{{\"k\":\"{}\"}}}}",
        "x".repeat(3 << 20)
    );
    for (content_type, body, code) in [
        ("application/json", "{", 400),
        ("application/json", "", 400),
        ("application/json", "[]", 400),
        ("application/json", r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}"#, 400),
        ("application/json", r#"{"apiVersion":"v2","kind":"ConfigMap","metadata":{"name":"a"}}"#, 400),
        ("application/json", r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"A_"}}"#, 422),
        ("application/json", r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}"#, 422),
        (
            "application/json",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"other"}}"#,
            400,
        ),
        ("application/json", r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":1}}"#, 400),
        ("text/plain", "{}", 415),
        ("application/vnd.kubernetes.protobuf", "nonsense", 400),
        ("application/json", &large, 413),
    ] {
        let response = api.send(Method::POST, MAPS, &[("content-type", content_type)], body.to_owned()).await;
        let shown = &body[..body.len().min(60)];
        assert_eq!(response.status().as_u16(), code, "{content_type} {shown}");
    }
    let (_, list) = api.get(MAPS).await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_unknown_types_are_refused() {
    let api = Api::new().await;
    api.made(MAPS, &json!({"metadata": {"name": "a"}})).await;
    let response = api.send(Method::PATCH, &format!("{MAPS}/a"), &[("content-type", "application/json")], "{}").await;
    assert_eq!(response.status(), 415);
    let (code, status) =
        api.patch("json", &format!("{MAPS}/a"), &json!([{"op": "test", "path": "/data/x", "value": 1}])).await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_accepted_is_refused() {
    let api = Api::new().await;
    let response = api.send(Method::GET, MAPS, &[("accept", "image/png")], "").await;
    assert_eq!(response.status(), 406);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_answers_himself_gets_them_indented_and_programs_get_a_line() {
    let api = Api::new().await;
    api.made(MAPS, &json!({"metadata": {"name": "a"}})).await;
    let one = format!("{MAPS}/a");
    let text = async |path: &str, agent: &str| {
        let response = api.send(Method::GET, path, &[("user-agent", agent)], "").await;
        let bytes = response.into_body().collect_bytes().await.expect("bodies end well");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let missing = format!("{MAPS}/b");
    for path in [&one, MAPS, &missing, "/apis"] {
        for agent in ["curl/7.88.1", "Wget/1.21.3", "Mozilla/5.0 (X11)"] {
            let shown = text(path, agent).await;
            assert!(shown.starts_with("{\n  \"kind\": \"") && shown.ends_with("\n}"), "{path} {agent}: {shown}");
        }
        for (path, agent) in [(path.to_owned(), "kubectl/v1.36.0"), (format!("{path}?pretty=false"), "curl/7.88.1")] {
            let line = text(&path, agent).await;
            assert!(line.starts_with("{\"kind\":\"") && line.find('\n') == Some(line.len() - 1), "{path}: {line}");
        }
    }
    let asked = text(&format!("{one}?pretty=true"), "kubectl/v1.36.0").await;
    assert!(asked.starts_with("{\n  \"kind\": \"ConfigMap\""), "{asked}");
    assert!(text("/version", "kubectl/v1.36.0").await.starts_with("{\n  \"major\": \"1\","));
}

#[tokio::test(flavor = "multi_thread")]
async fn doubtful_fields_are_taken_with_a_warning_once_and_again_when_the_spec_changes() {
    let api = Api::new().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"}, "containers": [{"name": "c", "image": "i"}]}}}});
    let warning = "299 - \"spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; \
                   use \\\"kubernetes.io/os\\\" instead\"";
    let made = api.send(Method::POST, deployments, &[], deployment.to_string()).await;
    let told = |response: &http::Response<_>| -> Vec<String> {
        response.headers().get_all("warning").iter().map(|w| w.to_str().expect("text").to_owned()).collect()
    };
    assert_eq!((made.status().as_u16(), told(&made)), (201, vec![warning.to_owned()]));
    let merge = [("content-type", "application/merge-patch+json")];
    let path = format!("{deployments}/d");
    let labelled = api.send(Method::PATCH, &path, &merge, r#"{"metadata": {"labels": {"x": "y"}}}"#).await;
    assert_eq!((labelled.status().as_u16(), told(&labelled)), (200, Vec::new()));
    let scaled = api.send(Method::PATCH, &path, &merge, r#"{"spec": {"replicas": 2}}"#).await;
    assert_eq!((scaled.status().as_u16(), told(&scaled)), (200, vec![warning.to_owned()]));
}
