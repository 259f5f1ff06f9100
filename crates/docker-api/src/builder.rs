//! The seam to whatever builds images from Dockerfiles.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use engine::Namespace;
use futures::future::BoxFuture;

/// What `POST /build` asks for.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Path of the Dockerfile in the context.
    pub dockerfile: String,
    /// Names for the image.
    pub tags: Vec<String>,
    /// The stage to stop at.
    pub target: Option<String>,
    /// `--build-arg`; `None` takes the builder's own environment, which is empty.
    pub build_args: BTreeMap<String, Option<String>>,
    /// Labels added to the image.
    pub labels: BTreeMap<String, String>,
    /// Ignore the cache.
    pub no_cache: bool,
    /// Always ask the registry for base images.
    pub pull: bool,
    /// Say only the image's ID.
    pub quiet: bool,
    /// Network of `RUN`: the host's, none, or the namespace of a place in one, which lasts as long as the build.
    pub network: Namespace,
    /// `/etc/resolv.conf` of `RUN`; the host's when `None`.
    pub resolv_conf: Option<String>,
    /// `os/arch` asked for.
    pub platform: String,
    /// `host:address` lines for `RUN`.
    pub extra_hosts: Vec<String>,
    /// Remove intermediate containers after success.
    pub remove: bool,
    /// Size of `/dev/shm` in bytes, 0 for the default.
    pub shm_size: u64,
    /// Memory limit of `RUN` in bytes, 0 for none.
    pub memory: i64,
}

/// Why a build failed.
#[derive(Clone, Debug, Default)]
pub struct BuildFailure {
    /// For the user.
    pub message: String,
    /// The exit code of the `RUN` that ended the build; 0 when it was something else.
    pub code: i32,
}

/// Told of what a build does; each text becomes one `stream` message.
pub type BuildProgress = Arc<dyn Fn(&str) + Send + Sync>;

/// Builds images.
pub trait ImageBuilder: Send + Sync {
    /// Builds from the context in a tar file (plain or compressed) and returns the image's ID (`sha256:…`).
    fn build(
        &self,
        context: PathBuf,
        options: BuildOptions,
        progress: BuildProgress,
    ) -> BoxFuture<'static, Result<String, BuildFailure>>;
}
