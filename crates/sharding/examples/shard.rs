//! The sharding proxy alone, without the other containers: quick to build, for measuring.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    proxy: Proxy,
}

#[derive(clap::Subcommand)]
enum Proxy {
    /// The same words as `hythe proxy shard`.
    #[command(subcommand)]
    Proxy(Shard),
}

#[derive(clap::Subcommand)]
enum Shard {
    Shard(Box<sharding::Arguments>),
}

fn main() -> ExitCode {
    let Proxy::Proxy(Shard::Shard(arguments)) = Cli::parse().proxy;
    sharding::main(*arguments)
}
