//! Pulling from a registry: the manifest, then all blobs at once, each resumed where it broke off, verified
//! while it streams, and unpacked as soon as it is whole.

use std::{fs::File, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use oci_client::{
    RegistryOperation,
    client::BlobResponse,
    errors::{OciDistributionError, OciErrorCode},
    secrets::RegistryAuth,
};

use super::{
    Content, ContentError, Digest, Image, ImageConfig, Reference,
    blobs::Ingest,
    connection::Connection,
    follow::arrival,
    manifest::{self, Descriptor, Document, Manifest},
};

/// How often a blob that breaks off is taken up again before the pull fails.
const RESUMES: u32 = 5;
/// Blobs of one image under way at a time (containerd's default).
const PARALLEL: usize = 3;

/// Who asks.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user with a password or a token in its place.
    Basic {
        /// The user.
        username: String,
        /// Never printed.
        password: Secret,
    },
    /// A registry token.
    Token(Secret),
}

/// Text that does not show in logs.
#[derive(Clone, Default)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Is told something for a person to read.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// How to pull.
#[derive(Clone, Default)]
pub struct PullOptions {
    /// Tried in turn until the registry lets one in.
    pub credentials: Vec<Credentials>,
    /// Tried after those, for the registry they are of: `docker.io`, `host[:port]`.
    pub logins: Vec<(String, Credentials)>,
    /// `host[:port]`, or ranges of addresses, of registries whose certificates are not looked at and that may speak plain
    /// HTTP; loopback ones always may.
    pub insecure_registries: Vec<String>,
    /// Registries, as `http[s]://host[:port]/`, that are asked for images of Docker Hub before Docker Hub is, without
    /// credentials. What they don't have, or fail to give, comes from there.
    pub mirrors: Vec<String>,
    /// PEM certificates trusted beside the system's.
    pub extra_roots: Vec<Vec<u8>>,
    /// Told of every step, for a person to read.
    pub progress: Option<Say>,
}

impl Content {
    /// Pulls the image of that name for this machine's architecture. What is here already is not fetched.
    ///
    /// # Errors
    /// As the variants of [`ContentError`] say. What was fetched stays for the next try.
    pub async fn pull(&self, name: &str, options: &PullOptions) -> Result<Image, ContentError> {
        let reference = Reference::parse(name)?;
        let _alone = self.alone(format!("pull {reference}")).await;
        if let Some(image) = self.pull_built_in(&reference).await {
            return image;
        }
        let adding = self.blocking(|c| c.adding()).await?;
        let mirrors = options.mirrors.iter().filter(|_| reference.registry == "docker.io");
        for mirror in mirrors {
            let host = mirror.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
            let mut options = options.clone();
            if mirror.starts_with("http://") {
                options.insecure_registries.push(host.to_owned());
            }
            match self.pull_as(&reference, host, &Credentials::Anonymous, &options).await {
                // The same disk would refuse what Docker Hub sends.
                Err(error) if !matches!(error, ContentError::Io { .. }) => {
                    tracing::info!(mirror, %error, "asking Docker Hub instead of its mirror");
                }
                other => {
                    drop(adding);
                    return other;
                }
            }
        }
        let mut credentials = options.credentials.clone();
        let logins = options.logins.iter().filter(|(registry, _)| *registry == reference.registry);
        credentials.extend(logins.map(|(_, credentials)| credentials.clone()));
        if !credentials.iter().any(|c| matches!(c, Credentials::Anonymous)) {
            credentials.push(Credentials::Anonymous);
        }
        let mut denied = None;
        for one in &credentials {
            match self.pull_as(&reference, &reference.registry, one, options).await {
                Err(error @ ContentError::Denied { .. }) => {
                    denied.get_or_insert(error);
                }
                other => {
                    drop(adding);
                    return other;
                }
            }
        }
        Err(denied.expect("at least the anonymous try was denied"))
    }

