//! `POST /images/create`: pull, or import a root file system.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use engine::content::{PullOptions, Reference};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::compose::{self, LayerFile, Story};
use super::names::{is_named, keep_nameless};
use super::{instructions, registry, target_name};
use crate::containers::decompressed;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, json as json_answer, json_stream};
use crate::system::AuthConfig;

/// The largest archive that is fetched, in bytes.
const MAX_DOWNLOAD: u64 = 64 << 30;
/// The largest answer of Docker Hub's index, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// Pulls or imports.
pub(crate) async fn create(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    match (call.query("fromImage").is_some(), call.query("fromSrc").is_some()) {
        (true, _) => pull(daemon, call).await,
        (false, true) => import(daemon, call).await,
        _ => Err(ApiError::bad("either fromImage or fromSrc must be given")),
    }
}

/// Asks Docker Hub's index.
pub(crate) async fn search(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let (term, limit) = (call.query("term").unwrap_or_default(), call.number("limit")?.unwrap_or(25_u8));
    if term.is_empty() {
        return Err(ApiError::bad("invalid search term: it is empty"));
    }
    let filters = call.filters()?;
    filters.expect(&["is-automated", "is-official", "stars"])?;
    let query: String = form_urlencoded::Serializer::new(String::new())
        .append_pair("q", term)
        .append_pair("n", &limit.to_string())
        .finish();
    let file = tempfile::NamedTempFile::new_in(daemon.scratch())?;
    let url = format!("https://index.docker.io/v1/search?{query}");
    let fetched = builder::download(&url, file.path(), MAX_ANSWER).await;
    fetched.map_err(|reason| ApiError::internal(format!("Get {url:?}: {reason}")))?;
    let answer: Value = serde_json::from_slice(&tokio::fs::read(file.path()).await?)?;
    let official = filters.flag("is-official")?;
    let stars: i64 = filters.values("stars").first().and_then(|text| text.parse().ok()).unwrap_or(0);
    let fits = |result: &&Value| {
        official.is_none_or(|wanted| result["is_official"].as_bool() == Some(wanted))
            && result["star_count"].as_i64().unwrap_or(0) >= stars
    };
    let found: Vec<&Value> = answer["results"].as_array().into_iter().flatten().filter(fits).collect();
    Ok(json_answer(&found))
}

async fn pull(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let (name, tag) = (call.query("fromImage").unwrap_or_default(), call.query("tag"));
    let text = match tag {
        Some(digest) if digest.starts_with("sha256:") => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    };
    let reference = Reference::parse(&text)?;
    if let Some(platform) = call.query("platform") {
        let Platform { os, architecture } = Platform::parse(platform)?;
        if os != "linux" || architecture != crate::system::architecture() {
            return Err(ApiError::not_found(format!(
                "no matching manifest for {platform} in the manifest list entries"
            )));
        }
    }
    let (sender, mut receiver) = mpsc::unbounded_channel::<Value>();
    let said = sender.clone();
    let mut options = PullOptions { progress: None, ..daemon.config.registries.clone() };
    if let Some(config) = AuthConfig::of(&call) {
        options.credentials = registry::credentials(&config);
    }
    let label = reference
        .tag
        .clone()
        .or_else(|| reference.digest.as_ref().map(|digest| digest.to_string()))
        .unwrap_or_default();
    let repository = &reference.repository;
    let head = json!({"status": format!("Pulling from {repository}"), "id": label});
    let mut first = Some(head);
    options.progress = Some(Arc::new({
        let first = parking_lot::Mutex::new(first.take());
        move |text: &str| {
            if let Some(head) = first.lock().take() {
                let _ = said.send(head);
            }
            // `DIGITS: what happened`; anything else is for logs.
            if let Some((id, what)) = text.split_once(": ").filter(|(id, _)| id.len() == 12) {
                let what = what[..1].to_uppercase() + &what[1..];
                let _ = said.send(json!({"status": what, "progressDetail": {}, "id": id}));
            }
        }
    }));
    let at = daemon.clone();
    let (done, result) = tokio::sync::oneshot::channel();
    let fetching = tokio::spawn(async move { fetch(&at, &reference, &options).await });
    tokio::spawn(async move {
        let outcome = fetching.await.unwrap_or_else(|panic| Err(ApiError::internal(format!("defect: {panic}"))));
        match &outcome {
            Ok(messages) => messages.iter().for_each(|message| drop(sender.send(message.clone()))),
            Err(error) => {
                let _ = sender.send(json!({"errorDetail": {"message": error.message}, "error": error.message}));
            }
        }
        let _ = done.send(outcome.err());
    });
    // A failure before anything was said is the answer itself.
    let Some(first) = receiver.recv().await else { return Err(ApiError::internal("the pull ended without a word")) };
    if first.get("error").is_some()
        && let Ok(Some(error)) = result.await
    {
        return Err(error);
    }
    let rest = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    Ok(json_stream(futures::StreamExt::chain(futures::stream::iter([first]), rest)))
}

