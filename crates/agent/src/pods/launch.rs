//! Creates and starts one container whose sandbox, volumes, image and references are there.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerUser, LinuxContainerUser, Pod};

use super::{
    container_spec::{self, Parts},
    prepare::Prepared,
    sandbox::SandboxUp,
};
use crate::{
    context::Context,
    device_plugins,
    events::Severity,
    logs::links,
    paths::PodPaths,
    runtime::SubPath,
    spec::{
        environment::{self, Inputs},
        field_reference::PodFacts,
        user,
    },
    volumes::{self, PodVolumes},
};

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchError {
    /// `CreateContainerConfigError`: what it needs is missing or forbidden.
    Config(String),
    /// `CreateContainerError`: the runtime could not make it.
    Create(String),
    /// `StartError`: its program could not be started.
    Start(String),
}

/// The runtime's id of a container in its sandbox.
pub fn runtime_id(container: &str, attempt: u32) -> String {
    format!("{container}.{attempt}")
}

/// The container's id as the API shows it (without the scheme).
pub fn public_id(sandbox: &str, container: &str, attempt: u32) -> String {
    format!("{sandbox}.{container}.{attempt}")
}

/// What is known of a container since its program was started.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// When that was.
    pub at: Timestamp,
    /// `status.user`; `None` if the runtime cannot tell.
    pub user: Option<ContainerUser>,
}

/// Does it; returns when its program was started. Events are recorded on the way.
pub async fn launch(
    context: &Arc<Context>,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    sandbox: &SandboxUp,
    volumes: &PodVolumes,
    prepared: Prepared,
) -> Result<Started, LaunchError> {
    let result = create_and_start(context, pod, container, attempt, sandbox, volumes, prepared).await;
    if let Err(error) = &result {
        let message = match error {
            LaunchError::Config(message) | LaunchError::Create(message) | LaunchError::Start(message) => message,
        };
        context.recorder.container(pod, &container.name, Severity::Warning, "Failed", format!("Error: {message}"));
    }
    result
}

async fn create_and_start(
    context: &Arc<Context>,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    sandbox: &SandboxUp,
    volumes: &PodVolumes,
    prepared: Prepared,
) -> Result<Started, LaunchError> {
    let config = LaunchError::Config;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let shared = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let subject = format!("pod: \"{name}_{namespace}({uid})\", container: {}", container.name);
    user::verify_non_root(shared, container.security_context.as_ref(), &prepared.image.user, &subject)
        .map_err(|e| config(e.to_string()))?;
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let services = context.services.of(namespace, links).await;
    let facts = PodFacts { pod_ips: sandbox.pod_ips.clone(), host_ips: context.host_ips() };
    let inputs = Inputs {
        pod,
        facts: &facts,
        references: &prepared.references,
        services: &services,
        files: &volumes::read_env_files(context, &sandbox.id, container, volumes).await,
        node: context.machine.allocatable(),
    };
    let environment = environment::build(container, &inputs).map_err(config)?;
    let paths = context.paths(pod);
    let volumes::Mounts { mut mounts, sub_paths } =
        volumes::mounts_of(container, volumes, &environment, &paths.sub_paths(&container.name, attempt))
            .map_err(|e| config(e.to_string()))?;
    for ignored in volumes::without_source(&mut mounts) {
        let text = format!("mountPropagation HostToContainer has no effect: {ignored}");
        context.recorder.container(pod, &container.name, Severity::Warning, "MountPropagationIgnored", text);
    }
    let id = runtime_id(&container.name, attempt);
    let mut devices = context.devices.start(uid, &container.name).await.map_err(config)?;
    device_plugins::inject(&mut devices, &context.config.cdi).map_err(LaunchError::Create)?;
    devices.devices.extend(volumes::devices_of(container, volumes).map_err(|e| config(e.to_string()))?);
    let parts = Parts {
        devices,
        pod,
        container,
        id: id.clone(),
        attempt,
        image: &prepared.image,
        root: prepared.root,
        environment,
        mounts,
        pid_of: prepared.pid_of,
        paths: &paths,
    };
    let spec = container_spec::build(context, parts).map_err(LaunchError::Create)?;
    let runs_as = spec.user.clone();
    for (volume, layers) in prepared.images {
        let target = paths.volume(volumes::IMAGE, &volume);
        let staged = context.runtime.stage_image(&sandbox.id, layers, target).await;
        staged.map_err(|e| config(format!("failed to mount image volume \"{volume}\": {e}")))?;
    }
    let staged = stage(context, &sandbox.id, container, &sub_paths).await;
    let made = match &staged {
        Ok(()) => context.runtime.create(&sandbox.id, spec).await.map_err(runtime_error),
        Err(error) => Err(config(error.to_string())),
    };
    if !sub_paths.is_empty() {
        // The container has its own mounts of them now.
        let done = sub_paths.into_iter().map(|(_, part)| part).collect();
        if let Err(error) = context.runtime.unstage_sub_paths(&sandbox.id, done).await {
            tracing::debug!(%error, container = container.name, "the binds of sub paths stay until the pod ends");
        }
    }
    made?;
    tell_of_selinux(context, pod, container);
    context.recorder.container(pod, &container.name, Severity::Normal, "Created", "Container created".to_owned());
    // Before its program can change the files that say so.
    let user = context.runtime.ids(&sandbox.id, &id, runs_as).await.map(shown);
    link_log(&paths, pod, container, attempt, &public_id(&sandbox.id, &container.name, attempt));
    context.runtime.start(&sandbox.id, &id).await.map_err(runtime_error)?;
    let at = Timestamp::now();
    context.recorder.container(pod, &container.name, Severity::Normal, "Started", "Container started".to_owned());
    Ok(Started { at, user })
}

