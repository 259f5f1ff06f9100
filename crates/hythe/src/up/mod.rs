//! `hythe up`: starts every role in one process, one printed line a phase, and runs until it is told to end.
//! Containers outlive it: they belong to their shims, and the next `up` finds them again.

mod addresses;
mod compaction;
mod detach;
pub mod docker;
mod nodes;
mod panics;
mod progress;
mod roles;
mod storage_class;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::{cli::UpFlags, instance::Instance};
use progress::Progress;
pub use roles::{build_engine_config, engine_configs, network_config};

/// Runs the platform in the foreground, or (with `--detach`) starts it and returns once the node is Ready.
pub fn run(instance: Instance, flags: UpFlags) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("hythe up makes namespaces, mounts and network links, which needs root: run it with sudo");
    }
    addresses::check(&flags)?;
    if flags.detach {
        return detach::start(&instance, &flags);
    }
    if flags.notify_fd.is_some() {
        // Detached: neither the terminal's hang-up nor its keys concern this process any more.
        let _ = nix::unistd::setsid();
    }
    let progress = Progress::new(flags.notify_fd);
    let result = foreground(&instance, &flags, &progress);
    if let Err(error) = &result {
        progress.failed(error);
    }
    result
}

fn foreground(instance: &Instance, flags: &UpFlags, progress: &Progress) -> Result<ExitCode> {
    log();
    panics::install();
    instance.create()?;
    let _lock = instance.lock()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let result = runtime.block_on(async {
        // Before anything starts, so that no signal finds nobody listening.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // What init is told when the power fails: the machine is going down.
        let mut power = signal(SignalKind::from_raw(nix::libc::SIGPWR))?;
        let running = tokio::select! {
            running = roles::start(instance, flags, progress) => running?,
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = power.recv() => {
                progress.say("ending all pods, as the machine goes down");
                running.shut_down().await;
            }
            reason = running.ended() => bail!("{reason}"),
        }
        progress.say("stopping; containers go on, `hythe down` ends them too");
        running.stop().await;
        Ok(ExitCode::SUCCESS)
    });
    // Whatever still blocks a thread must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

/// Logs to standard error what `HYTHE_LOG` asks for (`RUST_LOG`'s grammar); warnings unless told otherwise.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HYTHE_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true).init();
}