    async fn pull_as(
        &self,
        reference: &Reference,
        host: &str,
        credentials: &Credentials,
        options: &PullOptions,
    ) -> Result<Image, ContentError> {
        let source = Source::connect(reference, host, credentials, options).await?;
        let say = |text: String| {
            if let Some(progress) = &options.progress {
                progress(&text);
            }
        };
        let (mut bytes, mut digest) = source.manifest(reference.digest.as_ref()).await?;
        let top = digest.clone();
        let manifest = loop {
            match Document::parse(&bytes)? {
                Document::Manifest(manifest) => break manifest,
                Document::Index(entries) => {
                    let wanted = manifest::for_this_machine(&entries).ok_or_else(|| {
                        ContentError::Invalid(format!(
                            "no match for platform linux/{} in {reference}",
                            manifest::architecture()
                        ))
                    })?;
                    (bytes, digest) = source.manifest(Some(&wanted.digest)).await?;
                }
            }
        };
        if manifest.schema_version != 2 {
            return Err(ContentError::Invalid(format!("manifest schema version {}", manifest.schema_version)));
        }
        say(format!("{reference}: {} layers", manifest.layers.len()));
        let source = Arc::new(source);
        self.fetch(&source, &manifest.config).await?;
        let config_digest = manifest.config.digest.clone();
        let config: ImageConfig = self
            .blocking(move |c| {
                serde_json::from_slice(&c.read_blob(&config_digest)?)
                    .map_err(|e| ContentError::Invalid(format!("configuration: {e}")))
            })
            .await?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(ContentError::Invalid(
                "the configuration names another number of layers than the manifest".into(),
            ));
        }
        let layers = manifest.layers.iter().cloned().zip(config.rootfs.diff_ids.iter().cloned());
        futures::stream::iter(layers.map(|(layer, diff_id)| {
            let source = source.clone();
            let say = &say;
            async move {
                self.fetch_layer(&source, &layer, &diff_id).await?;
                say(format!("{}: pull complete", &layer.digest.hex()[..12]));
                Ok::<_, ContentError>(())
            }
        }))
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<_>>()
        .await?;
        let reference = reference.clone();
        self.blocking(move |content| content.publish(&reference, &bytes, &manifest, &digest, &top)).await
    }

    /// Writes the manifest and then, last of all, the names.
    fn publish(
        &self,
        reference: &Reference,
        bytes: &[u8],
        manifest: &Manifest,
        digest: &Digest,
        top: &Digest,
    ) -> Result<Image, ContentError> {
        let stored = self.write_blob(bytes)?;
        debug_assert_eq!(stored, *digest);
        let _ = manifest;
        self.change_names(|names| {
            names.names.insert(format!("{}@{top}", reference.name()), digest.clone());
            if let Some(tag) = &reference.tag
                && reference.digest.is_none()
            {
                names.names.insert(format!("{}:{tag}", reference.name()), digest.clone());
            }
            Ok(())
        })?;
        self.image(&reference.to_string())
    }

    /// Fetches a layer and unpacks it while it arrives, unless it is here; two users of one layer wait for one unpacking.
    async fn fetch_layer(&self, source: &Source, layer: &Descriptor, diff_id: &Digest) -> Result<(), ContentError> {
        let _alone = self.alone(format!("unpack {diff_id}")).await;
        let (blob, diff_id) = (layer.digest.clone(), diff_id.clone());
        if self.has_blob(&blob) || self.layer_directory(&diff_id).is_some() {
            self.fetch(source, layer).await?;
            return self.blocking(move |content| content.unpack_layer(&blob, &diff_id).map(drop)).await;
        }
        let (arrival, follower) = arrival();
        let unpacking = self.blocking(move |content| content.unpack_stream(follower, &blob, &diff_id));
        let fetching = async move {
            let watch = |ingest: &Ingest| arrival.show(ingest);
            self.fetch_watched(source, &layer.digest, layer.size, Download::Pull, &watch).await?;
            let path = self.blob_path(&layer.digest);
            let file =
                self.blocking(move |_| File::open(&path).map_err(|e| ContentError::io("open", &path, e))).await?;
            arrival.finish(file);
            Ok::<_, ContentError>(())
        };
        let (fetched, unpacked) = futures::join!(fetching, unpacking);
        // What was wrong with the download is the cause of what was wrong with the archive.
        fetched?;
        let unpacked = unpacked?;
        self.blocking(move |content| content.install(unpacked)).await
    }

    async fn fetch(&self, source: &Source, blob: &Descriptor) -> Result<(), ContentError> {
        self.fetch_watched(source, &blob.digest, blob.size, Download::Pull, &|_| ()).await
    }

    /// Fetches a blob unless it is here; `watch` is shown it as it begins and after each piece.
    pub(super) async fn fetch_watched(
        &self,
        source: &Source,
        blob: &Digest,
        size: u64,
        download: Download,
        watch: &(dyn Fn(&Ingest) + Send + Sync),
    ) -> Result<(), ContentError> {
        let _alone = self.alone(format!("fetch {blob} {download:?}")).await;
        if self.has_blob(blob) {
            return Ok(());
        }
        let digest = blob.clone();
        let mut ingest = self.blocking(move |c| c.ingest_resumable(&digest, download)).await?;
        if self.has_blob(blob) {
            // Another process fetched it.
            return self.blocking(move |_| ingest.discard()).await;
        }
        if ingest.length() > size {
            ingest.restart()?;
        }
        watch(&ingest);
        let failed = |message: String| source.failed(message);
        let mut resumes = 0;
        while ingest.length() < size {
            let before = ingest.length();
            let result;
            (ingest, result) = source.copy(blob, size, ingest, watch).await?;
            if ingest.length() > size {
                return Err(failed(format!("blob {blob} is longer than {size} bytes")));
            }
            match result {
                Ok(()) if ingest.length() == size => break,
                Err(
                    error
                    @ (ContentError::Denied { .. } | ContentError::Io { .. } | ContentError::NotInRegistry { .. }),
                ) => return Err(error),
                result if resumes >= RESUMES => {
                    return Err(result.err().unwrap_or_else(|| failed(format!("blob {blob} breaks off"))));
                }
                _ => {
                    resumes = if ingest.length() > before { 1 } else { resumes + 1 };
                    tokio::time::sleep(Duration::from_millis(100 << resumes)).await;
                }
            }
        }
        let digest = blob.clone();
        self.blocking(move |_| ingest.commit(Some(&digest)).map(drop)).await
    }
}

