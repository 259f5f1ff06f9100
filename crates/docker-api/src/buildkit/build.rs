//! `POST /build?version=2`: what Docker's client 18.09 to 20.10 asks for with `DOCKER_BUILDKIT=1`. It has a session, and
//! progress comes back in the stream of messages.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::buildkit::Request;
use base64::Engine as _;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::of;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Response, empty, json_stream};
use crate::images::document;

/// How long a build waits for the archive that is to come in a request of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// Contexts that came in requests of their own, by the build they are for.
pub(crate) struct Uploads {
    waiting: Mutex<HashMap<String, tempfile::TempPath>>,
    changed: watch::Sender<()>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { waiting: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Uploads {
    fn put(&self, build: &str, archive: tempfile::TempPath) {
        self.waiting.lock().insert(build.to_owned(), archive);
        self.changed.send_replace(());
    }

    async fn take(&self, build: &str) -> Result<tempfile::TempPath> {
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                if let Some(archive) = self.waiting.lock().remove(build) {
                    return archive;
                }
                // The sender lives as long as this table.
                let _ = changed.changed().await;
            }
        };
        let missing = |_| ApiError::bad("the build's context was never sent");
        tokio::time::timeout(PATIENCE, found).await.map_err(missing)
    }
}

/// An exporter, as the query has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    r#type: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// One limit, as the query has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ulimit {
    name: String,
    #[serde(default)]
    soft: i64,
    #[serde(default)]
    hard: i64,
}

/// Builds for a client whose session is open. A client that leaves ends the build.
pub(crate) async fn build(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let buildkit = of(&daemon)?;
    let id = call.query("buildid").unwrap_or_default().to_owned();
    if let Some(build) = id.strip_prefix("upload-request:") {
        let archive = call.spool(&daemon.scratch()).await?;
        daemon.uploads.put(build, archive.into_temp_path());
        return Ok(empty(http::StatusCode::OK));
    }
    let session = call.query("session").ok_or_else(|| ApiError::bad("a build with BuildKit has a session"))?.to_owned();
    let build = if id.is_empty() { crate::containers::random_id() } else { id.clone() };
    let archive = match call.query("remote") {
        Some("upload-request") => Some(daemon.uploads.take(&build).await?),
        _ => None,
    };
    let mut request = Request {
        build: build.clone(),
        session,
        attributes: attributes(&call)?,
        exports: exports(&call)?,
        archive: archive.as_ref().map(|archive| PathBuf::from(&**archive)),
    };
    request.attributes.retain(|_, value| value != "null");
    let quiet = call.flag("q");
    let (sender, mut receiver) = mpsc::channel::<Value>(64);
    let work = buildkit.clone();
    tokio::spawn(async move {
        let progress = async {
            let Ok(mut progress) = buildkit.progress(&build).await else { return };
            while let Some(report) = progress.next().await {
                let aux = base64::engine::general_purpose::STANDARD.encode(&report.0);
                if sender.send(json!({"id": "moby.buildkit.trace", "aux": aux})).await.is_err() {
                    return;
                }
            }
        };
        let building = async { tokio::join!(work.build(request), progress).0 };
        let result = tokio::select! {
            result = building => result,
            () = sender.closed() => return,
        };
        drop(archive);
        let last = match result {
            Ok(results) => last_words(results.get("containerimage.config.digest"), quiet),
            Err(status) => vec![json!({"errorDetail": {"message": status.message}, "error": status.message})],
        };
        for message in last {
            let _ = sender.send(message).await;
        }
    });
    Ok(json_stream(futures::stream::poll_fn(move |context| receiver.poll_recv(context))))
}

/// The image's id for programs, and for people who want nothing else.
fn last_words(image: Option<&String>, quiet: bool) -> Vec<Value> {
    let Some(image) = image else { return Vec::new() };
    let id = json!({"id": "moby.image.id", "aux": {"ID": image}});
    let shown = quiet.then(|| json!({"stream": format!("{image}\n")}));
    [id].into_iter().chain(shown).collect()
}

/// What the query says, as the frontend takes it.
fn attributes(call: &Call) -> Result<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            attributes.insert(key.to_owned(), value);
        }
    };
    let text = |name: &str| call.query(name).map(str::to_owned);
    set("target", text("target"));
    set("filename", text("dockerfile").filter(|path| path != "."));
    let remote = |remote: &String| !matches!(remote.as_str(), "client-session" | "upload-request");
    set("context", text("remote").filter(remote));
    set("no-cache", call.flag("nocache").then(String::new));
    set("image-resolve-mode", Some(if call.flag("pull") { "pull" } else { "local" }.into()));
    set("platform", text("platform"));
    set("shm-size", text("shmsize").filter(|size| size != "0"));
    match call.query("networkmode").unwrap_or_default() {
        "" | "default" => {}
        mode @ ("host" | "none") => set("force-network-mode", Some(mode.to_owned())),
        mode => return Err(ApiError::bad(format!("network mode {mode:?} not supported by buildkit"))),
    }
    let hosts: Vec<String> = call
        .all("extrahosts")
        .filter_map(|line| line.split_once([':', '=']))
        .map(|(name, address)| format!("{name}={address}"))
        .collect();
    set("add-hosts", Some(hosts.join(",")).filter(|hosts| !hosts.is_empty()));
    let limits: Vec<Ulimit> = document(call, "ulimits")?;
    let limits: Vec<String> =
        limits.iter().map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard)).collect();
    set("ulimit", Some(limits.join(",")).filter(|limits| !limits.is_empty()));
    let cache: Vec<String> = document(call, "cachefrom")?;
    set("cache-from", Some(cache.join(",")).filter(|cache| !cache.is_empty()));
    let args: BTreeMap<String, Option<String>> = document(call, "buildargs")?;
    let labels: BTreeMap<String, String> = document(call, "labels")?;
    // A name without a value takes that of the builder's environment, which is empty.
    attributes.extend(args.into_iter().filter_map(|(name, value)| Some((format!("build-arg:{name}"), value?))));
    attributes.extend(labels.into_iter().map(|(name, value)| (format!("label:{name}"), value)));
    Ok(attributes)
}

/// What becomes of the result: an image with the query's names, unless it says otherwise.
fn exports(call: &Call) -> Result<Vec<(String, BTreeMap<String, String>)>> {
    let outputs: Vec<Output> = document(call, "outputs")?;
    let names: Vec<&str> = call.all("t").filter(|name| !name.is_empty()).collect();
    let named = |mut attributes: BTreeMap<String, String>| {
        if !names.is_empty() {
            attributes.insert("name".into(), names.join(","));
        }
        attributes
    };
    if outputs.is_empty() {
        return Ok(vec![("moby".into(), named(BTreeMap::new()))]);
    }
    let image = |kind: &str| matches!(kind, "moby" | "image" | "docker" | "oci");
    let export = |output: Output| {
        let attributes = if image(&output.r#type) { named(output.attrs) } else { output.attrs };
        (output.r#type, attributes)
    };
    Ok(outputs.into_iter().map(export).collect())
}
