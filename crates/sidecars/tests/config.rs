//! Configuration files follow their source, and an application hears of it.

use std::{path::Path, time::Duration};

use clap::Parser;
use http::StatusCode;
use http_ends::{Client, Names, Trust};
use sidecars::config_sync::{Api, ApiError, Arguments, SyncError, run};
use tokio::sync::mpsc;

use crate::{git_server::GitServer, git_sync::serving};

const LONG: Duration = Duration::from_secs(30);

fn arguments(told: &[&str]) -> Arguments {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: Arguments,
    }
    Cli::parse_from(["config"].iter().chain(told)).arguments
}

async fn once(told: &[&str]) -> Result<(), SyncError> {
    let told = [told, &["--one-time"]].concat();
    tokio::time::timeout(LONG, run(arguments(&told), serving())).await.expect("one look ends")
}

/// As the kubelet mounts a ConfigMap: links through `..data` to a directory of one version.
fn mount(directory: &Path, version: &str, files: &[(&str, &str)]) {
    std::fs::create_dir(directory.join(version)).unwrap();
    for (name, text) in files {
        std::fs::write(directory.join(version).join(name), text).unwrap();
        let _ = std::os::unix::fs::symlink(format!("..data/{name}"), directory.join(name));
    }
    std::os::unix::fs::symlink(version, directory.join("..data_tmp")).unwrap();
    std::fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_and_a_process_gets_its_signal() {
    let source = tempfile::tempdir().unwrap();
    mount(source.path(), "..1", &[("a.yaml", "x: 1\n"), ("b.yaml", "y: 1\n")]);
    let place = tempfile::tempdir().unwrap();
    let (target, seen, pid) = (place.path().join("etc"), place.path().join("seen"), place.path().join("app.pid"));
    // An application that tells of each HUP what it read then.
    let script = format!(
        "trap 'cat {0}/a.yaml > {1}.new; mv {1}.new {1}' HUP; echo $$ > {2}; while :; do sleep 0.05; done",
        target.display(),
        seen.display(),
        pid.display()
    );
    let mut application =
        tokio::process::Command::new("/bin/sh").args(["-c", &script]).kill_on_drop(true).spawn().unwrap();
    wait_for(|| std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))).await;
    let serving = serving();
    let (from, notice) = (format!("dir:{}", source.path().display()), format!("signal:HUP@pidfile:{}", pid.display()));
    let told =
        ["--source", &from, "--target", target.to_str().unwrap(), "--update-frequency", "3600", "--notify", &notice];
    let following = tokio::spawn(run(arguments(&told), serving.clone()));
    wait_for(|| std::fs::read_to_string(&seen).is_ok_and(|text| text == "x: 1\n")).await;
    assert_eq!(std::fs::read_to_string(target.join("b.yaml")).unwrap(), "y: 1\n");

    // Nobody asks for an hour: the change is seen because the directory is watched. It is made anew until then, because
    // the watch may begin a moment later than the application heard.
    let mut version = 2;
    wait_for(|| {
        if std::fs::read_to_string(&seen).is_ok_and(|text| text == "x: 2\n") {
            return true;
        }
        mount(source.path(), &format!("..{version}"), &[("a.yaml", "x: 2\n")]);
        let _ = std::fs::remove_file(source.path().join("b.yaml"));
        version += 1;
        false
    })
    .await;
    assert!(!target.join("b.yaml").exists(), "what the source has no more is gone");
    serving.stopping().cancel();
    tokio::time::timeout(LONG, following).await.unwrap().unwrap().unwrap();
    application.kill().await.unwrap();
}

