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

fn warnings<B>(response: &http::Response<B>) -> Vec<String> {
    response.headers().get_all("warning").iter().map(|text| text.to_str().expect("text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_named_twice_is_named_once_and_the_client_told() {
    let api = Api::new().await;
    let owner = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": "u"});
    let owners = |list: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "ownerReferences": list}});
    let told = |when: &str| {
        format!(
            "299 - \".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in \
             1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: \
             u\""
        )
    };
    let one = format!("{MAPS}/a");
    let add = json!([{"op": "add", "path": "/metadata/ownerReferences/-", "value": owner("a")}]);
    let twice = owners(json!([owner("a"), owner("a"), owner("b")])).to_string();
    let patch = [("content-type", "application/json-patch+json")];
    for (method, path, headers, body, when) in [
        (Method::POST, MAPS, &[][..], twice.clone(), ""),
        (Method::PUT, one.as_str(), &[][..], twice, ""),
        (Method::PATCH, one.as_str(), &patch[..], add.to_string(), " after mutating admission happens"),
    ] {
        let answer = api.send(method.clone(), path, headers, body).await;
        assert!(answer.status().is_success(), "{method}: {}", answer.status());
        assert_eq!(warnings(&answer), [told(when)], "{method}");
        let kept = api.get(&one).await.1["metadata"]["ownerReferences"].clone();
        assert_eq!(kept, json!([owner("a"), owner("b")]), "{method}");
    }
}

