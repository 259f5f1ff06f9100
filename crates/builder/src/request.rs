//! What a caller asks for, and what it gets.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::path::PathBuf;

use engine::Resources;
use engine::content::PullOptions;
use futures::future::BoxFuture;

/// Where `COPY` and `ADD` take files from.
#[derive(Default)]
pub enum Context {
    /// Nowhere.
    #[default]
    None,
    /// A directory, read where it is.
    Directory(PathBuf),
    /// A directory that was filled for this build with what counts alone: its `.dockerignore` was obeyed already.
    Received(PathBuf),
    /// An archive (plain, gzip, bzip2, xz, zstd), unpacked for the time of the build.
    Tar(Box<dyn Read + Send>),
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
            Self::Received(path) => f.debug_tuple("Received").field(path).finish(),
            Self::Tar(_) => f.write_str("Tar"),
        }
    }
}

/// What a name stands for that is no stage of the Dockerfile (`--build-context`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// An image, here or in a registry.
    Image(String),
    /// A directory; files can be taken from it, but no stage stands on it.
    Directory(PathBuf),
}

/// Somebody who knows secrets, and is asked for one when a step wants it.
pub trait Secrets: Send + Sync {
    /// The secret of that id; `None` if there is none.
    ///
    /// # Errors
    /// In words for a user: whoever knows could not say.
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>>;
}

impl Secrets for BTreeMap<String, Vec<u8>> {
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, String>> {
        Box::pin(std::future::ready(Ok(self.get(id).cloned())))
    }
}

/// Somebody who lets a step speak to the user's SSH agents (`RUN --mount=type=ssh`), and repositories be fetched with
/// their keys.
pub trait Agents: Send + Sync {
    /// Looks for the agent of that id.
    ///
    /// # Errors
    /// In words for a user: there is none.
    fn check<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), String>>;
    /// Carries what a step's program says to the agent, and back, until either closes.
    fn carry(&self, id: String, program: tokio::net::UnixStream) -> BoxFuture<'static, ()>;
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path in the context.
    Path(String),
    /// Here.
    Text(String),
}

impl Default for Source {
    fn default() -> Self {
        Self::Path("Dockerfile".into())
    }
}

/// The network of `RUN`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// The host's.
    #[default]
    Host,
    /// A loopback link and nothing else.
    None,
    /// A network namespace that the caller made, by its path.
    Path(PathBuf),
}

/// What becomes of the result, beside the image in the store.
#[derive(Default)]
pub enum Output {
    /// An image in the content store.
    #[default]
    Image,
    /// An OCI layout as an archive.
    Oci(Box<dyn Write + Send>),
    /// The same with what `docker load` of any age looks for.
    Docker(Box<dyn Write + Send>),
    /// The root file system as an archive.
    Tar(Box<dyn Write + Send>),
    /// The root file system in a directory, which is made if missing.
    Local(PathBuf),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image => f.write_str("Image"),
            Self::Oci(_) => f.write_str("Oci"),
            Self::Docker(_) => f.write_str("Docker"),
            Self::Tar(_) => f.write_str("Tar"),
            Self::Local(path) => f.debug_tuple("Local").field(path).finish(),
        }
    }
}

/// One build.
#[derive(Default)]
pub struct BuildRequest {
    /// The files.
    pub context: Context,
    /// The Dockerfile.
    pub dockerfile: Source,
    /// `--build-arg`. They are seen in the history of steps that use them: no place for secrets.
    pub args: BTreeMap<String, String>,
    /// `--target`: name or number of a stage; the last one when `None`.
    pub target: Option<String>,
    /// Names for the image, as Docker takes them.
    pub tags: Vec<String>,
    /// Labels for the image.
    pub labels: BTreeMap<String, String>,
    /// Do every step anew.
    pub no_cache: bool,
    /// Do the steps of these stages anew, by name.
    pub no_cache_stages: Vec<String>,
    /// Ask the registry for every base image, also those that are here.
    pub pull: bool,
    /// `--cache-from`: images whose steps count as done, if they begin as this build does, or that are the cache of another
    /// build. Here, or to be pulled.
    pub cache_from: Vec<String>,
    /// As `docker build` without BuildKit: where `cache_from` names images, only steps of theirs count as done, and a
    /// Dockerfile that makes nothing is an error, as is a pattern that no file fits.
    pub classic: bool,
    /// `--cache-from type=local`: directories that [`BuildRequest::cache_to`] of other builds wrote. One that is not
    /// there is a warning.
    pub cache_directories: Vec<PathBuf>,
    /// `--cache-to type=local`: where what this build's steps made is written, those of all stages.
    pub cache_to: Option<PathBuf>,
    /// `--cache-to type=registry`: names of an image that is made of the same, for whoever pushes it.
    pub cache_names: Vec<String>,
    /// How to reach registries.
    pub pull_options: PullOptions,
    /// `--secret`, by id. Only `RUN --mount=type=secret` sees them, in memory.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Who is asked for secrets that are not among these.
    pub secret_source: Option<std::sync::Arc<dyn Secrets>>,
    /// Who has SSH agents.
    pub agents: Option<std::sync::Arc<dyn Agents>>,
    /// `--build-context`: what names stand for in `FROM` and `--from`, before stages and images.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What becomes of the result.
    pub output: Output,
    /// And what beside.
    pub further_outputs: Vec<Output>,
    /// Names in archives, where those are not the image's own.
    pub archive_names: Vec<String>,
    /// The network of `RUN`.
    pub network: RunNetwork,
    /// `/etc/resolv.conf` of `RUN`; the host's when `None`.
    pub resolv_conf: Option<String>,
    /// `--add-host`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Seconds since 1970: later times in layers and configuration become this, so that equal input gives equal
    /// images. An argument `SOURCE_DATE_EPOCH` sets it too.
    pub source_date_epoch: Option<i64>,
    /// `linux/amd64`; only this machine's own can be built. `None` is that.
    pub platform: Option<String>,
    /// Limits of all `RUN`s of the build together.
    pub resources: Resources,
    /// Bytes of `/dev/shm`; 64 MiB when `None`.
    pub shm_size: Option<u64>,
    /// Resource limits of `RUN`'s processes.
    pub rlimits: Vec<engine::Rlimit>,
    /// The ids of the host that `RUN`'s from 0 are, but for those in the host's network; `None`: the host's own. On disk,
    /// and in layers, files belong to whom they belong to in the container.
    pub user_ids: Option<engine::IdRange>,
    /// The largest context and the largest archive unpacked by `ADD`, in bytes; 64 GiB when `None`.
    pub max_bytes: Option<u64>,
}

impl fmt::Debug for BuildRequest {
    /// Without the secrets and credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildRequest")
            .field("context", &self.context)
            .field("dockerfile", &self.dockerfile)
            .field("target", &self.target)
            .field("tags", &self.tags)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// A finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutput {
    /// The image's id, `sha256:…` (the digest of its configuration).
    pub image: String,
    /// The digest of its manifest.
    pub manifest: String,
    /// The names it got, normalized.
    pub tags: Vec<String>,
    /// Steps taken from the cache, and all steps.
    pub cached: (usize, usize),
}
