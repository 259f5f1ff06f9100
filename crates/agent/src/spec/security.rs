//! What a container's security context asks of the runtime.

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

use super::capabilities;

/// The seccomp filter of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// None.
    Unconfined,
    /// The runtime's default profile.
    RuntimeDefault,
    /// A profile file on the node, relative to the agent's seccomp directory.
    Localhost(String),
}

/// All of it, pod and container merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// All devices, all capabilities, nothing masked.
    pub privileged: bool,
    /// `CAP_…` names of the bounding set.
    pub capabilities: Vec<String>,
    /// Mount the root read-only.
    pub read_only_root: bool,
    /// Forbid gaining privileges by set-user-ID programs.
    pub no_new_privileges: bool,
    /// The filter.
    pub seccomp: Seccomp,
    /// Leave `/proc` and `/sys` unmasked.
    pub unmasked_proc: bool,
}

/// Merges pod and container. Without a profile there is no filter unless `seccomp_default` says so, as with the kubelet's
/// `--seccomp-default`.
pub fn of(pod: &Pod, container: &Container, seccomp_default: bool) -> Security {
    let own = container.security_context.as_ref();
    let shared = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let privileged = own.and_then(|c| c.privileged).unwrap_or(false);
    let asked = own.and_then(|c| c.capabilities.as_ref());
    let profile = own.and_then(|c| c.seccomp_profile.as_ref()).or(shared.and_then(|p| p.seccomp_profile.as_ref()));
    Security {
        privileged,
        capabilities: capabilities::bounding(asked, privileged),
        read_only_root: own.and_then(|c| c.read_only_root_filesystem).unwrap_or(false),
        no_new_privileges: own.and_then(|c| c.allow_privilege_escalation) == Some(false),
        seccomp: seccomp(profile, privileged, seccomp_default),
        unmasked_proc: privileged || own.and_then(|c| c.proc_mount.as_deref()) == Some("Unmasked"),
    }
}

fn seccomp(profile: Option<&SeccompProfile>, privileged: bool, by_default: bool) -> Seccomp {
    match profile {
        _ if privileged => Seccomp::Unconfined,
        None if by_default => Seccomp::RuntimeDefault,
        None => Seccomp::Unconfined,
        Some(p) => match (p.type_.as_str(), &p.localhost_profile) {
            ("Unconfined", _) => Seccomp::Unconfined,
            ("Localhost", Some(path)) => Seccomp::Localhost(path.clone()),
            _ => Seccomp::RuntimeDefault,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(pod: serde_json::Value, container: serde_json::Value, by_default: bool) -> Seccomp {
        let container = json!({"name": "c", "securityContext": container});
        let pod = json!({"metadata": {}, "spec": {"securityContext": pod, "containers": [container]}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let container = pod.spec.as_ref().expect("a spec").containers[0].clone();
        of(&pod, &container, by_default).seccomp
    }

    #[test]
    fn without_a_profile_the_node_decides_about_the_filter() {
        assert_eq!(filter(json!({}), json!({}), false), Seccomp::Unconfined);
        assert_eq!(filter(json!({}), json!({}), true), Seccomp::RuntimeDefault);
        assert_eq!(filter(json!({}), json!({"privileged": true}), true), Seccomp::Unconfined);
        let (default, none) = (json!({"type": "RuntimeDefault"}), json!({"type": "Unconfined"}));
        assert_eq!(filter(json!({"seccompProfile": default}), json!({}), false), Seccomp::RuntimeDefault);
        assert_eq!(
            filter(json!({"seccompProfile": default}), json!({"seccompProfile": none}), true),
            Seccomp::Unconfined
        );
    }
}
