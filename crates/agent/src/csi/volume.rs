//! A CSI volume for a pod: attached by others, staged on the node, published to the pod.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{CSIPersistentVolumeSource, CSIVolumeSource, PersistentVolumeSpec, Pod},
    storage::v1::CSIDriverSpec,
};
use kube::ResourceExt;
use tokio::{sync::watch, task::AbortHandle};

use super::{
    attachment::{self, Outcome},
    digest,
    driver::{Capability, Driver, Request},
    expand::Growth,
    held::unique_name,
    in_use,
    place::{DEVICES, Place},
    record::Published,
};
use crate::{
    context::Context,
    volumes::{Bound, Source, VolumeError, give_to_group_of},
};

/// The volume of a claim.
pub async fn persistent(
    context: &Arc<Context>,
    pod: &Pod,
    pods: &watch::Receiver<Arc<Pod>>,
    bound: &Bound,
    source: &CSIPersistentVolumeSource,
) -> Result<(Source, Vec<AbortHandle>), VolumeError> {
    let place = Place { context, pod, pods, name: bound.volume.name_any() };
    let none = PersistentVolumeSpec::default();
    let spec = bound.volume.spec.as_ref().unwrap_or(&none);
    let facts = place.facts(&source.driver).await?;
    let publish_context = match facts.attach_required {
        Some(false) => BTreeMap::new(),
        _ => attached(&place, &bound.name, source).await?,
    };
    let driver = place.driver(&source.driver)?;
    let namespaced = |secret: &Option<k8s_openapi::api::core::v1::SecretReference>| {
        secret.as_ref().map(|s| (s.namespace.clone().unwrap_or_default(), s.name.clone().unwrap_or_default()))
    };
    let block = bound.is_block();
    // The kubelet's choice.
    let first_mode = spec.access_modes.iter().flatten().next().map_or("ReadWriteOnce", String::as_str);
    let staging = match block {
        true => context.data_dir().join(DEVICES).join("staging").join(&place.name),
        false => context
            .data_dir()
            .join("plugins/kubernetes.io/csi")
            .join(&source.driver)
            .join(digest(&[&source.volume_handle]))
            .join("globalmount"),
    };
    let mut request = Request {
        volume_id: source.volume_handle.clone(),
        publish_context,
        staging: if driver.abilities.stages { staging.to_string_lossy().into_owned() } else { String::new() },
        capability: Capability {
            fs_type: source.fs_type.clone().unwrap_or_default(),
            mount_flags: spec.mount_options.clone().unwrap_or_default(),
            group: group_of(pod, &driver),
            mode: access_mode(first_mode, driver.abilities.single_node_writers),
            block,
        },
        secrets: BTreeMap::new(),
        context: source.volume_attributes.clone().unwrap_or_default(),
    };
    let stage = match driver.abilities.stages {
        true => {
            let secret = namespaced(&source.node_stage_secret_ref).unwrap_or_default();
            let name = Some(secret.1.as_str()).filter(|n| !n.is_empty());
            Some(Request { secrets: place.secret(&secret.0, name).await?, ..request.clone() })
        }
        false => None,
    };
    let secret = namespaced(&source.node_publish_secret_ref).unwrap_or_default();
    request.secrets = place.secret(&secret.0, Some(secret.1.as_str()).filter(|n| !n.is_empty())).await?;
    if facts.pod_info_on_mount == Some(true) {
        request.context.extend(place.pod_info(false));
    }
    let read_only = bound.read_only || source.read_only == Some(true);
    let (out, mut tasks) = place.publish_with_tokens(&driver, &facts, &request, stage, read_only).await?;
    let one_writer = spec.access_modes.iter().flatten().any(|m| m == "ReadWriteOnce" || m == "ReadWriteOncePod");
    if takes_group(&facts, source.fs_type.as_deref(), one_writer) && !driver.abilities.mount_group {
        give_to_group(&place, &out, &source.volume_handle).await?;
    }
    if !driver.abilities.expands || read_only {
        return Ok((out, tasks));
    }
    let secret = namespaced(&source.node_expand_secret_ref).unwrap_or_default();
    let name = Some(secret.1.as_str()).filter(|n| !n.is_empty());
    request.secrets = place.secret(&secret.0, name).await?;
    let growth = Growth {
        context: Arc::clone(context),
        pod: pod.clone(),
        claim: bound.claim.clone(),
        volume: place.name.clone(),
        driver,
        request,
        path: place.published(block),
    };
    let seen =
        growth.catch_up(false).await.map_err(|message| VolumeError::Expansion { volume: place.name, message })?;
    tasks.push(growth.follow(seen));
    Ok((out, tasks))
}

