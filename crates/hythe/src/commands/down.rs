//! `hythe down`: ends the daemon, then every container, then takes back what was made on this host.

use std::{
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use docker_api::DockerApi;
use engine::{Engine, content::Content};
use network::Network;
use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::session::block_on;
use crate::{instance::Instance, up};

/// How long the daemon gets to end by itself.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(instance: &Instance, purge: bool, drain: bool) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("hythe down needs root: run it with sudo");
    }
    if let Some(pid) = instance.daemon() {
        let signal = if drain { Signal::SIGPWR } else { Signal::SIGTERM };
        end(instance, Pid::from_raw(pid), signal)?;
        println!("hythe: stopped (process {pid})");
    }
    if instance.data_dir.exists() || instance.run_dir().exists() {
        block_on(tear_down(instance))?;
        println!("hythe: containers, links and rules removed");
    }
    let run_dir = instance.run_dir();
    // Only where Hythe mounts: the data directory itself may well be a file system of its owner's.
    unmount_below(&run_dir)?;
    unmount_below(&instance.path("agent"))?;
    agent::release_block_volumes(&instance.path("agent")).context("can't give back the devices of block volumes")?;
    remove(&run_dir)?;
    // A daemon that was killed leaves it.
    let _ = fs::remove_file(up::docker::default_socket(instance));
    // Empty only if no other instance lives there.
    if let Some(parent) = run_dir.parent() {
        let _ = fs::remove_dir(parent);
    }
    if purge {
        remove(&instance.data_dir)?;
        println!("hythe: {} removed", instance.data_dir.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn end(instance: &Instance, pid: Pid, signal: Signal) -> Result<()> {
    // The daemon keeps to its own time when it ends pods first.
    let patience = if signal == Signal::SIGPWR { Duration::from_secs(24 * 3600) } else { PATIENCE };
    kill(pid, signal).with_context(|| format!("can't signal process {pid}"))?;
    let begin = Instant::now();
    while instance.daemon().is_some() {
        if begin.elapsed() > patience {
            kill(pid, Signal::SIGKILL).with_context(|| format!("can't kill process {pid}"))?;
        }
        if begin.elapsed() > patience * 2 {
            bail!("process {pid} does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Ends all sandboxes and removes cgroups, mounts, links and rules. Works however the daemon ended.
async fn tear_down(instance: &Instance) -> Result<()> {
    if instance.path("docker/networks").exists() {
        let content = Content::open(instance.path("content"))?;
        DockerApi::remove_networks(&up::docker::config(instance, content, None).await?)?;
    }
    for config in up::engine_configs(instance) {
        let engine = Engine::open(config).await?;
        let sandboxes = engine.adopt().await?;
        futures::future::join_all(sandboxes.iter().map(|sandbox| async move {
            if let Err(error) = sandbox.destroy().await {
                eprintln!("warning: sandbox {}: {error}", sandbox.id());
            }
        }))
        .await;
        engine.purge().await?;
    }
    if let Ok(settings) = instance.settings() {
        Network::purge(&up::network_config(instance, &settings)?)?;
    }
    Ok(())
}

/// Unmounts what is left below a directory, the innermost first.
fn unmount_below(dir: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    let mut points: Vec<&str> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    points.retain(|point| Path::new(point) != dir && Path::new(point).starts_with(dir));
    for point in points.into_iter().rev() {
        umount2(point, MntFlags::MNT_DETACH).with_context(|| format!("can't unmount {point}"))?;
    }
    Ok(())
}

/// Removes a directory tree; one that is not there is fine, and one that is a mount point itself is emptied.
fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy && fs::read_dir(dir)?.next().is_none() => Ok(()),
        other => other.with_context(|| format!("can't remove {}", dir.display())),
    }
}
