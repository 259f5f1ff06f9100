//! Getting an image for a container to run or to read: the pull policy, the registry, and upstream's events and reasons.

use std::{sync::Arc, time::Instant};

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod, Secret};
use kube::Api;

use super::pull_secrets;
use crate::{
    context::Context,
    events::Severity,
    runtime::{Credential, ImageError, ImageInfo},
};

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before each start.
    Always,
    /// When it is not here.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// Why a container has no image: the waiting reason and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullFailure {
    /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`, `RegistryUnavailable`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Whether the image backoff counts it.
    pub counts: bool,
    /// The image that can't be had.
    pub image: String,
}

/// What is to be had, for which container.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The container that waits for it.
    pub container: &'a str,
    /// The image's name.
    pub image: &'a str,
    /// When it is pulled.
    pub policy: PullPolicy,
}

impl<'a> Wanted<'a> {
    /// The image that a container runs.
    pub fn of_container(container: &'a Container) -> Self {
        let image = container.image.as_deref().unwrap_or_default();
        Self { container: &container.name, image, policy: policy(container.image_pull_policy.as_deref(), image) }
    }

    /// The image that a container has mounted.
    pub fn of_volume(container: &'a Container, source: &'a ImageVolumeSource) -> Self {
        let image = source.reference.as_deref().unwrap_or_default();
        Self { container: &container.name, image, policy: policy(source.pull_policy.as_deref(), image) }
    }
}

/// The policy as it is declared; without one it depends on the tag, as upstream defaults it.
fn policy(declared: Option<&str>, image: &str) -> PullPolicy {
    match declared {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        _ => {
            let name = image.rsplit('/').next().unwrap_or_default();
            let latest = !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
            if latest { PullPolicy::Always } else { PullPolicy::IfNotPresent }
        }
    }
}

/// Makes sure that the image is here.
pub async fn ensure(context: &Arc<Context>, pod: &Pod, wanted: Wanted<'_>) -> Result<ImageInfo, PullFailure> {
    let Wanted { container: name, image, policy } = wanted;
    let recorder = &context.recorder;
    let fail = |reason, message, counts| PullFailure { reason, message, counts, image: image.to_owned() };
    let warn = |reason, message: String| recorder.container(pod, name, Severity::Warning, reason, message);
    let present = match context.images.find(image).await {
        Ok(present) => present,
        Err(ImageError::InvalidName { message, .. }) => {
            let message = format!(
                "Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {message}"
            );
            warn("InspectFailed", message.clone());
            warn("Failed", "Error: InvalidImageName".to_owned());
            return Err(fail("InvalidImageName", message, false));
        }
        Err(error) => {
            let message = format!("Failed to inspect image \"{image}\": {error}");
            warn("InspectFailed", message.clone());
            warn("Failed", "Error: ImageInspectError".to_owned());
            return Err(fail("ImageInspectError", message, false));
        }
    };
    let is_new = present.is_none();
    match (present, policy) {
        (Some(found), PullPolicy::IfNotPresent | PullPolicy::Never) => {
            let message =
                format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
            recorder.container(pod, name, Severity::Normal, "Pulled", message);
            return Ok(found);
        }
        (None, PullPolicy::Never) => {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            warn("ErrImageNeverPull", message.clone());
            warn("Failed", "Error: ErrImageNeverPull".to_owned());
            return Err(fail("ErrImageNeverPull", message, false));
        }
        _ => {}
    }
    let credentials = credentials(context, pod).await;
    recorder.container(pod, name, Severity::Normal, "Pulling", format!("Pulling image \"{image}\""));
    let began = Instant::now();
    match context.images.pull(image, &credentials).await {
        Ok(pulled) => {
            let took = took(began.elapsed());
            let message = format!(
                "Successfully pulled image \"{image}\" in {took} ({took} including waiting). Image size: {} bytes.",
                pulled.size
            );
            recorder.container(pod, name, Severity::Normal, "Pulled", message);
            context.images_changed.notify_one();
            if is_new {
                context.pulled_images.add(&pulled.id);
            }
            Ok(pulled)
        }
        Err(error) => {
            warn("Failed", format!("Failed to pull image \"{image}\": {error}"));
            let reason = match error {
                ImageError::RegistryUnavailable(_) => "RegistryUnavailable",
                ImageError::InvalidName { .. } => "InvalidImageName",
                _ => "ErrImagePull",
            };
            // Upstream shows an unreachable registry as a failed pull too.
            let reason = if reason == "RegistryUnavailable" { "ErrImagePull" } else { reason };
            warn("Failed", format!("Error: {reason}"));
            Err(fail(reason, error.to_string(), true))
        }
    }
}

async fn credentials(context: &Arc<Context>, pod: &Pod) -> Vec<Credential> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let names = pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()).map(|r| r.name.as_str());
    let fetched = futures::future::join_all(names.map(|name| {
        let api = api.clone();
        async move { (name, api.get_opt(name).await) }
    }))
    .await;
    let mut out = Vec::new();
    for (name, secret) in fetched {
        match secret {
            Ok(Some(secret)) => out.extend(pull_secrets::credentials(&secret)),
            _ => {
                let message = format!(
                    "Unable to retrieve some image pull secrets ({name}); attempting to pull the image may not succeed."
                );
                context.recorder.pod(pod, Severity::Warning, "FailedToRetrieveImagePullSecret", message);
            }
        }
    }
    out
}

/// As Go prints it, cut to milliseconds: `1.234s`, `87ms`, `1m2.5s`.
fn took(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let seconds = |ms: u128| {
        let text = format!("{}.{:03}", ms / 1000, ms % 1000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if millis < 60_000 {
        format!("{}s", seconds(millis))
    } else {
        format!("{}m{}s", millis / 60_000, seconds(millis % 60_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_defaults_by_tag() {
        for (image, expected) in [
            ("redis", PullPolicy::Always),
            ("redis:latest", PullPolicy::Always),
            ("redis:7", PullPolicy::IfNotPresent),
            ("host:5000/redis", PullPolicy::Always),
            ("host:5000/redis:7", PullPolicy::IfNotPresent),
            ("redis@sha256:00", PullPolicy::IfNotPresent),
        ] {
            assert_eq!(policy(None, image), expected, "{image}");
        }
    }

    #[test]
    fn durations_are_cut_to_milliseconds() {
        for (millis, text) in [(87, "87ms"), (1200, "1.2s"), (2000, "2s"), (62_500, "1m2.5s")] {
            assert_eq!(took(std::time::Duration::from_millis(millis)), text);
        }
    }
}
