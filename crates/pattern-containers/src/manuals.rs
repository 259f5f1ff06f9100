//! The manuals of all pattern containers, for the image's configuration.

use proxy::command::manuals as proxies;
use serving::Manual;

/// The admin port of every container unless told otherwise.
pub const ADMIN_PORT: u16 = 9901;

/// One a command. Whoever adds a command adds its manual here.
pub fn all() -> Vec<&'static Manual> {
    vec![
        &proxies::HTTP,
        &proxies::SPLIT,
        &proxies::TEE,
        &proxies::BROKER,
        &proxies::CACHE,
        &proxies::LIMIT,
        &proxies::TCP,
        &proxies::UDP,
        &sharding::MANUAL,
        &sidecars::topz::MANUAL,
        &sidecars::config_sync::MANUAL,
        &sidecars::git_sync::MANUAL,
        &adapters::metrics::MANUAL,
        &adapters::logs::MANUAL,
        &adapters::health::MANUAL,
        &scatter::MANUAL,
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::{ArgAction, CommandFactory, Parser};
    use serving::Manual;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: crate::Command,
    }

    /// The commands that run something, by their names.
    fn commands() -> BTreeMap<String, clap::Command> {
        fn walk(command: &clap::Command, name: &str, all: &mut BTreeMap<String, clap::Command>) {
            if !command.has_subcommands() {
                all.insert(name.to_owned(), command.clone());
            }
            for one in command.get_subcommands() {
                walk(one, format!("{name} {}", one.get_name()).trim(), all);
            }
        }
        let mut all = BTreeMap::new();
        walk(&Cli::command(), "", &mut all);
        all
    }

    fn manuals() -> BTreeMap<String, &'static Manual> {
        super::all().into_iter().map(|manual| (manual.name.to_owned(), manual)).collect()
    }

    /// Names with defaults.
    type Variables = BTreeMap<String, String>;

    #[test]
    fn every_command_has_a_manual_that_names_its_variables_and_ends_its_help() {
        let (commands, manuals) = (commands(), manuals());
        assert_eq!(commands.keys().collect::<Vec<_>>(), manuals.keys().collect::<Vec<_>>());
        for (name, mut command) in commands {
            let manual = manuals[&name];
            let told: Variables = manual.all_variables().map(|v| (v.name.into(), v.default.into())).collect();
            let taken: Variables = command
                .get_arguments()
                .filter_map(|flag| {
                    let default: Vec<_> = flag.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
                    let default = if matches!(flag.get_action(), ArgAction::SetTrue) {
                        "false".into()
                    } else {
                        default.join(",")
                    };
                    let variable = flag.get_env()?.to_string_lossy().into_owned();
                    // What a file may say as well has its default there.
                    let default =
                        if default.is_empty() { told.get(&variable).cloned().unwrap_or_default() } else { default };
                    Some((variable, default))
                })
                .collect();
            assert_eq!(told, taken, "{name}");
            assert!(command.render_long_help().to_string().ends_with(&manual.after_help()), "{name}");
        }
    }

    #[test]
    fn every_page_names_flags_variables_ports_and_endpoints() {
        let mut missing = Vec::new();
        for (name, command) in commands() {
            let page = match name.rsplit(' ').next().unwrap() {
                "http" | "tcp" | "udp" => "edge",
                "shard" => "sharding",
                "limit" => "rate-limit",
                "metrics" => "metrics-adapter",
                "logs" => "log-adapter",
                "health" => "health-adapter",
                "scatter" => "scatter-gather",
                other => other,
            };
            let file = format!("{}/../../docs/patterns/{page}.md", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(file).unwrap();
            let common = ["help", "admin", "access-log", "drain", "linger", "threads"];
            let flags =
                command.get_arguments().filter_map(|flag| flag.get_long()).filter(|flag| !common.contains(flag));
            let manual = manuals()[&name];
            let told = flags
                .map(|flag| format!("--{flag}"))
                .chain(manual.variables.iter().map(|variable| variable.name.to_owned()))
                .chain(manual.ports.iter().map(|port| port.number.to_string()))
                .chain(manual.endpoints.iter().map(|endpoint| endpoint.path.split('?').next().unwrap().to_owned()));
            missing.extend(
                told.filter(|one| !text.contains(one.as_str())).map(|one| format!("{one} of {name} in {page}.md")),
            );
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }
}
