//! Whether a container that ended is started again.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::container::Role;

/// The action of a rule that restarts all containers.
const ALL: &str = "RestartAllContainers";

/// `restartPolicy` with the container's own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// When its exit code is not 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// The policy in force for a container.
pub fn policy(spec: &PodSpec, container: &Container, role: Role) -> RestartPolicy {
    let pod = spec.restart_policy.as_deref();
    match (role, container.restart_policy.as_deref().or(pod)) {
        (Role::Sidecar, _) => RestartPolicy::Always,
        (Role::Ephemeral, _) => RestartPolicy::Never,
        (_, Some("Never")) => RestartPolicy::Never,
        (_, Some("OnFailure")) => RestartPolicy::OnFailure,
        // An init container that succeeded is never run again.
        (Role::Init, _) => RestartPolicy::OnFailure,
        (Role::App, _) => RestartPolicy::Always,
    }
}

/// The action of the first of the container's own rules that knows `exit_code`.
fn action(container: &Container, exit_code: i32) -> Option<&str> {
    let rules = container.restart_policy_rules.iter().flatten();
    let mut fitting = rules.filter(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
            (codes.operator == "In") == listed
        })
    });
    fitting.next().map(|rule| rule.action.as_str())
}

/// Whether `exit_code` leads to a restart of all containers of the pod (KEP-5532).
pub fn of_all(container: &Container, exit_code: i32) -> bool {
    action(container, exit_code) == Some(ALL)
}

/// Whether some end of some container may lead to that.
pub fn may_be_of_all(spec: &PodSpec) -> bool {
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.any(|c| c.restart_policy_rules.iter().flatten().any(|rule| rule.action == ALL))
}

/// Whether `exit_code` leads to a restart.
pub fn wanted(spec: &PodSpec, container: &Container, role: Role, exit_code: i32) -> bool {
    if action(container, exit_code).is_some_and(|action| action == "Restart" || action == ALL) {
        return true;
    }
    match policy(spec, container, role) {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_policy_decides_by_exit_code_and_role() {
        for (pod, role, code, expected) in [
            ("Always", Role::App, 0, true),
            ("Always", Role::App, 1, true),
            ("OnFailure", Role::App, 0, false),
            ("OnFailure", Role::App, 1, true),
            ("Never", Role::App, 1, false),
            ("Always", Role::Init, 0, false),
            ("Always", Role::Init, 1, true),
            ("Never", Role::Init, 1, false),
            ("Never", Role::Sidecar, 0, true),
        ] {
            let spec: PodSpec =
                serde_json::from_value(json!({"restartPolicy": pod, "containers": []})).expect("a spec");
            assert_eq!(wanted(&spec, &Container::default(), role, code), expected, "{pod} {role:?} {code}");
        }
    }

    #[test]
    fn a_containers_own_rules_come_first() {
        let spec: PodSpec =
            serde_json::from_value(json!({"restartPolicy": "Never", "containers": []})).expect("a spec");
        let container: Container = serde_json::from_value(json!({"name": "c", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
                {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42, 43]}}]}))
        .expect("a container");
        assert!(wanted(&spec, &container, Role::App, 43) && of_all(&container, 43) && !of_all(&container, 42));
        assert!(wanted(&spec, &container, Role::App, 42));
        assert!(!wanted(&spec, &container, Role::App, 1));
    }
}
