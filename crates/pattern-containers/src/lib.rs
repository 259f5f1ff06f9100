//! The pattern containers as one set of commands: `hythe proxy …`, `hythe sidecar …`, `hythe adapter …`, `hythe scatter …`.
//!
//! The full binary and the small one that is shipped as an image offer the same commands, and both take them from here.

pub mod image;
pub mod manuals;

use std::process::ExitCode;

use clap::Subcommand;

/// Which pattern to run.
#[derive(Subcommand)]
pub enum Command {
    /// Proxies: HTTP edge, balancing, caching, splitting, rate limits, sharding, brokers.
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// Containers that stand beside another in one pod.
    #[command(subcommand)]
    Sidecar(SidecarCommand),
    /// One interface over software that has its own.
    #[command(subcommand)]
    Adapter(AdapterCommand),
    /// Root of scatter/gather: asks every leaf, hedges the slow ones, merges what comes by the deadline.
    Scatter(scatter::Arguments),
}

/// Proxies.
#[derive(Subcommand)]
pub enum ProxyCommand {}

/// Sidecars.
#[derive(Subcommand)]
pub enum SidecarCommand {
    /// Processes of a shared PID namespace and what they use.
    Topz(sidecars::topz::Arguments),
    /// Keeps configuration files as their source has them, and tells the application.
    Config(sidecars::config_sync::Arguments),
    /// Keeps a directory as a branch, a tag or a commit of a git repository has it.
    GitSync(sidecars::git_sync::Arguments),
}

/// Adapters.
#[derive(Subcommand)]
pub enum AdapterCommand {}

/// Runs the command until it ends or is told to end.
pub fn run(command: Command) -> ExitCode {
    match command {
        Command::Proxy(command) => match command {},
        Command::Sidecar(command) => match command {
            SidecarCommand::Topz(arguments) => sidecars::topz::main(arguments),
            SidecarCommand::Config(arguments) => sidecars::config_sync::main(arguments),
            SidecarCommand::GitSync(arguments) => sidecars::git_sync::main(arguments),
        },
        Command::Adapter(command) => match command {},
        Command::Scatter(arguments) => scatter::main(arguments),
    }
}
