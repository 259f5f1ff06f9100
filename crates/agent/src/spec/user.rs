//! The user and groups a container's process runs as, by the pod and the image.

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};

/// Why no identity can be given. The messages are the kubelet's and containerd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// `runAsNonRoot` with root as the effective user.
    #[error("container has runAsNonRoot and image will run as root ({0})")]
    ImageRunsAsRoot(String),
    /// `runAsNonRoot` with `runAsUser: 0`.
    #[error("container's runAsUser breaks non-root policy ({0})")]
    RunsAsRoot(String),
    /// `runAsNonRoot`, and the image names its user.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root ({subject})"
    )]
    NonNumeric {
        /// As the image has it.
        user: String,
        /// Pod and container.
        subject: String,
    },
}

/// Refuses root where the pod asks for that. `image_user` is the image's USER; `subject` names pod and
/// container in the message, as upstream's does.
pub fn verify_non_root(
    pod: Option<&PodSecurityContext>,
    container: Option<&SecurityContext>,
    image_user: &str,
    subject: &str,
) -> Result<(), UserError> {
    let required = container.and_then(|c| c.run_as_non_root).or(pod.and_then(|p| p.run_as_non_root)).unwrap_or(false);
    if !required {
        return Ok(());
    }
    if let Some(uid) = container.and_then(|c| c.run_as_user).or(pod.and_then(|p| p.run_as_user)) {
        return if uid == 0 { Err(UserError::RunsAsRoot(subject.to_owned())) } else { Ok(()) };
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(0) => Err(UserError::ImageRunsAsRoot(subject.to_owned())),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => Err(UserError::ImageRunsAsRoot(subject.to_owned())),
        Err(_) => Err(UserError::NonNumeric { user: user.to_owned(), subject: subject.to_owned() }),
    }
}

/// What the runtime resolves against the image's files: `runAsUser`/`runAsGroup` or else the image's USER
/// (`user[:group]`), with `supplementalGroups` and `fsGroup` as further groups.
pub fn of(pod: Option<&PodSecurityContext>, container: Option<&SecurityContext>, image_user: &str) -> engine::UserSpec {
    let asked_user = container.and_then(|c| c.run_as_user).or(pod.and_then(|p| p.run_as_user));
    let asked_group = container.and_then(|c| c.run_as_group).or(pod.and_then(|p| p.run_as_group));
    let (image_user, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let user = asked_user
        .map_or_else(|| if image_user.is_empty() { "0".to_owned() } else { image_user.to_owned() }, |u| u.to_string());
    let group = match (asked_group, asked_user) {
        (Some(gid), _) => gid.to_string(),
        (None, None) => image_group.to_owned(),
        (None, Some(_)) => String::new(),
    };
    let mut additional_gids: Vec<u32> = Vec::new();
    let groups = pod.into_iter().flat_map(|p| p.supplemental_groups.iter().flatten().copied().chain(p.fs_group));
    for gid in groups.filter_map(|g| u32::try_from(g).ok()) {
        if !additional_gids.contains(&gid) {
            additional_gids.push(gid);
        }
    }
    engine::UserSpec {
        user: if group.is_empty() { user } else { format!("{user}:{group}") },
        additional_gids,
        image_groups: pod.and_then(|p| p.supplemental_groups_policy.as_deref()) != Some("Strict"),
    }
}

/// The user that all containers of a pod are told to run as; `None` if they differ or one is not told.
pub fn only_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let common = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let own = |container: &Container| container.security_context.as_ref().and_then(|context| context.run_as_user);
    let mut users = spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| own(c).or(common));
    let first = users.next()??;
    let same = users.all(|user| user == Some(first));
    u32::try_from(first).ok().filter(|_| same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> PodSecurityContext {
        serde_json::from_value(json).expect("a security context")
    }

    #[test]
    fn the_pod_overrides_the_image_and_the_container_the_pod() {
        assert_eq!(of(None, None, "").user, "0");
        assert_eq!(of(None, None, "redis:www").user, "redis:www");
        let pod = pod(serde_json::json!({"runAsUser": 101, "fsGroup": 2000, "supplementalGroups": [4, 9, 4]}));
        let got = of(Some(&pod), None, "redis:www");
        assert_eq!((got.user.as_str(), got.additional_gids, got.image_groups), ("101", vec![4, 9, 2000], true));
        let own = SecurityContext { run_as_user: Some(0), run_as_group: Some(7), ..SecurityContext::default() };
        assert_eq!(of(Some(&pod), Some(&own), "").user, "0:7");
        assert_eq!(
            of(None, Some(&SecurityContext { run_as_group: Some(7), ..Default::default() }), "redis:www").user,
            "redis:7"
        );
    }

    #[test]
    fn a_pods_only_user_is_the_one_that_all_its_containers_share() {
        let user = |spec: serde_json::Value| {
            only_user(&serde_json::from_value(serde_json::json!({"spec": spec})).expect("a pod"))
        };
        let common = serde_json::json!({"runAsUser": 1000});
        let (plain, own) = (
            serde_json::json!({"name": "a"}),
            |id: i64| serde_json::json!({"name": "b", "securityContext": {"runAsUser": id}}),
        );
        assert_eq!(user(serde_json::json!({"containers": [plain]})), None);
        assert_eq!(user(serde_json::json!({"securityContext": common, "containers": [plain]})), Some(1000));
        assert_eq!(user(serde_json::json!({"securityContext": common, "containers": [plain, own(1000)]})), Some(1000));
        assert_eq!(user(serde_json::json!({"securityContext": common, "containers": [plain, own(2)]})), None);
        assert_eq!(user(serde_json::json!({"containers": [own(2)], "initContainers": [own(2)]})), Some(2));
        assert_eq!(user(serde_json::json!({"containers": [own(2)], "initContainers": [plain]})), None);
    }

    #[test]
    fn root_is_refused_where_the_pod_forbids_it() {
        let forbid = pod(serde_json::json!({"runAsNonRoot": true}));
        let check = |user: &str| verify_non_root(Some(&forbid), None, user, "p").map_err(|e| e.to_string());
        assert_eq!(check(""), Err("container has runAsNonRoot and image will run as root (p)".into()));
        assert_eq!(check("0"), Err("container has runAsNonRoot and image will run as root (p)".into()));
        assert_eq!(check("101"), Ok(()));
        assert!(check("redis").is_err_and(|e| e.contains("non-numeric user (redis)")));
        let zero = SecurityContext { run_as_user: Some(0), ..SecurityContext::default() };
        assert!(verify_non_root(Some(&forbid), Some(&zero), "101", "p").is_err());
        assert_eq!(verify_non_root(None, Some(&zero), "", "p"), Ok(()));
    }
}