/// Waits until something is so, looking again every few milliseconds.
async fn wait_for(mut so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LONG;
    while !so() {
        assert!(tokio::time::Instant::now() < deadline, "it did not come to pass");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_address_is_fetched_checked_and_told_of() {
    let (heard, mut hears) = mpsc::unbounded_channel();
    let text = std::sync::Arc::new(parking_lot::Mutex::new("{\"size\": 1}".to_owned()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let served = text.clone();
    let server = tokio::spawn(http_ends::serve(listener, Default::default(), move |request, _| {
        let (served, heard) = (served.clone(), heard.clone());
        async move {
            match request.uri().path() {
                "/config" => http_ends::answer(StatusCode::OK, "text/plain", served.lock().clone()),
                "/moved" => {
                    let mut moved = http_ends::answer(StatusCode::FOUND, "text/plain", "");
                    moved.headers_mut().insert("location", http::HeaderValue::from_static("/config"));
                    moved
                }
                "/changed" => {
                    heard.send(request.method().clone()).unwrap();
                    http_ends::answer(StatusCode::OK, "text/plain", "")
                }
                _ => http_ends::answer(StatusCode::NOT_FOUND, "text/plain", ""),
            }
        }
    }));
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("app.json");
    let (source, notice) = (format!("{base}/moved"), format!("{base}/changed"));
    let told = [
        "--source",
        &source,
        "--target",
        target.to_str().unwrap(),
        "--notify",
        &notice,
        "--validate-format",
        "json",
        "--validate-regex",
        "\"size\": [0-9]+",
        "--validate-command",
        "sh -c 'grep -q 13 {} && echo unlucky >&2 && exit 1 || exit 0'",
    ];
    once(&told).await.unwrap();
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "{\"size\": 1}");
    assert_eq!(hears.recv().await.unwrap(), http::Method::POST);
    once(&told).await.unwrap();
    assert!(hears.try_recv().is_err(), "nothing has changed, nobody is told");
    for (bad, reason) in [("{\"size\": ", "not JSON"), ("{}", "does not match"), ("{\"size\": 13}", "unlucky")] {
        bad.clone_into(&mut text.lock());
        let refused = once(&told).await.unwrap_err().to_string();
        assert!(refused.contains(reason) && refused.contains("the old one goes on"), "{refused}");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "{\"size\": 1}");
    }
    let gone = format!("{base}/gone");
    let missing = once(&["--source", &gone, "--target", target.to_str().unwrap()]).await.unwrap_err();
    assert!(missing.to_string().contains("404"), "{missing}");
    server.abort();
}

#[tokio::test]
async fn a_repositorys_directory_or_file_is_taken_and_no_link_leads_out_of_it() {
    let server = GitServer::start(None).await;
    std::os::unix::fs::symlink("/etc/passwd", server.path().join("secret")).unwrap();
    server.commit(&[("conf/a", "1"), ("conf/sub/b", "2"), ("other", "3")]);
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("etc");
    let source = format!("git+{}#main:conf", server.url());
    once(&["--source", &source, "--target", target.to_str().unwrap()]).await.unwrap();
    assert_eq!(std::fs::read_to_string(target.join("sub/b")).unwrap(), "2");
    assert!(!target.join("other").exists());
    let file = place.path().join("one");
    let source = format!("git+{}#main:other", server.url());
    once(&["--source", &source, "--target", file.to_str().unwrap()]).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "3");
    let source = format!("git+{}#main:secret", server.url());
    let refused = once(&["--source", &source, "--target", file.to_str().unwrap()]).await.unwrap_err();
    assert!(refused.to_string().contains("leads out"), "{refused}");
}

#[tokio::test]
async fn a_config_map_is_read_and_watched_by_the_kubernetes_api() {
    let (change, _) = tokio::sync::broadcast::channel::<()>(1);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let changes = change.clone();
    let server = tokio::spawn(http_ends::serve(listener, Default::default(), move |request, _| {
        let mut changes = changes.subscribe();
        async move {
            assert_eq!(request.headers()["authorization"], "Bearer token");
            let status = |code: StatusCode, message: &str| {
                http_ends::json(code, serde_json::json!({"kind": "Status", "message": message}).to_string())
            };
            match request.uri().to_string().as_str() {
                "/api/v1/namespaces/web/configmaps/app" => http_ends::json(
                    StatusCode::OK,
                    r#"{"kind":"ConfigMap","data":{"a.yaml":"x: 1\n"},"binaryData":{"b":"AP8="}}"#,
                ),
                "/api/v1/namespaces/web/configmaps?watch=1&fieldSelector=metadata.name%3Dapp&timeoutSeconds=300" => {
                    // What is there, and, once the test says so, a change: the body comes whole here.
                    changes.recv().await.unwrap();
                    http_ends::json(StatusCode::OK, "{\"type\":\"ADDED\"}\n{\"type\":\"MODIFIED\"}\n")
                }
                path if path.contains("watch=1") => status(StatusCode::FORBIDDEN, "no watching"),
                _ => status(StatusCode::NOT_FOUND, "configmaps \"other\" not found"),
            }
        }
    }));
    let api = Api::at(Client::new(Names::default(), Trust::System), base, "token", "web").unwrap();
    let files = api.config_map(None, "app", LONG).await.unwrap();
    assert_eq!(files["a.yaml"], b"x: 1\n");
    assert_eq!(files["b"], [0, 255]);
    let missing = api.config_map(None, "other", LONG).await.unwrap_err();
    assert!(matches!(missing, ApiError::Status(404, _, _)) && missing.to_string().contains("not found"), "{missing}");
    assert!(matches!(api.changed(Some("db"), "app").await, Err(ApiError::Status(403, ..))));
    let mut changed = tokio::spawn(async move { api.changed(None, "app").await });
    let deadline = tokio::time::Instant::now() + LONG;
    // Sent until the watch that listens for it is there.
    loop {
        let _ = change.send(());
        if let Ok(ended) = tokio::time::timeout(Duration::from_millis(20), &mut changed).await {
            ended.unwrap().unwrap();
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the watch tells of the change");
    }
    server.abort();
}
