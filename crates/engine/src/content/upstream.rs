//! Fetching from another registry on behalf of clients: manifests as they are (no choice of a platform), and
//! blobs that can be read while they arrive.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    Content, ContentError, Credentials, Digest, PullOptions, Reference, manifest,
    pull::{Download, Source},
};

/// Another registry. Cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

struct Inner {
    content: Content,
    registry: String,
    options: PullOptions,
    /// Connections that worked, by repository.
    sources: Mutex<HashMap<String, Arc<Source>>>,
    /// Blobs under way: everybody who wants one follows the same download.
    arriving: Mutex<HashMap<Digest, Weak<watch::Sender<Progress>>>>,
}

/// More repositories than anybody pulls from at a time.
const MAX_SOURCES: usize = 256;

/// A manifest of the upstream registry.
pub struct Fetched {
    /// As it came.
    pub bytes: Vec<u8>,
    /// Of the bytes.
    pub digest: Digest,
    /// Its own or, where it has none, the one that its shape tells.
    pub media_type: String,
}

/// How far a blob is.
#[derive(Clone, Default)]
pub struct Progress {
    /// Where it arrives; it may be read up to `length`. None until the download begins.
    pub file: Option<Arc<File>>,
    /// Bytes so far.
    pub length: u64,
    /// How it ended, once it has. The bytes are verified only then.
    pub ended: Option<Result<(), Arc<ContentError>>>,
}

/// A blob that arrives.
pub struct Arriving {
    /// In bytes.
    pub size: u64,
    /// Changes with every piece. The download goes on if nobody follows.
    pub progress: watch::Receiver<Progress>,
}

impl Upstream {
    /// The registry `registry` (`docker.io`, `host[:port]`), whose content goes into `content`.
    pub fn new(content: Content, registry: &str, options: PullOptions) -> Self {
        let registry = registry.to_owned();
        let inner = Inner { content, registry, options, sources: Mutex::default(), arriving: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The digest that a tag stands for there.
    ///
    /// # Errors
    /// As [`Content::pull`].
    pub async fn current(&self, repository: &str, tag: &str) -> Result<Digest, ContentError> {
        let source = self.source(repository).await?;
        let result = source.current(tag).await;
        self.keep(repository, result)
    }

    /// A manifest or an index.
    ///
    /// # Errors
    /// As [`Content::pull`].
    pub async fn manifest(&self, repository: &str, digest: &Digest) -> Result<Fetched, ContentError> {
        let source = self.source(repository).await?;
        let (bytes, digest) = self.keep(repository, source.manifest(Some(digest)).await)?;
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let shape: Shape =
            serde_json::from_slice(&bytes).map_err(|e| ContentError::Invalid(format!("manifest: {e}")))?;
        let guess = if shape.manifests.is_some() { manifest::OCI_INDEX } else { manifest::OCI_MANIFEST };
        Ok(Fetched { media_type: shape.media_type.unwrap_or_else(|| guess.to_owned()), bytes, digest })
    }

    /// How long a blob is.
    ///
    /// # Errors
    /// As [`Content::pull`].
    pub async fn size(&self, repository: &str, blob: &Digest) -> Result<u64, ContentError> {
        let source = self.source(repository).await?;
        let result = source.size(blob).await;
        self.keep(repository, result)
    }

    /// Begins to fetch a blob of `size` bytes, or joins those who have. `arrived` is called once it is a blob
    /// of the store, before any collection can take place.
    ///
    /// # Errors
    /// As [`Content::pull`], if it can't begin.
    pub async fn blob(
        &self,
        repository: &str,
        blob: &Digest,
        size: u64,
        arrived: impl FnOnce() -> Result<(), ContentError> + Send + 'static,
    ) -> Result<Arriving, ContentError> {
        let source = self.source(repository).await?;
        let progress = {
            let mut arriving = self.inner.arriving.lock();
            arriving.retain(|_, sender| sender.strong_count() > 0);
            if let Some(sender) = arriving.get(blob).and_then(Weak::upgrade) {
                return Ok(Arriving { size, progress: sender.subscribe() });
            }
            let (sender, progress) = watch::channel(Progress::default());
            let sender = Arc::new(sender);
            arriving.insert(blob.clone(), Arc::downgrade(&sender));
            let (this, repository, blob) = (self.clone(), repository.to_owned(), blob.clone());
            tokio::spawn(async move {
                let result = this.fetch(&source, &blob, size, &sender, arrived).await;
                let result = this.keep(&repository, result).map_err(Arc::new);
                sender.send_modify(|p| p.ended = Some(result));
            });
            progress
        };
        Ok(Arriving { size, progress })
    }

    async fn fetch(
        &self,
        source: &Source,
        blob: &Digest,
        size: u64,
        sender: &watch::Sender<Progress>,
        arrived: impl FnOnce() -> Result<(), ContentError> + Send + 'static,
    ) -> Result<(), ContentError> {
        let content = &self.inner.content;
        let adding = content.blocking(|c| c.adding()).await?;
        let watch = |ingest: &super::blobs::Ingest| {
            sender.send_modify(|p| {
                p.length = ingest.length();
                if p.file.is_none() {
                    p.file = ingest.reader().ok().map(Arc::new);
                }
            });
        };
        content.fetch_watched(source, blob, size, Download::Mirror, &watch).await?;
        let (path, expected) = (content.blob_path(blob), blob.clone());
        let file = content
            .blocking(move |content| {
                let file = File::open(&path).map_err(|e| ContentError::io("open", &path, e))?;
                if content.blob_size(&expected) != Some(size) {
                    return Err(ContentError::Invalid(format!("blob {expected} is not {size} bytes long")));
                }
                arrived()?;
                drop(adding);
                Ok(file)
            })
            .await?;
        sender.send_modify(|p| {
            p.file.get_or_insert_with(|| Arc::new(file));
            p.length = size;
        });
        Ok(())
    }

    async fn source(&self, repository: &str) -> Result<Arc<Source>, ContentError> {
        if let Some(source) = self.inner.sources.lock().get(repository) {
            return Ok(source.clone());
        }
        // Docker Hub's official images are all below one name, which people leave out.
        let full = match self.inner.registry.as_str() {
            "docker.io" if !repository.contains('/') => format!("library/{repository}"),
            _ => repository.to_owned(),
        };
        let reference = Reference {
            registry: self.inner.registry.clone(),
            repository: full,
            tag: Some("latest".into()),
            digest: None,
        };
        let mut denied = None;
        for credentials in self.inner.options.credentials.iter().chain([&Credentials::Anonymous]) {
            match Source::connect(&reference, &reference.registry, credentials, &self.inner.options).await {
                Ok(source) => {
                    let source = Arc::new(source);
                    let mut sources = self.inner.sources.lock();
                    if sources.len() >= MAX_SOURCES {
                        sources.clear();
                    }
                    sources.insert(repository.to_owned(), source.clone());
                    return Ok(source);
                }
                Err(error @ ContentError::Denied { .. }) => {
                    denied.get_or_insert(error);
                }
                Err(other) => return Err(other),
            }
        }
        Err(denied.expect("at least the anonymous try was denied"))
    }

    /// Logs in anew next time if this time the login was refused, for instance because it was too old.
    fn keep<T>(&self, repository: &str, result: Result<T, ContentError>) -> Result<T, ContentError> {
        if matches!(result, Err(ContentError::Denied { .. })) {
            self.inner.sources.lock().remove(repository);
        }
        result
    }
}