/// A Deployment with fields that it does not have, and fields that stand twice.
const ODD: &str = r#"
{"spec": {
  "unknown": 1, "paused": true,
  "paused": false,
  "template": {"spec": {"containers": [{"name": "a", "image": "i", "odd": 1, "imagePullPolicy": "Always",
    "imagePullPolicy": "Never"}]}}
}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn patches_tell_of_what_stands_twice_and_of_what_they_make() {
    let api = Api::new().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let labels = json!({"app": "a"});
    let pod = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
    api.made(
        deployments,
        &json!({"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": labels}, "template": pod}}),
    )
    .await;
    let json_patch = r#"[{"op": "add", "path": "/spec/unknown", "value": 1, "foo": 2}, {"op": "test", "op": "add",
        "path": "/spec/paused", "value": false}]"#;
    let twice = [
        r#"duplicate field "spec.paused""#,
        r#"duplicate field "spec.template.spec.containers[0].imagePullPolicy""#,
        r#"unknown field "spec.template.spec.containers[0].odd""#,
        r#"unknown field "spec.unknown""#,
    ];
    let operations = [
        r#"json patch unknown field "[0].foo""#,
        r#"json patch duplicate field "[1].op""#,
        r#"unknown field "spec.unknown""#,
    ];
    for (kind, body, issues) in [
        ("merge-patch", ODD, &twice[..]),
        ("strategic-merge-patch", ODD, &twice[..]),
        ("json-patch", json_patch, &operations[..]),
    ] {
        let headers = [("content-type", &*format!("application/{kind}+json"))];
        let path = |validation: &str| format!("{deployments}/a?dryRun=All&fieldValidation={validation}");
        let strict = api.send(Method::PATCH, &path("Strict"), &headers, body).await;
        assert_eq!(strict.status(), 422, "{kind}");
        let text = strict.into_body().collect_bytes().await.expect("bodies end well");
        let status: Value = serde_json::from_slice(&text).expect("a status");
        let wanted = format!("strict decoding error: {}", issues.join(", "));
        assert!(status["message"].as_str().is_some_and(|text| text.ends_with(&wanted)), "{kind}: {status}");
        let warned = api.send(Method::PATCH, &path("Warn"), &headers, body).await;
        assert_eq!(warned.status(), 200, "{kind}");
        let wanted: Vec<String> = issues.iter().map(|issue| format!("299 - {issue:?}")).collect();
        assert_eq!(warnings(&warned), wanted, "{kind}");
        let ignored = api.send(Method::PATCH, &path("Ignore"), &headers, body).await;
        assert_eq!((ignored.status().as_u16(), ignored.headers().get("warning")), (200, None), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_must_fit_its_type_and_tells_of_what_stands_twice() {
    let api = Api::new().await;
    let ask = async |validation: &str, body: &str| {
        let path = format!("{MAPS}/a?fieldManager=me&fieldValidation={validation}");
        let headers = [("content-type", "application/apply-patch+yaml")];
        let response = api.send(Method::PATCH, &path, &headers, body.to_owned()).await;
        let warnings = warnings(&response);
        let code = response.status().as_u16();
        let text = response.into_body().collect_bytes().await.expect("bodies end well");
        let answer: Value = serde_json::from_slice(&text).expect("JSON");
        (code, answer["message"].as_str().unwrap_or_default().to_owned(), warnings)
    };
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    for validation in ["Strict", "Warn", "Ignore"] {
        let (code, message, _) = ask(validation, &format!("{head}data: {{n: 1}}\nfoo: 1\n")).await;
        assert_eq!(code, 500, "{validation}");
        let wanted =
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): errors:\n  .data.n: expected string, got ";
        assert!(message.starts_with(wanted) && message.ends_with(".foo: field not declared in schema"), "{message}");
    }
    let twice = format!("{head}data:\n  k: a\n  k: b\n");
    let (code, message, _) = ask("Strict", &twice).await;
    assert_eq!(code, 400);
    assert_eq!(
        message,
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \"k\" already set in map"
    );
    let (code, _, warnings) = ask("Warn", &twice).await;
    assert_eq!((code, warnings), (201, vec![r#"299 - "line 6: key \"k\" already set in map""#.to_owned()]));
    let json = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"b","k":"c"}}"#;
    let (code, _, warnings) = ask("Warn", json).await;
    assert_eq!((code, warnings), (200, vec![r#"299 - "line 1: key \"k\" already set in map""#.to_owned()]));
    let (_, _, warnings) = ask("Ignore", json).await;
    assert!(warnings.is_empty(), "{warnings:?}");
    let (code, message, _) = ask("Warn", "a: [").await;
    assert!(
        code == 400 && message.starts_with("error decoding YAML: error converting YAML to JSON: yaml: "),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_is_held_to_its_type() {
    let api = Api::new().await;
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}});
    api.made(controllers, &json!({"metadata": {"name": "a"}, "spec": {"replicas": 2, "template": pod}})).await;
    let path = format!("{controllers}/a/scale");
    let merge = [("content-type", "application/merge-patch+json")];
    let apply = [("content-type", "application/apply-patch+yaml")];
    let head = r#""apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"a"}"#;
    let wrong = format!(r#"{{{head},"spec":{{"replicas":"3"}}}}"#);
    let unknown = format!(r#"{{{head},"spec":{{"replicas":3,"foo":1}}}}"#);
    for (method, query, headers, body, code) in [
        (Method::PUT, "", &[][..], &wrong, 400),
        (Method::PATCH, "", &merge[..], &wrong, 422),
        (Method::PATCH, "?fieldManager=me", &apply[..], &wrong, 500),
        (Method::PUT, "?fieldValidation=Strict", &[][..], &unknown, 400),
        (Method::PATCH, "?fieldValidation=Strict", &merge[..], &unknown, 422),
        (Method::PATCH, "?fieldManager=me", &apply[..], &unknown, 500),
        (Method::PATCH, "", &merge[..], &unknown, 200),
    ] {
        let response = api.send(method.clone(), &format!("{path}{query}"), headers, body.clone()).await;
        assert_eq!(response.status(), code, "{method} {query} {body}");
        let (_, scale) = api.get(&path).await;
        assert_eq!(scale["spec"]["replicas"], if code == 200 { 3 } else { 2 }, "{method} {query} {body}");
    }
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
