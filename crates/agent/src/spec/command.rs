//! The argument vector of a container: the pod's command and args over the image's ENTRYPOINT and CMD.

use k8s_openapi::api::core::v1::Container;

use super::expansion::expand;

/// Upstream's table: `command` replaces ENTRYPOINT *and* CMD; `args` alone replaces CMD. Empty if there is none.
pub fn arguments(
    container: &Container,
    entrypoint: &[String],
    cmd: &[String],
    environment: &[(String, String)],
) -> Vec<String> {
    let lookup = |name: &str| environment.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    let expanded =
        |list: &Option<Vec<String>>| -> Vec<String> { list.iter().flatten().map(|a| expand(a, lookup)).collect() };
    let command = expanded(&container.command);
    let args = expanded(&container.args);
    match (command.is_empty(), args.is_empty()) {
        (false, _) => [command, args].concat(),
        (true, false) => [entrypoint.to_vec(), args].concat(),
        (true, true) => [entrypoint.to_vec(), cmd.to_vec()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_and_args_override_entrypoint_and_cmd() {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let (ep, cmd) = (list(&["/ep"]), list(&["c"]));
        for (command, args, expected) in [
            (&[][..], &[][..], &["/ep", "c"][..]),
            (&["/x"], &[], &["/x"]),
            (&[], &["a"], &["/ep", "a"]),
            (&["/x"], &["$(N)", "$$(N)"], &["/x", "7", "$(N)"]),
        ] {
            let container = Container { command: Some(list(command)), args: Some(list(args)), ..Container::default() };
            assert_eq!(arguments(&container, &ep, &cmd, &[("N".into(), "7".into())]), expected);
        }
    }
}
