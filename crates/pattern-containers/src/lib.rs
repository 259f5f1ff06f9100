//! The pattern containers as one set of commands: `hythe proxy …`, `hythe sidecar …`, `hythe adapter …`, `hythe scatter …`.
//!
//! The full binary and the small one that is shipped as an image offer the same commands, and both take them from here.

pub mod image;
mod loaded;
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
pub enum ProxyCommand {
    /// Spreads keys over Redis or memcached servers, as twemproxy does and from its file.
    Shard(Box<sharding::Arguments>),
    /// Those of one data plane.
    #[command(flatten)]
    Plane(Box<proxy::Command>),
}

/// Sidecars.
#[derive(Subcommand)]
pub enum SidecarCommand {
    /// Processes of a shared PID namespace and what they use.
    Topz(sidecars::topz::Arguments),
    /// Keeps configuration files as their source has them, and tells the application.
    Config(sidecars::config_sync::Arguments),
    /// Keeps a directory as a branch, a tag or a commit of a git repository has it.
    GitSync(Box<sidecars::git_sync::Arguments>),
}

/// Adapters.
#[derive(Subcommand)]
pub enum AdapterCommand {
    /// Metrics for Prometheus of software that has its own way to tell them.
    Metrics(adapters::metrics::Arguments),
    /// Logs of all kinds as one JSON line a record on standard output.
    Logs(adapters::logs::Arguments),
    /// A probe that asks something real: a query, a page, a connection or a script.
    Health(adapters::health::Arguments),
}

/// Runs the command until it ends or is told to end.
pub fn run(command: Command) -> ExitCode {
    match command {
        Command::Proxy(command) => match command {
            ProxyCommand::Shard(arguments) => sharding::main(*arguments),
            ProxyCommand::Plane(command) => proxy::main(*command),
        },
        Command::Sidecar(command) => match command {
            SidecarCommand::Topz(arguments) => sidecars::topz::main(arguments),
            SidecarCommand::Config(arguments) => sidecars::config_sync::main(arguments),
            SidecarCommand::GitSync(arguments) => sidecars::git_sync::main(*arguments),
        },
        Command::Adapter(command) => match command {
            AdapterCommand::Metrics(arguments) => adapters::metrics::main(arguments),
            AdapterCommand::Logs(arguments) => adapters::logs::main(arguments),
            AdapterCommand::Health(arguments) => adapters::health::main(arguments),
        },
        Command::Scatter(arguments) => scatter::main(arguments),
    }
}