/// On whose behalf a blob is fetched. One of each may be under way: a pull through the mirror of the same store waits for
/// what the mirror fetches, and must not keep it from beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Download {
    Pull,
    Mirror,
}

/// Bytes of a blob that wait in memory while others are written.
const AHEAD: usize = 4 << 20;

/// Pieces of a blob that were received and not written yet.
#[derive(Default)]
struct Received {
    pieces: Vec<Bytes>,
    length: usize,
    over: bool,
    failure: Option<io::Error>,
}

impl Received {
    fn take(&mut self, piece: Option<io::Result<Bytes>>) {
        match piece {
            Some(Ok(piece)) => {
                self.length += piece.len();
                self.pieces.push(piece);
            }
            Some(Err(error)) => (self.over, self.failure) = (true, Some(error)),
            None => self.over = true,
        }
    }
}

/// One repository of one registry, logged in.
pub(super) struct Source {
    connection: Connection,
    reference: Reference,
    /// The registry, or its mirror.
    host: String,
    auth: RegistryAuth,
}

impl Source {
    pub async fn connect(
        reference: &Reference,
        host: &str,
        credentials: &Credentials,
        options: &PullOptions,
    ) -> Result<Self, ContentError> {
        let connection = Connection::open(host, options, Duration::from_secs(30)).await?;
        let auth = match credentials {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic { username, password } => RegistryAuth::Basic(username.clone(), password.0.clone()),
            Credentials::Token(token) => RegistryAuth::Bearer(token.0.clone()),
        };
        let source = Self { connection, reference: reference.clone(), host: host.to_owned(), auth };
        let image = source.image(None);
        match source.connection.client.auth(&image, &source.auth, RegistryOperation::Pull).await {
            Ok(_) => Ok(source),
            Err(error) => Err(source.explain(error)),
        }
    }

    fn image(&self, digest: Option<&Digest>) -> oci_client::Reference {
        let (registry, repository) = (self.host.clone(), self.reference.repository.clone());
        match digest.or(self.reference.digest.as_ref()) {
            Some(digest) => oci_client::Reference::with_digest(registry, repository, digest.to_string()),
            None => {
                let tag = self.reference.tag.clone().unwrap_or_else(|| "latest".into());
                oci_client::Reference::with_tag(registry, repository, tag)
            }
        }
    }

    /// What its reference's tag stands for now.
    pub async fn current(&self, tag: &str) -> Result<Digest, ContentError> {
        let (registry, repository) = (self.host.clone(), self.reference.repository.clone());
        let image = oci_client::Reference::with_tag(registry, repository, tag.to_owned());
        let digest =
            self.connection.client.fetch_manifest_digest(&image, &self.auth).await.map_err(|e| self.explain(e))?;
        Digest::parse(&digest).ok_or_else(|| self.failed(format!("unsupported digest {digest:?}")))
    }

    /// How long a blob is, by the beginning of its download.
    pub async fn size(&self, blob: &Digest) -> Result<u64, ContentError> {
        let text = blob.to_string();
        let stream = self
            .connection
            .client
            .pull_blob_stream(&self.image(None), text.as_str())
            .await
            .map_err(|e| self.explain(e))?;
        stream.content_length.ok_or_else(|| self.failed(format!("blob {blob} comes without its length")))
    }

