//! `ADD` of a URL.

use std::path::Path;
use std::time::Duration;

use engine::content::is_loopback;
use futures::StreamExt;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use crate::error::Kind;

/// A file that was fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// `sha256:…`.
    pub digest: String,
    /// The name that the URL or the server gives it.
    pub name: Option<String>,
    /// When the server says that it changed, in seconds since 1970.
    pub modified: Option<i64>,
}

/// Fetches what a URL names into a file; proxies are those of the environment, but for what is on this machine.
///
/// # Errors
/// In words for a user: the server's refusal, a silence of a minute, more than `limit` bytes, or the disk's.
pub async fn download(url: &str, target: &Path, limit: u64) -> Result<(), String> {
    let fetched = fetch(url, target, limit).await;
    fetched.map(drop).map_err(|error| error.to_string().replace(&format!("ADD failed: {url}: "), ""))
}

/// Fetches into a file. Servers that fall silent for a minute, and more than `limit` bytes, are errors.
pub(crate) async fn fetch(url: &str, target: &Path, limit: u64) -> Result<Fetched, Kind> {
    let fail = |what: String| Kind::invalid(format!("ADD failed: {url}: {what}"));
    // Two may race for it; either choice is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client =
        reqwest::Client::builder().connect_timeout(Duration::from_secs(30)).read_timeout(Duration::from_secs(60));
    let address = reqwest::Url::parse(url).map_err(|e| fail(e.to_string()))?;
    if address.host_str().is_some_and(is_loopback) {
        // What is on this machine is not asked by way of a proxy.
        client = client.no_proxy();
    }
    let client = client.build().map_err(|e| fail(e.to_string()))?;
    // The name is that of the URL as given, whatever it is redirected to.
    let last = address.path().rsplit('/').next().unwrap_or_default().to_owned();
    let response = client.get(address).send().await.map_err(|e| fail(chain(&e)))?;
    if !response.status().is_success() {
        return Err(fail(format!("invalid response status {}", response.status().as_u16())));
    }
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let modified = header("last-modified").and_then(|text| {
        jiff::fmt::rfc2822::parse(&text.replace("GMT", "+0000")).ok().map(|time| time.timestamp().as_second())
    });
    let disposition = header("content-disposition").and_then(|text| {
        let (_, name) = text.split_once("filename=")?;
        Some(name.split(';').next()?.trim_matches(['"', ' ']).to_owned())
    });
    let name = [Some(last), disposition]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty() && !name.contains('/') && name != "." && name != "..");
    let write = |e: std::io::Error| Kind::io("write", target, e);
    let mut file = tokio::fs::File::create(target).await.map_err(write)?;
    let mut hasher = Sha256::new();
    let mut length = 0_u64;
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|e| fail(chain(&e)))?;
        length += chunk.len() as u64;
        if length > limit {
            return Err(fail(format!("more than {limit} bytes")));
        }
        hasher.update(&chunk);
        file.write_all(&chunk).await.map_err(write)?;
    }
    file.flush().await.map_err(write)?;
    Ok(Fetched { digest: format!("sha256:{}", hex::encode(hasher.finalize())), name, modified })
}

/// The last cause says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

/// Whether a source of `ADD` is fetched.
pub(crate) fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}
