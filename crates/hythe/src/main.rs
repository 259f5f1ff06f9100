//! Hythe: a cloud-native platform in one binary. This is the command line; each command is one file.

mod allocator;
mod cli;
mod commands;
mod instance;
mod kubeconfig;
mod patterns_image;
mod pki;
mod rest;
mod simulate;
mod up;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The shim must stay a small single-threaded process: it is told apart before anything else is set up.
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == "shim") {
        engine::shim::main(arguments.collect());
    }
    cli::run()
}
