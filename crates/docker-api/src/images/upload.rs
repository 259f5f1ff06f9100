//! Blobs on their way to a registry: those that it has are not sent, and those that it has under another name are mounted
//! (the distribution specification's "mounting a blob from another repository", with `from` and without).

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::content::{Content, Digest, Reference, causes};
use futures::StreamExt;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use oci_client::RegistryOperation;
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use reqwest::{RequestBuilder, Response, Url};
use tokio::sync::Mutex;
use tokio_util::io::ReaderStream;

use super::layers::layers;
use super::registry::{PATIENCE, Registry};
use crate::error::{ApiError, Result};

/// Tokens of registries live a minute at least (the token specification's default).
const TOKEN_LIFE: Duration = Duration::from_secs(45);
/// Read from the disk and given to the connection at a time.
const PIECE: usize = 1 << 19;

/// A push to one repository.
pub(crate) struct Uploads<'a> {
    registry: &'a Registry,
    name: &'a Reference,
    /// The name as the registry's client has it.
    pub there: oci_client::Reference,
    http: reqwest::Client,
    base: Url,
    token: Mutex<(Instant, Option<String>)>,
}

/// What became of a blob.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was there.
    Present,
    /// It was there under another name.
    Mounted(String),
    /// All its bytes were sent.
    Whole,
}

impl<'a> Uploads<'a> {
    /// Begins a push: logs in.
    pub async fn open(registry: &'a Registry, name: &'a Reference) -> Result<Self> {
        let there = registry.reference(name)?;
        let token = login(registry, name, &there).await?;
        registry.connection.client.store_auth_if_needed(there.resolve_registry(), &registry.auth).await;
        let base = format!(
            "{}://{}/v2/{}/blobs/uploads/",
            registry.connection.scheme,
            there.resolve_registry(),
            there.repository()
        );
        let base = Url::parse(&base).map_err(|error| ApiError::bad(format!("{base}: {error}")))?;
        let http = registry.connection.uploads().map_err(|error| ApiError::internal(causes(&error)))?;
        Ok(Self { registry, name, there, http, base, token: Mutex::new((Instant::now(), token)) })
    }

    /// Sends a blob unless the registry has it, in this repository or in another, `from` by preference.
    pub async fn blob(&self, digest: &str, path: PathBuf, size: u64, from: Option<&str>) -> Result<Sent> {
        let client = &self.registry.connection.client;
        if self.registry.in_time(client.blob_exists(&self.there, digest)).await?.unwrap_or(false) {
            return Ok(Sent::Present);
        }
        let mut target = self.base.clone();
        {
            let mut query = target.query_pairs_mut();
            query.append_pair("mount", digest);
            if let Some(from) = from {
                query.append_pair("from", from);
            }
        }
        let mut answer = self.begin(target).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(from.map_or(Sent::Present, |from| Sent::Mounted(from.to_owned())));
        }
        if answer.status() != StatusCode::ACCEPTED {
            // A registry that knows no mounts, or wants another login for them, may still take the bytes.
            answer = self.begin(self.base.clone()).await?;
        }
        if answer.status() != StatusCode::ACCEPTED {
            return Err(self.refused(answer).await);
        }
        self.send(self.location(&answer)?, digest, path, size).await?;
        Ok(Sent::Whole)
    }

    async fn begin(&self, target: Url) -> Result<Response> {
        let request = self.authorized(self.http.post(target.clone()), &target).await?.header(CONTENT_LENGTH, 0);
        let sent = self.registry.in_time(request.send()).await?;
        sent.map_err(|error| ApiError::internal(self.registry.connection.explain(&error)))
    }

    /// Where an upload goes on.
    fn location(&self, answer: &Response) -> Result<Url> {
        let said = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let said =
            said.ok_or_else(|| ApiError::internal(format!("{}: an upload without a location", self.registry.host)))?;
        self.base.join(said).map_err(|error| ApiError::internal(format!("{said}: {error}")))
    }

    /// All bytes in one request: registries pay for each part with a write to the disk.
    async fn send(&self, mut target: Url, digest: &str, path: PathBuf, size: u64) -> Result<()> {
        target.query_pairs_mut().append_pair("digest", digest);
        let file = tokio::fs::File::open(&path).await?;
        let taken = Arc::new(AtomicU64::new(0));
        let count = taken.clone();
        let stream = ReaderStream::with_capacity(file, PIECE).inspect(move |_: &io::Result<_>| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let request = self
            .authorized(self.http.put(target.clone()), &target)
            .await?
            .header(CONTENT_LENGTH, size)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(reqwest::Body::wrap_stream(stream));
        let answer = tokio::select! {
            answer = request.send() => answer.map_err(|error| ApiError::internal(causes(&error)))?,
            () = stalled(&taken) => {
                return Err(ApiError::internal(format!("{}: the registry takes nothing any more", self.registry.host)));
            }
        };
        if answer.status() == StatusCode::CREATED { Ok(()) } else { Err(self.refused(answer).await) }
    }

    /// A request with the user's credentials, which are for the registry alone, and not in the clear where it speaks TLS.
    async fn authorized(&self, request: RequestBuilder, target: &Url) -> Result<RequestBuilder> {
        let place =
            |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
        if place(target) != place(&self.base) {
            return Ok(request);
        }
        let mut token = self.token.lock().await;
        if token.1.is_some() && token.0.elapsed() > TOKEN_LIFE {
            *token = (Instant::now(), login(self.registry, self.name, &self.there).await?);
        }
        Ok(match (&token.1, &self.registry.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(username, password)) => request.basic_auth(username, Some(password)),
            (None, _) => request,
        })
    }

    async fn refused(&self, answer: Response) -> ApiError {
        let (url, code) = (answer.url().to_string(), answer.status().as_u16());
        let message = answer.text().await.unwrap_or_default();
        self.registry.failure(self.name, &OciDistributionError::ServerError { code, url, message })
    }
}

/// Asks for leave to push; a token, where the registry works with them.
async fn login(registry: &Registry, name: &Reference, there: &oci_client::Reference) -> Result<Option<String>> {
    let asked = registry.connection.client.auth(there, &registry.auth, RegistryOperation::Push);
    registry.in_time(asked).await?.map_err(|error| registry.failure(name, &error))
}

/// In which other repositories of a registry the layers of the images that came from there, or went there, are.
pub(super) fn elsewhere(content: &Content, name: &Reference) -> HashMap<Digest, String> {
    let mut known = HashMap::new();
    for image in content.images().unwrap_or_default() {
        let mut names = image.digests.iter().filter_map(|text| Reference::parse(text).ok());
        let other = names.find(|other| other.registry == name.registry && other.repository != name.repository);
        let Some(other) = other else { continue };
        for layer in layers(content, &image) {
            if let Some(digest) = layer.parsed() {
                known.entry(digest).or_insert_with(|| other.repository.clone());
            }
        }
    }
    known
}

/// Ends when a count does not change for as long as a registry may be silent.
async fn stalled(count: &AtomicU64) {
    let mut last = count.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(PATIENCE).await;
        let now = count.load(Ordering::Relaxed);
        if now == last {
            return;
        }
        last = now;
    }
}