async fn fetch(daemon: &Daemon, reference: &Reference, options: &PullOptions) -> Result<Vec<Value>> {
    let content = daemon.config.content.clone();
    let before = content.image(&reference.to_string()).ok();
    if before.is_some() && reference.digest.is_none() {
        keep_nameless(&content, reference)?;
    }
    let pulled = content.pull(&reference.to_string(), options).await;
    if let Some(before) = &before {
        is_named(&content, before.id.as_str());
    }
    let image = pulled?;
    let fresh = before.is_none_or(|before| before.id != image.id);
    let name = reference.familiar();
    let attributes = BTreeMap::from([("name".into(), name.clone())]);
    daemon.events.emit("image", "pull", &name, attributes);
    let outcome = if fresh { "Downloaded newer image for" } else { "Image is up to date for" };
    Ok(vec![
        json!({"status": format!("Digest: {}", image.manifest)}),
        json!({"status": format!("Status: {outcome} {name}")}),
    ])
}

async fn import(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let source = call.query("fromSrc").unwrap_or_default().to_owned();
    let name = target_name(call.query("repo"), call.query("tag"))?;
    let changes: Vec<String> = call.all("changes").flat_map(|text| text.split('\n')).map(str::to_owned).collect();
    let comment = call
        .query("message")
        .filter(|text| !text.is_empty())
        .map_or_else(|| format!("Imported from {source}"), str::to_owned);
    let platform = match call.query("platform") {
        Some(text) => Platform::parse(text)?,
        None => Platform { os: "linux".into(), architecture: crate::system::architecture().into() },
    };
    if platform.os != "linux" {
        return Err(ApiError::bad("operating system is not supported"));
    }
    let given = match source.as_str() {
        // What a client sends is most likely the layer as it will be.
        "-" => call.pour(LayerFile::new(&daemon.scratch())?).await?,
        _ => {
            let file = download(&daemon, &source).await?;
            let scratch = daemon.scratch();
            blocking(move || {
                let mut layer = LayerFile::new(&scratch)?;
                io::copy(&mut file.reopen()?, &mut layer)?;
                Ok(layer)
            })
            .await?
        }
    };
    let image = blocking(move || {
        let layer = match is_plain(&given.reopen()?)? {
            true => given.finish()?,
            false => {
                let mut layer = LayerFile::new(&daemon.scratch())?;
                io::copy(&mut decompressed(io::BufReader::new(given.reopen()?))?, &mut layer)?;
                layer.finish()?
            }
        };
        let mut config = json!({});
        instructions::apply(&mut config, &changes)?;
        let story = Story { comment: Some(comment), architecture: Some(platform.architecture), ..Story::default() };
        let image = compose::derive(&daemon, None, Some(layer), config, story, name)?;
        let attributes = BTreeMap::from([("name".into(), image.tags.first().cloned().unwrap_or_default())]);
        daemon.events.emit("image", "import", image.id.as_str(), attributes);
        Ok(image)
    })
    .await?;
    Ok(json_stream(futures::stream::iter([json!({"status": image.id.as_str()})])))
}

/// `linux/amd64`, as far as it matters here.
pub(super) struct Platform {
    os: String,
    architecture: String,
}

impl Platform {
    /// The text of a platform as it came, if it is one.
    pub(super) fn checked(text: &str) -> Result<String> {
        Self::parse(text).map(|_| text.to_owned())
    }

    /// In the words of containerd's `platforms`, which dockerd uses.
    fn parse(text: &str) -> Result<Self> {
        let own = || crate::system::architecture().to_owned();
        let legal =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
        if let Some(wrong) = parts.iter().find(|part| !legal(part)) {
            return Err(ApiError::bad(format!("{wrong:?} is an invalid OS component of {text:?}: invalid argument")));
        }
        const SYSTEMS: [&str; 12] = [
            "aix",
            "android",
            "darwin",
            "dragonfly",
            "freebsd",
            "illumos",
            "ios",
            "linux",
            "netbsd",
            "openbsd",
            "solaris",
            "windows",
        ];
        const ARCHITECTURES: [&str; 12] = [
            "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "ppc64le", "riscv64", "s390x",
            "wasm",
        ];
        let system = |text: &str| if text == "macos" { "darwin".to_owned() } else { text.to_owned() };
        let architecture = |text: &str| engine::content::go_name(text).to_owned();
        match &parts[..] {
            [one] if SYSTEMS.contains(&system(one).as_str()) => Ok(Self { os: system(one), architecture: own() }),
            [one] if ARCHITECTURES.contains(&architecture(one).as_str()) => {
                Ok(Self { os: "linux".into(), architecture: architecture(one) })
            }
            [_] => Err(ApiError::bad(format!("{text:?}: unknown operating system or architecture: invalid argument"))),
            [os, second, ..] => Ok(Self { os: system(os), architecture: architecture(second) }),
            [] => Err(ApiError::bad("invalid platform")),
        }
    }
}

/// Whether a file is an archive as it is: the mark of tar is where it has to be.
fn is_plain(file: &std::fs::File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut mark = [0; 5];
    Ok(file.read_at(&mut mark, 257)? == 5 && mark == *b"ustar")
}

/// An archive from the network, for `docker import URL`.
async fn download(daemon: &Daemon, url: &str) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new_in(daemon.scratch())?;
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let fetched = builder::download(&url, file.path(), MAX_DOWNLOAD).await;
    fetched.map_err(|reason| ApiError::bad(format!("failed to download from {url}: {reason}")))?;
    Ok(file)
}
