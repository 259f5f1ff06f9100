//! Processes as they really are.

use std::{process::Stdio, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_ends::{Client, Names, Trust};
use serde_json::Value;
use sidecars::topz::{Host, serve};

use crate::git_sync::serving;

#[tokio::test]
async fn a_busy_process_is_seen_with_its_command_its_time_and_its_memory() {
    // Nobody waits for it but the shell that began it; both end with the test.
    let mut busy = tokio::process::Command::new("/bin/sh")
        .args(["-c", "while :; do :; done", "<b>busy</b>"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = busy.id().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let serving = serving();
    let host = Host { proc: "/proc".into(), groups: "/sys/fs/cgroup".into() };
    let server = tokio::spawn(serve(host, listener, serving.clone()));
    let client = Client::new(Names::default(), Trust::System);
    let get = async |path: &str, accept: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static(accept));
        client.get(&format!("{base}{path}").parse().unwrap(), headers, 64 << 20, Duration::from_secs(30)).await.unwrap()
    };
    let answer = get("/topz", "*/*").await;
    assert_eq!(
        (answer.status(), &answer.headers()["content-type"]),
        (StatusCode::OK, &HeaderValue::from_static("application/json"))
    );
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!((&body["kind"], &body["apiVersion"]), (&"ProcessList".into(), &"v1".into()));
    let items = body["items"].as_array().unwrap();
    let seen = items.iter().find(|item| item["pid"] == pid).expect("the process is seen");
    assert_eq!(seen["command"], "/bin/sh -c while :; do :; done <b>busy</b>");
    assert_eq!(seen["parentPid"], std::process::id());
    assert!(seen["cpuPercent"].as_f64().unwrap() > 0.0, "{seen}");
    assert!(seen["residentBytes"].as_u64().unwrap() > 100_000, "{seen}");
    assert!(body["machine"]["memoryBytes"].as_u64().unwrap() > 0);

    let page = get("/topz?sort=memory", "text/html,*/*").await;
    let text = String::from_utf8(page.body().to_vec()).unwrap();
    assert!(
        text.contains("&lt;b&gt;busy&lt;/b&gt;") && !text.contains("<b>busy"),
        "a command line is shown, not obeyed"
    );
    let sorted = get("/api/v1/topz?sort=pid&format=json", "text/html").await;
    let body: Value = serde_json::from_slice(sorted.body()).unwrap();
    let pids: Vec<i64> = body["items"].as_array().unwrap().iter().map(|item| item["pid"].as_i64().unwrap()).collect();
    assert!(pids.is_sorted() && !pids.is_empty());
    assert_eq!(get("/topz?sort=x", "*/*").await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(get("/", "*/*").await.status(), StatusCode::NOT_FOUND);
    let post = Request::post(format!("{base}/topz")).body(Bytes::new()).unwrap();
    assert_eq!(
        client.send(post, 1 << 20, Duration::from_secs(30)).await.unwrap().status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    busy.kill().await.unwrap();
    serving.stopping().cancel();
    tokio::time::timeout(Duration::from_secs(30), server).await.unwrap().unwrap();
}