/// Without the link the container runs all the same.
fn link_log(paths: &PodPaths, pod: &Pod, container: &Container, attempt: u32, id: &str) {
    let Some(directory) = &paths.log_links else { return };
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let name = links::name(&text(&pod.metadata.namespace), &text(&pod.metadata.name), &container.name, id);
    if let Err(error) = links::link(directory, &name, &paths.log(&container.name, attempt)) {
        tracing::warn!(%error, name, "a container's log has no link");
    }
}

/// A user as `status.user` has it (KEP-3619).
fn shown(ids: engine::Ids) -> ContainerUser {
    let groups = ids.additional_gids.into_iter().map(i64::from).collect();
    let linux = LinuxContainerUser { uid: ids.uid.into(), gid: ids.gid.into(), supplemental_groups: Some(groups) };
    ContainerUser { linux: Some(linux) }
}

/// No profile of SELinux is in force here: whoever asks for one hears of it.
fn tell_of_selinux(context: &Context, pod: &Pod, container: &Container) {
    let own = container.security_context.as_ref().and_then(|c| c.se_linux_options.as_ref());
    let shared = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.se_linux_options.as_ref());
    if own.or(shared).is_some() {
        let text = "seLinuxOptions have no effect: SELinux is not supported on this node";
        context.recorder.container(pod, &container.name, Severity::Warning, "SELinuxIgnored", text);
    }
}

async fn stage(
    context: &Arc<Context>,
    sandbox: &str,
    container: &Container,
    sub_paths: &[(String, SubPath)],
) -> Result<(), volumes::MountError> {
    for (volume, part) in sub_paths {
        if let Err(error) = context.runtime.stage_sub_path(sandbox, part.clone()).await {
            tracing::warn!(%error, volume, container = container.name, path = part.path, "a subPath can't be had");
            return Err(volumes::MountError::SubPath { volume: volume.clone(), container: container.name.clone() });
        }
    }
    Ok(())
}

fn runtime_error(error: engine::Error) -> LaunchError {
    match error {
        engine::Error::Start { message, .. } => LaunchError::Start(format!(
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: \
             unable to start container process: {message}: unknown"
        )),
        other => LaunchError::Create(other.to_string()),
    }
}
