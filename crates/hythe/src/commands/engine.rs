//! `hythe engine`: the Docker Engine API alone, without Kubernetes.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::Args;
use engine::content::Content;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{RegistryAccess, UsernsRemap},
    instance::Instance,
    up,
};

/// How to serve.
#[derive(Args)]
pub struct EngineFlags {
    /// The unix socket [default: /run/hythe/docker.sock, or the instance's own]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Run containers with ids of their own instead of the host's.
    #[arg(long, value_name = "default")]
    userns_remap: Option<UsernsRemap>,
    #[command(flatten)]
    registries: RegistryAccess,
}

pub fn run(instance: &Instance, flags: EngineFlags) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("hythe engine runs containers, which needs root: run it with sudo");
    }
    up::log();
    instance.create()?;
    let _lock = instance.lock()?;
    let socket = flags.socket.unwrap_or_else(|| up::docker::default_socket(instance));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let content = Content::open(instance.path("content"))?;
        crate::patterns_image::provide(&content);
        let ids = up::docker::ids(instance, flags.userns_remap)?;
        println!("hythe: engine on unix://{}", socket.display());
        tokio::select! {
            served = up::docker::serve(instance, content, &socket, ids, flags.registries.options()) => served?,
            never = crate::rest::run() => match never {},
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}
