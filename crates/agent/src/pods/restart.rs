//! Whether a container that ended is started again.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::container::Role;

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

/// Whether `exit_code` leads to a restart.
pub fn wanted(spec: &PodSpec, container: &Container, role: Role, exit_code: i32) -> bool {
    for rule in container.restart_policy_rules.iter().flatten().filter(|r| r.action == "Restart") {
        if let Some(codes) = &rule.exit_codes {
            let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
            if (codes.operator == "In") == listed {
                return true;
            }
        }
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
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}))
        .expect("a container");
        assert!(wanted(&spec, &container, Role::App, 42));
        assert!(!wanted(&spec, &container, Role::App, 1));
    }
}
