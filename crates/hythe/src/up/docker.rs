//! The Docker Engine API beside the pods, on the same images. Its containers have an engine of their own, so that
//! neither side takes the other's for its leftovers.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use builder::Builder;
use docker_api::{Config, DockerApi, NetworkSettings};
use engine::{
    Engine, IdRange, IdRanges,
    content::{Content, PullOptions},
};
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
pub async fn serve(
    instance: &Instance,
    content: Content,
    socket: &Path,
    ids: Option<IdRange>,
    registries: PullOptions,
) -> Result<()> {
    let listener = listen(socket)?;
    let _file = SocketFile(socket);
    let api = DockerApi::open(Config { registries, ..config(instance, content, ids).await? }).await?;
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
        builder: Some(builder),
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
