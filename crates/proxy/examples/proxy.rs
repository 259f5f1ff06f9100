//! The proxies alone, for measuring: `cargo run --release -p proxy --example proxy -- http --config FILE`.

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: proxy::Command,
}

fn main() -> std::process::ExitCode {
    proxy::main(Cli::parse().command)
}
