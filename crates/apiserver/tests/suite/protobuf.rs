//! Answers in `application/vnd.kubernetes.protobuf`. What comes out is sent back in: a server that reads its own answer
//! as the same object has left nothing out.

use api::catalogue;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use http::{Method, Response};
use http_body_util::{BodyExt, BodyStream};
use serde_json::{Value, json};

use super::{
    client::{Api, DEADLINE},
    manifests,
};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn get(api: &Api, path: &str, accept: &str) -> (u16, String, Bytes) {
    parts(api.send(Method::GET, path, &[("accept", accept)], "").await).await
}

async fn parts(response: Response<apiserver::Body>) -> (u16, String, Bytes) {
    let code = response.status().as_u16();
    let media_type = response.headers()["content-type"].to_str().expect("it is text").to_owned();
    (code, media_type, response.into_body().collect().await.expect("bodies end well").to_bytes())
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_comes_back_as_it_was_given_out() {
    let api = Api::new().await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let (mut tried, mut faults) = (0, Vec::new());
    for resource in catalogue::all() {
        let Some(mut body) = manifests::body(resource.group, resource.kind) else { continue };
        if resource.schema.message.is_none() || !resource.allows("update") {
            continue;
        }
        let name = manifests::name(resource.group, resource.kind);
        body["metadata"] = json!({"name": name, "labels": {"b": "1", "a": ""}, "annotations": {"x": "y"}});
        let root =
            if resource.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}", resource.api_version) };
        let namespace = if resource.namespaced { "/namespaces/default" } else { "" };
        let path = format!("{root}{namespace}/{}", resource.plural);
        let (code, made) = api.post(&path, &body).await;
        if code == 409 {
            continue;
        }
        assert_eq!(code, 201, "{made}");
        let path = format!("{path}/{name}");
        let (code, media_type, message) = get(&api, &path, PROTOBUF).await;
        assert_eq!((code, &*media_type), (200, PROTOBUF), "{path}");
        assert!(message.starts_with(b"k8s\0"), "{path}");
        let headers = [("content-type", PROTOBUF), ("accept", "application/json")];
        let (code, _, answer) = parts(api.send(Method::PUT, &path, &headers, message).await).await;
        let answer: Value = serde_json::from_slice(&answer).expect("it is JSON");
        assert_eq!(code, 200, "{path}: {answer}");
        let (_, shown) = api.get(&path).await;
        // A write that changes nothing is none, so that the version tells whether anything was lost on the way.
        if shown["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"] {
            faults.push(format!("{path}\n{made}\n{shown}"));
        }
        // What limits others would be in their way.
        api.delete(&path, &Value::Null).await;
        tried += 1;
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(tried > 50, "only {tried} kinds were tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_that_the_client_takes_is_served() {
    let api = Api::new().await;
    api.made(MAPS, &json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await;
    api.made(
        "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
        &json!({"metadata": {"name": "g"}, "spec": {"controllerName": "example.com/c"}}),
    )
    .await;
    let one = format!("{MAPS}/a");
    let gateway = "/apis/gateway.networking.k8s.io/v1/gatewayclasses/g";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (path, accept, code, media_type) in [
        (&*one, "application/vnd.kubernetes.protobuf", 200, PROTOBUF),
        (&one, "application/vnd.kubernetes.protobuf,application/json", 200, PROTOBUF),
        (&one, "application/json,application/vnd.kubernetes.protobuf", 200, "application/json"),
        (&one, "application/vnd.kubernetes.protobuf, */*", 200, PROTOBUF),
        (&one, "*/*, application/vnd.kubernetes.protobuf", 200, PROTOBUF),
        (&one, "application/vnd.kubernetes.protobuf;q=0.1,application/json;q=0.9", 200, "application/json"),
        (&one, "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", 406, "application/json"),
        (
            &one,
            &format!("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,{table}"),
            200,
            "application/json",
        ),
        (&one, "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", 200, PROTOBUF),
        (MAPS, "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", 200, PROTOBUF),
        (gateway, "application/vnd.kubernetes.protobuf", 406, "application/json"),
        (gateway, "application/vnd.kubernetes.protobuf,application/json", 200, "application/json"),
        (&format!("{MAPS}/missing"), "application/vnd.kubernetes.protobuf", 404, PROTOBUF),
        ("/api/v1/unheardof", "application/vnd.kubernetes.protobuf", 404, PROTOBUF),
        ("/apis", "application/vnd.kubernetes.protobuf", 200, PROTOBUF),
        ("/apis/apps", "application/vnd.kubernetes.protobuf", 200, PROTOBUF),
        ("/api/v1", "application/vnd.kubernetes.protobuf", 200, PROTOBUF),
        ("/version", "application/vnd.kubernetes.protobuf", 200, "application/json"),
        (&format!("{MAPS}?watch=1"), "application/yaml", 406, "application/json"),
    ] {
        let (got, its_type, body) = get(&api, path, accept).await;
        assert_eq!((got, &*its_type), (code, media_type), "{path} {accept}: {}", String::from_utf8_lossy(&body));
    }
    let (_, _, body) = get(&api, gateway, PROTOBUF).await;
    assert!(contains(&body, "only the following media types are accepted: application/json, application/yaml\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_writes_are_answered_in_it() {
    let api = Api::new().await;
    let accept = [("accept", PROTOBUF), ("content-type", "application/json")];
    for name in ["a", "b", "c"] {
        let body = json!({"metadata": {"name": name}, "data": {"k": format!("value-{name}")}}).to_string();
        let (code, media_type, message) = parts(api.send(Method::POST, MAPS, &accept, body).await).await;
        assert_eq!((code, &*media_type), (201, PROTOBUF));
        assert!(contains(&message, &format!("value-{name}")));
    }
    let (code, _, list) = get(&api, &format!("{MAPS}?limit=2"), PROTOBUF).await;
    assert_eq!(code, 200);
    assert!(contains(&list, "ConfigMapList") && contains(&list, "value-a") && contains(&list, "value-b"));
    assert!(!contains(&list, "value-c"));
    let patch = [("accept", PROTOBUF), ("content-type", "application/merge-patch+json")];
    let path = format!("{MAPS}/a");
    let (code, media_type, message) =
        parts(api.send(Method::PATCH, &path, &patch, r#"{"data":{"k":"patched"}}"#).await).await;
    assert_eq!((code, &*media_type), (200, PROTOBUF));
    assert!(contains(&message, "patched"));
    let (code, media_type, message) = parts(api.send(Method::DELETE, &path, &accept, "").await).await;
    assert_eq!((code, &*media_type), (200, PROTOBUF));
    assert!(contains(&message, "Success"));
    // A list that is longer than a piece.
    let data = "x".repeat(100_000);
    api.made(MAPS, &json!({"metadata": {"name": "long"}, "data": {"k": data}})).await;
    let (_, _, list) = get(&api, MAPS, PROTOBUF).await;
    assert!(contains(&list, &data) && contains(&list, "value-b") && list.ends_with(b"\x1a\x00\x22\x00"));
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_come_in_frames() {
    let api = Api::new().await;
    api.made(MAPS, &json!({"metadata": {"name": "first"}})).await;
    for accept in [PROTOBUF, "application/vnd.kubernetes.protobuf;stream=watch"] {
        let path =
            format!("{MAPS}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
        let response = api.send(Method::GET, &path, &[("accept", accept)], "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
        let mut frames = Frames { body: BodyStream::new(response.into_body()), bytes: Vec::new() };
        let first = frames.next().await;
        assert!(contains(&first, "ADDED") && contains(&first, "first") && contains(&first, "k8s\0"));
        let mark = frames.next().await;
        assert!(contains(&mark, "BOOKMARK") && contains(&mark, "k8s.io/initial-events-end"));
        api.made(MAPS, &json!({"metadata": {"name": "second"}})).await;
        let second = frames.next().await;
        assert!(contains(&second, "ADDED") && contains(&second, "second"));
        api.delete(&format!("{MAPS}/second"), &Value::Null).await;
        let gone = frames.next().await;
        assert!(contains(&gone, "DELETED") && contains(&gone, "second"));
    }
}

struct Frames {
    body: BodyStream<apiserver::Body>,
    bytes: Vec<u8>,
}

impl Frames {
    async fn next(&mut self) -> Vec<u8> {
        loop {
            if self.bytes.len() >= 4 {
                let length = (&self.bytes[..4]).get_u32() as usize;
                if self.bytes.len() >= 4 + length {
                    return self.bytes.drain(..4 + length).skip(4).collect();
                }
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.next()).await.expect("an event comes in time");
            let data = frame.expect("the watch goes on").expect("it does not break").into_data();
            self.bytes.extend_from_slice(&data.expect("a watch has no trailers"));
        }
    }
}