/// A volume that lives and dies with its pod.
pub async fn inline(
    context: &Arc<Context>,
    pod: &Pod,
    pods: &watch::Receiver<Arc<Pod>>,
    name: &str,
    source: &CSIVolumeSource,
) -> Result<(Source, Vec<AbortHandle>), VolumeError> {
    let place = Place { context, pod, pods, name: name.to_owned() };
    let driver = place.driver(&source.driver)?;
    let known = place.known(&source.driver).await?;
    if !known.iter().flat_map(|facts| facts.volume_lifecycle_modes.iter().flatten()).any(|mode| mode == "Ephemeral") {
        let why = match known.map(|facts| facts.volume_lifecycle_modes.unwrap_or_else(|| vec!["Persistent".to_owned()]))
        {
            Some(modes) => format!("only supports {modes:?}"),
            None => "no CSIDriver object".to_owned(),
        };
        return Err(place.fail(format!(
            "kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: volume mode \"Ephemeral\" not \
             supported by driver {} ({why})",
            source.driver,
        )));
    }
    let facts = known.unwrap_or_default();
    let secret = source.node_publish_secret_ref.as_ref().map(|s| s.name.as_str());
    let mut request = Request {
        volume_id: format!("csi-{}", digest(&[&pod.uid().unwrap_or_default(), name])),
        capability: Capability {
            fs_type: source.fs_type.clone().unwrap_or_default(),
            mode: access_mode("ReadWriteOnce", driver.abilities.single_node_writers),
            group: group_of(pod, &driver),
            ..Capability::default()
        },
        secrets: place.secret(&pod.namespace().unwrap_or_default(), secret).await?,
        context: source.volume_attributes.clone().unwrap_or_default(),
        ..Request::default()
    };
    if facts.pod_info_on_mount == Some(true) {
        request.context.extend(place.pod_info(true));
    }
    let read_only = source.read_only == Some(true);
    let (out, tasks) = place.publish_with_tokens(&driver, &facts, &request, None, read_only).await?;
    if takes_group(&facts, source.fs_type.as_deref(), true) && !driver.abilities.mount_group {
        give_to_group(&place, &out, name).await?;
    }
    Ok((out, tasks))
}

/// Whether the pod's group is to be given its files (`fsGroupPolicy`).
fn takes_group(facts: &CSIDriverSpec, fs_type: Option<&str>, one_writer: bool) -> bool {
    match facts.fs_group_policy.as_deref() {
        Some("None") => false,
        Some("File") => true,
        _ => one_writer && fs_type.is_some_and(|t| !t.is_empty()),
    }
}

/// Gives the files to the pod's group, if it may write to them; `volume` is what an error names.
async fn give_to_group(place: &Place<'_>, published: &Source, volume: &str) -> Result<(), VolumeError> {
    if published.read_only || published.block {
        return Ok(());
    }
    let given = give_to_group_of(place.pod, published.path.clone()).await;
    given.map_err(|error| place.fail(format!("applyFSGroup failed for vol {volume}: {error}")))
}

/// The pod's group as the driver is told it, if it wants to give it the files itself.
fn group_of(pod: &Pod, driver: &Driver) -> String {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let group = context.and_then(|context| context.fs_group).filter(|_| driver.abilities.mount_group);
    group.map(|group| group.to_string()).unwrap_or_default()
}

/// CSI's number of an access mode (`VolumeCapability.AccessMode.Mode`).
fn access_mode(mode: &str, single_node_writers: bool) -> u64 {
    match mode {
        "ReadWriteMany" => 5,
        "ReadOnlyMany" => 3,
        "ReadWriteOncePod" if single_node_writers => 6,
        "ReadWriteOnce" if single_node_writers => 7,
        _ => 1,
    }
}

/// Waits until the volume is attached to this node; gives what attaching it gave. `name` is the pod's of the volume.
async fn attached(
    place: &Place<'_>,
    name: &str,
    source: &CSIPersistentVolumeSource,
) -> Result<BTreeMap<String, String>, VolumeError> {
    let (context, driver, handle) = (place.context, &source.driver, &source.volume_handle);
    let known = context.csi.get(driver);
    let published = Published {
        driver_name: driver.clone(),
        volume_handle: handle.clone(),
        endpoint: known.map(|driver| driver.endpoint.clone()).unwrap_or_default(),
        staging: None,
        device: None,
        publish_called: false,
    };
    place.reserve(&published, true).await?;
    // From here on nobody detaches it, even if he was about to.
    in_use::try_tell(context).await.map_err(|error| place.fail(error.to_string()))?;
    let unique_name = unique_name(driver, handle);
    match attachment::wait(context, &unique_name, handle, driver).await {
        Outcome::Attached(gave) => Ok(gave),
        Outcome::NotNeeded => {
            let turn = context.holding.turn(driver, handle);
            let _known = turn.lock().await;
            place.hold(&published, |held| held.attachable = false).map_err(|e| place.fail(e.to_string()))?;
            in_use::tell(context).await;
            Ok(BTreeMap::new())
        }
        Outcome::Late => Err(VolumeError::Unattached { volume: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_modes_have_numbers() {
        let modes = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
        assert_eq!(modes.map(|mode| access_mode(mode, false)), [1, 3, 5, 1]);
        assert_eq!(modes.map(|mode| access_mode(mode, true)), [7, 3, 5, 6]);
    }
}
