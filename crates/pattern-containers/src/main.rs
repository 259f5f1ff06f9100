//! The pattern containers alone, as they are shipped in an image of one file.

use std::process::ExitCode;

use clap::Parser;
use pattern_containers::Command;

/// The patterns of distributed systems as containers: proxies, sidecars, adapters, scatter/gather.
#[derive(Parser)]
#[command(name = "hythe", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    pattern_containers::run(Cli::parse().command)
}
