//! Removes what a pod had on the node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{
    container::ContainerRecord,
    prepare::{image_volume_id, root_id},
};
use crate::{context::Context, csi, local_storage::block, logs::links, paths::PodPaths, volumes::remove_tree};

/// Ends the sandbox and frees network, root file systems and volumes. Logs and the record stay. What fails is
/// reported; calling it again goes on where it failed.
pub async fn tear_down(
    context: &Arc<Context>,
    pod: &Pod,
    sandbox: Option<&str>,
    containers: &[ContainerRecord],
) -> Result<(), String> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    if let Some(sandbox) = sandbox {
        context.runtime.destroy_sandbox(sandbox).await.map_err(|e| e.to_string())?;
    }
    let host_network = pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    if !host_network {
        context.network.detach(&uid).await.map_err(|e| e.to_string())?;
    }
    if let Some(ids) = &context.ids {
        ids.release(&uid);
    }
    let roots = containers.iter().flat_map(|c| {
        let (uid, name) = (uid.clone(), c.name.clone());
        (c.restart_count.saturating_sub(1)..=c.restart_count.saturating_add(1)).map(move |n| root_id(&uid, &name, n))
    });
    for root in roots {
        context.images.remove_root(&root).await.map_err(|e| e.to_string())?;
    }
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    for volume in volumes.filter(|v| v.image.is_some()) {
        context.images.remove_root(&image_volume_id(&uid, &volume.name)).await.map_err(|e| e.to_string())?;
    }
    let paths = context.paths(pod);
    csi::unpublish_all(context, &paths.root).await?;
    let (volumes, root) = (paths.volumes(), context.data_dir().to_owned());
    let removed = tokio::task::spawn_blocking(move || {
        block::release(&root, &uid)?;
        volumes.iter().try_for_each(|v| remove_tree(v))
    })
    .await;
    match removed {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Removes the pod's directory and logs: it is gone from the API.
pub async fn forget(paths: PodPaths) {
    let removed = tokio::task::spawn_blocking(move || {
        let removed = [&paths.root, &paths.memory, &paths.logs].into_iter().try_for_each(|path| remove_tree(path));
        links::drop_dead(paths.log_links.as_deref(), &paths.logs);
        removed
    })
    .await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, "a pod's directory could not be removed");
    }
}
