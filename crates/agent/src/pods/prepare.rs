//! What a container needs before it can be created, gathered while the sandbox is being made: image, root file
//! system, and the ConfigMaps and Secrets of its environment.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use engine::Rootfs;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::Api;

use super::image_pull::{self, PullFailure};
use crate::{
    context::Context,
    runtime::ImageInfo,
    spec::environment::{self, References},
};

/// Ready for the launch.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The image.
    pub image: ImageInfo,
    /// The root file system.
    pub root: Rootfs,
    /// The layers of the images that it mounts, the topmost first, by the name of the volume.
    pub images: BTreeMap<String, Vec<PathBuf>>,
    /// What the environment refers to.
    pub references: References,
    /// The runtime's id of the container whose processes it is to see, for an ephemeral container with a target.
    pub pid_of: Option<String>,
}

/// Why not.
#[derive(Clone, Debug)]
pub enum PrepareError {
    /// An image is missing.
    Image(PullFailure),
    /// A root file system could not be made: `CreateContainerError`.
    Root(String),
    /// The API did not answer: `CreateContainerConfigError`.
    References(String),
}

/// The name of the root file system of one attempt.
pub fn root_id(uid: &str, container: &str, attempt: u32) -> String {
    format!("{uid}.{container}.{attempt}")
}

/// The name of what a pod's volume shows of an image.
pub fn image_volume_id(uid: &str, volume: &str) -> String {
    format!("{uid}.{volume}.volume")
}

/// Gathers it all.
pub async fn prepare(
    context: &Arc<Context>,
    pod: &Pod,
    container: &Container,
    attempt: u32,
) -> Result<Prepared, PrepareError> {
    let root_id = root_id(pod.metadata.uid.as_deref().unwrap_or_default(), &container.name, attempt);
    let image_and_root = async {
        let wanted = image_pull::Wanted::of_container(container);
        let image = image_pull::ensure(context, pod, wanted).await.map_err(PrepareError::Image)?;
        let root =
            context.images.prepare_root(&root_id, &image).await.map_err(|e| PrepareError::Root(e.to_string()))?;
        Ok((image, root, image_volumes(context, pod, container).await?))
    };
    let references = references(context, pod, container);
    let (image_and_root, references) = futures::join!(image_and_root, references);
    let (image, root, images) = image_and_root?;
    Ok(Prepared { image, root, images, references: references.map_err(PrepareError::References)?, pid_of: None })
}

/// Pulls what the container has mounted of images. One that no container mounts is of no interest.
async fn image_volumes(
    context: &Arc<Context>,
    pod: &Pod,
    container: &Container,
) -> Result<BTreeMap<String, Vec<PathBuf>>, PrepareError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut out = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let Some(source) = &volume.image else { continue };
        if !container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name) {
            continue;
        }
        let wanted = image_pull::Wanted::of_volume(container, source);
        let image = image_pull::ensure(context, pod, wanted).await.map_err(PrepareError::Image)?;
        let layers = context.images.prepare_volume(&image_volume_id(uid, &volume.name), &image).await;
        out.insert(volume.name.clone(), layers.map_err(|e| PrepareError::Root(e.to_string()))?);
    }
    Ok(out)
}

async fn references(context: &Arc<Context>, pod: &Pod, container: &Container) -> Result<References, String> {
    let wanted = environment::wanted(container);
    let mut out = References::default();
    if wanted.config_maps.is_empty() && wanted.secrets.is_empty() {
        return Ok(out);
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let config_maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let (config_maps, secrets) = futures::join!(
        futures::future::join_all(wanted.config_maps.iter().map(|name| config_maps.get_opt(name))),
        futures::future::join_all(wanted.secrets.iter().map(|name| secrets.get_opt(name))),
    );
    for (name, found) in wanted.config_maps.iter().zip(config_maps) {
        if let Some(found) = found.map_err(|e| e.to_string())? {
            out.config_maps.insert(name.clone(), Arc::new(found));
        }
    }
    for (name, found) in wanted.secrets.iter().zip(secrets) {
        if let Some(found) = found.map_err(|e| e.to_string())? {
            out.secrets.insert(name.clone(), Arc::new(found));
        }
    }
    Ok(out)
}
