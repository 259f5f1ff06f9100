//! The Docker Engine API beside the pods, on the same images. Its containers have an engine of their own, so that
//! neither side takes the other's for its leftovers.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result};
use builder::{BuildRequest, Builder, Classic, Context, Kind, RunNetwork, Source};
use docker_api::{BuildFailure, BuildOptions, BuildProgress, Config, DockerApi, ImageBuilder, NetworkSettings};
use engine::{
    Engine, IdRange, IdRanges, Namespace,
    content::{Content, PullOptions},
};
use futures::future::BoxFuture;
use tokio::net::UnixListener;

use super::roles;
use crate::{cli::UsernsRemap, instance::Instance};

/// Where the API of an instance is, unless told otherwise.
pub fn default_socket(instance: &Instance) -> PathBuf {
    match instance.is_default() {
        true => PathBuf::from("/run/hythe/docker.sock"),
        false => instance.run_dir().join("docker.sock"),
    }
}

/// Opens the API, takes over its containers, and serves until the listener fails.
pub async fn serve(instance: &Instance, content: Content, socket: &Path, ids: Option<IdRange>) -> Result<()> {
    let listener = listen(socket)?;
    let _file = SocketFile(socket);
    let api = DockerApi::open(config(instance, content, ids).await?).await?;
    Ok(api.serve(listener).await?)
}

/// How the API of an instance is opened.
pub async fn config(instance: &Instance, content: Content, user_ids: Option<IdRange>) -> Result<Config> {
    let engine = Engine::open(roles::docker_engine_config(instance)).await?;
    engine.adopt().await?;
    let build_engine = Engine::open(roles::build_engine_config(instance)).await?;
    build_engine.adopt().await?;
    let builder = Builder::open(build_engine, content.clone(), instance.path("build")).await?;
    Ok(Config {
        data_dir: instance.path("docker"),
        run_dir: instance.run_dir().join("docker"),
        engine,
        user_ids,
        content,
        network: NetworkSettings { name: instance.name.replace("hythe", "hyd"), ..Default::default() },
        builder: Some(Arc::new(DockerfileBuilder(builder))),
        registries: PullOptions::default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The ids of Docker's containers where they are remapped: one range beside those of pods, and the same ever after. Call
/// it before the agent opens its record of them.
pub fn ids(instance: &Instance, remap: Option<UsernsRemap>) -> Result<Option<IdRange>> {
    let Some(UsernsRemap::Default) = remap else { return Ok(None) };
    let ids = IdRanges::open(instance.path("agent/ids")).context("can't record ids")?;
    Ok(Some(ids.range("_docker").context("no ids for Docker's containers")?))
}

fn listen(socket: &Path) -> Result<UnixListener> {
    if let Some(directory) = socket.parent() {
        fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
    }
    // A socket file outlives its process. The instance's lock says that no other process of ours serves it.
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).with_context(|| format!("can't listen on {}", socket.display()))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// A socket's file, which ends with its service.
struct SocketFile<'a>(&'a Path);

impl Drop for SocketFile<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// `docker build` by our builder.
struct DockerfileBuilder(Builder);

impl ImageBuilder for DockerfileBuilder {
    fn build(
        &self,
        context: PathBuf,
        options: BuildOptions,
        progress: BuildProgress,
    ) -> BoxFuture<'static, Result<String, BuildFailure>> {
        let builder = self.0.clone();
        Box::pin(async move {
            let failed = |message: String| BuildFailure { message, code: 0 };
            let archive = fs::File::open(&context).map_err(|e| failed(format!("{}: {e}", context.display())))?;
            let classic = Arc::new(Mutex::new(Classic::new()));
            let (told, say) = (classic.clone(), progress.clone());
            let show = move |event| {
                let pieces = told.lock().unwrap_or_else(|e| e.into_inner()).render(event);
                pieces.iter().for_each(|piece| say(&piece.text));
            };
            match builder.build(request(archive, options), Arc::new(show)).await {
                Ok(built) => Ok(built.image),
                Err(error) => {
                    let owed = classic.lock().unwrap_or_else(|e| e.into_inner()).finish();
                    owed.iter().for_each(|piece| progress(&piece.text));
                    let code = match &error.kind {
                        Kind::Exit { code, .. } => *code,
                        _ => 0,
                    };
                    Err(BuildFailure { message: error.to_string(), code })
                }
            }
        })
    }
}

fn request(archive: fs::File, options: BuildOptions) -> BuildRequest {
    BuildRequest {
        context: Context::Tar(Box::new(archive)),
        dockerfile: Source::Path(options.dockerfile),
        args: options.build_args.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        target: options.target,
        tags: options.tags,
        labels: options.labels,
        no_cache: options.no_cache,
        pull: options.pull,
        network: match options.network {
            Namespace::Host => RunNetwork::Host,
            Namespace::New => RunNetwork::None,
            Namespace::Path(path) => RunNetwork::Path(path),
        },
        resolv_conf: options.resolv_conf,
        extra_hosts: options
            .extra_hosts
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, address)| (name.to_owned(), address.to_owned()))
            .collect(),
        platform: Some(options.platform).filter(|platform| !platform.is_empty()),
        shm_size: Some(options.shm_size).filter(|size| *size > 0),
        ..Default::default()
    }
}