    pub async fn manifest(&self, digest: Option<&Digest>) -> Result<(Vec<u8>, Digest), ContentError> {
        let accepted = [manifest::OCI_MANIFEST, manifest::OCI_INDEX, manifest::DOCKER_MANIFEST, manifest::DOCKER_INDEX];
        let (bytes, _) = self
            .connection
            .client
            .pull_manifest_raw(&self.image(digest), &self.auth, &accepted)
            .await
            .map_err(|e| self.explain(e))?;
        let actual = digest.map_or_else(|| Digest::of(&bytes), |expected| expected.again(&bytes));
        match digest {
            Some(expected) if *expected != actual => Err(ContentError::Mismatch { expected: expected.clone(), actual }),
            _ => Ok((bytes.to_vec(), actual)),
        }
    }

    /// Appends what is missing of the blob, and gives it back with what went wrong. An error is of the process alone.
    async fn copy(
        &self,
        blob: &Digest,
        size: u64,
        mut ingest: Ingest,
        watch: &(dyn Fn(&Ingest) + Send + Sync),
    ) -> Result<(Ingest, Result<(), ContentError>), ContentError> {
        let mut stream = match self.begin(blob, size, &mut ingest).await {
            Ok(stream) => stream,
            Err(error) => return Ok((ingest, Err(error))),
        };
        watch(&ingest);
        // The next pieces are received while a thread that may wait for the disk hashes and writes those before.
        let mut received = Received::default();
        let mut outcome = Ok(());
        loop {
            if !received.over && received.pieces.is_empty() {
                received.take(stream.next().await);
            }
            if received.pieces.is_empty() {
                break;
            }
            let pieces = std::mem::take(&mut received.pieces);
            received.length = 0;
            let mut writing = tokio::task::spawn_blocking(move || {
                let written = pieces.iter().try_for_each(|piece| ingest.write(piece));
                (ingest, written)
            });
            let written = loop {
                tokio::select! {
                    written = &mut writing => break written,
                    piece = stream.next(), if !received.over && received.length < AHEAD => received.take(piece),
                }
            };
            let written_outcome;
            (ingest, written_outcome) = written.map_err(|e| ContentError::Interrupted(e.to_string()))?;
            watch(&ingest);
            if written_outcome.is_err() || ingest.length() > size {
                outcome = written_outcome;
                break;
            }
        }
        if let (Ok(()), Some(error)) = (&outcome, received.failure) {
            outcome = Err(self.failed(self.connection.explain(&error)));
        }
        Ok((ingest, outcome))
    }

    /// The stream of what is missing of the blob.
    async fn begin(
        &self,
        blob: &Digest,
        size: u64,
        ingest: &mut Ingest,
    ) -> Result<futures::stream::BoxStream<'static, io::Result<Bytes>>, ContentError> {
        let image = self.image(None);
        let descriptor = oci_client::manifest::OciDescriptor {
            digest: blob.to_string(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            ..Default::default()
        };
        if ingest.length() == 0 {
            let stream = self.connection.client.pull_blob_stream(&image, &descriptor).await;
            return Ok(stream.map_err(|e| self.explain(e))?.stream);
        }
        match self.connection.client.pull_blob_stream_partial(&image, &descriptor, ingest.length(), None).await {
            Ok(BlobResponse::Partial(stream)) => Ok(stream.stream),
            Ok(BlobResponse::Full(stream)) => {
                ingest.restart()?;
                Ok(stream.stream)
            }
            Err(error) => Err(self.explain(error)),
        }
    }

    fn failed(&self, message: String) -> ContentError {
        ContentError::Registry { reference: self.reference.to_string(), message }
    }

    fn explain(&self, error: OciDistributionError) -> ContentError {
        let reference = self.reference.to_string();
        let by_code = |code: &OciErrorCode| match code {
            OciErrorCode::ManifestUnknown
            | OciErrorCode::NameUnknown
            | OciErrorCode::NotFound
            | OciErrorCode::BlobUnknown => Some(ContentError::NotInRegistry { reference: reference.clone() }),
            OciErrorCode::Unauthorized | OciErrorCode::Denied => {
                Some(ContentError::Denied { reference: reference.clone() })
            }
            _ => None,
        };
        match &error {
            OciDistributionError::RegistryError { envelope, .. } => {
                if let Some(known) = envelope.errors.iter().find_map(|e| by_code(&e.code)) {
                    return known;
                }
            }
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => {
                return ContentError::NotInRegistry { reference };
            }
            OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::ServerError { code: 401 | 403, .. } => return ContentError::Denied { reference },
            _ => {}
        }
        self.failed(self.connection.explain(&error))
    }
}
