//! The manuals of all pattern containers, for the image's configuration.

use clap::{CommandFactory, Parser};
use serving::Manual;

/// The admin port of every container unless told otherwise.
pub const ADMIN_PORT: u16 = 9901;

/// One a command. Whoever adds a command adds its manual here.
pub fn all() -> Vec<&'static Manual> {
    let mut all = proxies();
    all.extend([
        &sharding::MANUAL,
        &sidecars::topz::MANUAL,
        &sidecars::config_sync::MANUAL,
        &sidecars::git_sync::MANUAL,
        &adapters::metrics::MANUAL,
        &adapters::logs::MANUAL,
        &adapters::health::MANUAL,
        &scatter::MANUAL,
    ]);
    all
}

/// Those of the one data plane, which tells its manuals by command.
fn proxies() -> Vec<&'static Manual> {
    #[derive(Parser)]
    struct One {
        #[command(subcommand)]
        command: proxy::Command,
    }
    let names: Vec<String> = One::command().get_subcommands().map(|one| one.get_name().to_owned()).collect();
    let parsed = names.iter().filter_map(|name| One::try_parse_from(["proxy", name]).ok());
    parsed.map(|one| one.command.manual()).collect()
}
