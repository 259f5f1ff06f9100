//! A CSI volume for a pod: attached by others, staged on the node, published to the pod.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{CSIPersistentVolumeSource, CSIVolumeSource, PersistentVolumeSpec, Pod, Secret},
    storage::v1::{CSIDriver, CSIDriverSpec, VolumeAttachment},
};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use nix::sys::stat::{Mode, SFlag, mknod};
use tokio::task::AbortHandle;

use super::{
    call::PATIENCE,
    digest,
    driver::{Capability, Driver, Request},
    expand::Growth,
    record::Published,
    tokens::{self, Republished},
};
use crate::{
    context::Context,
    volumes::{Bound, Source, VolumeError, give_to_group_of},
};

/// Where block devices are staged and published, below the agent's directory as below the kubelet's.
const DEVICES: &str = "plugins/kubernetes.io/csi/volumeDevices";

/// Who wants a volume, and under which name.
struct Place<'a> {
    context: &'a Arc<Context>,
    pod: &'a Pod,
    /// Of the PersistentVolume, or of the pod's volume.
    name: String,
}

impl Place<'_> {
    fn fail(&self, message: impl Into<String>) -> VolumeError {
        VolumeError::SetUp { volume: self.name.clone(), message: message.into() }
    }

    fn driver(&self, name: &str) -> Result<Arc<Driver>, VolumeError> {
        self.context.csi.get(name).ok_or_else(|| {
            self.fail(format!(
                "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {name} not found in the list \
                 of registered CSI drivers"
            ))
        })
    }

    /// What the cluster knows of the driver; the defaults if nothing.
    async fn facts(&self, name: &str) -> Result<CSIDriverSpec, VolumeError> {
        Ok(self.known(name).await?.unwrap_or_default())
    }

    /// What the cluster knows of the driver, if anything.
    async fn known(&self, name: &str) -> Result<Option<CSIDriverSpec>, VolumeError> {
        let api: Api<CSIDriver> = Api::all(self.context.client.clone());
        let found = api.get_opt(name).await.map_err(|e| self.fail(e.to_string()))?;
        Ok(found.map(|driver| driver.spec))
    }

    async fn secret(&self, namespace: &str, name: Option<&str>) -> Result<BTreeMap<String, String>, VolumeError> {
        let Some(name) = name else { return Ok(BTreeMap::new()) };
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), namespace);
        let secret = api
            .get(name)
            .await
            .map_err(|e| self.fail(format!("fetching NodePublishSecretRef {namespace}/{name} failed: {e}")))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, text(v.0))).collect())
    }

    /// `podInfoOnMount`.
    fn pod_info(&self, ephemeral: bool) -> BTreeMap<String, String> {
        let account = self.pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).unwrap_or_default();
        [
            ("pod.name", self.pod.name_any()),
            ("pod.namespace", self.pod.namespace().unwrap_or_default()),
            ("pod.uid", self.pod.uid().unwrap_or_default()),
            ("serviceAccount.name", account),
            ("ephemeral", ephemeral.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value))
        .collect()
    }

    /// Where the driver is to put the node of a block device.
    fn device(&self) -> PathBuf {
        let uid = self.pod.uid().unwrap_or_default();
        self.context.data_dir().join(DEVICES).join("publish").join(&self.name).join(uid)
    }

    /// Where the driver was told to publish it.
    fn published(&self, block: bool) -> PathBuf {
        if block { self.device() } else { self.directory().join("mount") }
    }

    fn directory(&self) -> PathBuf {
        self.context.paths(self.pod).volume("csi", &self.name)
    }

    /// The tokens are not part of the request that is kept: they grow old.
    async fn publish_with_tokens(
        &self,
        driver: &Driver,
        facts: &CSIDriverSpec,
        request: &Request,
        stage: Option<Request>,
        read_only: bool,
    ) -> Result<Source, VolumeError> {
        let mut request = request.clone();
        let added = tokens::add(self.context, self.pod, facts, &mut request).await;
        added.map_err(|why| {
            self.fail(format!("mounter.SetUpAt failed to get service account token attributes: {why}"))
        })?;
        self.publish(driver, &request, stage, read_only).await
    }

    /// What asks the driver again, if it wants to be asked.
    fn republished(
        &self,
        driver: &Arc<Driver>,
        facts: &CSIDriverSpec,
        request: &Request,
        read_only: bool,
    ) -> Option<AbortHandle> {
        let wanted = facts.requires_republish == Some(true);
        wanted.then(|| {
            let again = Republished {
                context: Arc::clone(self.context),
                pod: self.pod.clone(),
                volume: self.name.clone(),
                facts: facts.clone(),
                driver: Arc::clone(driver),
                request: request.clone(),
                path: self.published(request.capability.block),
                read_only,
            };
            again.follow()
        })
    }

    async fn publish(
        &self,
        driver: &Driver,
        request: &Request,
        stage: Option<Request>,
        read_only: bool,
    ) -> Result<Source, VolumeError> {
        let directory = self.directory();
        let staging = stage.is_some().then(|| PathBuf::from(&request.staging));
        let device = request.capability.block.then(|| self.device());
        let published = Published {
            driver_name: driver.name.clone(),
            volume_handle: request.volume_id.clone(),
            endpoint: driver.endpoint.clone(),
            staging: staging.clone(),
            device: device.clone(),
        };
        // Not while another pod's teardown decides whether it is the last to have the volume.
        let _one = self.context.csi_staging.lock().await;
        published.save(&directory).map_err(|e| self.fail(e.to_string()))?;
        if let (Some(stage), Some(staging)) = (stage, staging) {
            fs::create_dir_all(&staging).map_err(|e| self.fail(e.to_string()))?;
            driver
                .stage(&stage)
                .await
                .map_err(|error| VolumeError::Device { volume: self.name.clone(), message: error.to_string() })?;
        }
        if let Some(parent) = device.as_ref().and_then(|d| d.parent()) {
            fs::create_dir_all(parent).map_err(|e| self.fail(e.to_string()))?;
        }
        let block = device.is_some();
        let path = self.published(block);
        driver.publish(request, &path, read_only).await.map_err(|error| self.fail(error.to_string()))?;
        // The driver's node is a mount on the host, which a sandbox from before does not see: its twin is a file.
        let path =
            if block { twin(&path, &directory.join("device")).map_err(|e| self.fail(e.to_string()))? } else { path };
        Ok(Source { path, read_only, block, memory: false })
    }
}

/// Another node of the same block device.
fn twin(device: &Path, at: &Path) -> io::Result<PathBuf> {
    let found = fs::metadata(device)?;
    if !found.file_type().is_block_device() {
        return Err(io::Error::other(format!("{} is not a block device", device.display())));
    }
    match fs::remove_file(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    mknod(at, SFlag::S_IFBLK, Mode::from_bits_truncate(0o600), found.rdev())?;
    Ok(at.to_owned())
}

/// The volume of a claim.
pub async fn persistent(
    context: &Arc<Context>,
    pod: &Pod,
    bound: &Bound,
    source: &CSIPersistentVolumeSource,
) -> Result<(Source, Vec<AbortHandle>), VolumeError> {
    let place = Place { context, pod, name: bound.volume.name_any() };
    let none = PersistentVolumeSpec::default();
    let spec = bound.volume.spec.as_ref().unwrap_or(&none);
    let facts = place.facts(&source.driver).await?;
    let publish_context = match facts.attach_required {
        Some(false) => BTreeMap::new(),
        _ => attached(&place, &source.volume_handle, &source.driver).await?,
    };
    let driver = place.driver(&source.driver)?;
    let namespaced = |secret: &Option<k8s_openapi::api::core::v1::SecretReference>| {
        secret.as_ref().map(|s| (s.namespace.clone().unwrap_or_default(), s.name.clone().unwrap_or_default()))
    };
    let group = fs_group(pod);
    let block = bound.is_block();
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
            group: group.filter(|_| driver.abilities.mount_group).map(|g| g.to_string()).unwrap_or_default(),
            mode: access_mode(spec, driver.abilities.single_node_writers),
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
    let out = place.publish_with_tokens(&driver, &facts, &request, stage, read_only).await?;
    let mut tasks: Vec<AbortHandle> = place.republished(&driver, &facts, &request, read_only).into_iter().collect();
    let one_writer = spec.access_modes.iter().flatten().any(|m| m == "ReadWriteOnce" || m == "ReadWriteOncePod");
    let give = match facts.fs_group_policy.as_deref() {
        Some("None") => false,
        Some("File") => true,
        _ => one_writer && source.fs_type.as_ref().is_some_and(|t| !t.is_empty()),
    };
    if give && !read_only && !block && !driver.abilities.mount_group {
        give_to_group_of(pod, out.path.clone())
            .await
            .map_err(|e| place.fail(format!("applyFSGroup failed for vol {}: {e}", source.volume_handle)))?;
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
    growth.catch_up(&bound.volume).await.map_err(|message| VolumeError::Expansion { volume: place.name, message })?;
    tasks.push(growth.follow());
    Ok((out, tasks))
}

/// A volume that lives and dies with its pod.
pub async fn inline(
    context: &Arc<Context>,
    pod: &Pod,
    name: &str,
    source: &CSIVolumeSource,
) -> Result<(Source, Vec<AbortHandle>), VolumeError> {
    let place = Place { context, pod, name: name.to_owned() };
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
            mode: 1,
            ..Capability::default()
        },
        secrets: place.secret(&pod.namespace().unwrap_or_default(), secret).await?,
        context: source.volume_attributes.clone().unwrap_or_default(),
        ..Request::default()
    };
    match facts.pod_info_on_mount {
        Some(true) => request.context.extend(place.pod_info(true)),
        _ => drop(request.context.insert("csi.storage.k8s.io/ephemeral".to_owned(), "true".to_owned())),
    }
    let read_only = source.read_only == Some(true);
    let out = place.publish_with_tokens(&driver, &facts, &request, None, read_only).await?;
    let tasks = place.republished(&driver, &facts, &request, read_only).into_iter().collect();
    if facts.fs_group_policy.as_deref() != Some("None") && !read_only {
        give_to_group_of(pod, out.path.clone())
            .await
            .map_err(|e| place.fail(format!("applyFSGroup failed for vol {name}: {e}")))?;
    }
    Ok((out, tasks))
}

fn fs_group(pod: &Pod) -> Option<i64> {
    pod.spec.as_ref()?.security_context.as_ref()?.fs_group
}

/// CSI's number of the strongest access mode (`VolumeCapability.AccessMode.Mode`).
fn access_mode(spec: &PersistentVolumeSpec, single_node_writers: bool) -> u64 {
    let has = |mode: &str| spec.access_modes.iter().flatten().any(|m| m == mode);
    match () {
        () if has("ReadWriteMany") => 5,
        () if has("ReadOnlyMany") && has("ReadWriteOnce") => 4,
        () if has("ReadOnlyMany") => 3,
        () if has("ReadWriteOncePod") && single_node_writers => 6,
        () if has("ReadWriteOnce") && single_node_writers => 7,
        () => 1,
    }
}

/// Waits until the volume is attached to this node; gives what attaching it gave.
async fn attached(place: &Place<'_>, handle: &str, driver: &str) -> Result<BTreeMap<String, String>, VolumeError> {
    let name = format!("csi-{}", digest(&[handle, driver, &place.context.config.node_name]));
    let api: Api<VolumeAttachment> = Api::all(place.context.client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = watching::watch(api, config).applied_objects();
    let wait = async {
        while let Some(change) = changes.next().await {
            let Some(status) = change.ok().and_then(|attachment| attachment.status) else { continue };
            if status.attached {
                return Ok(status.attachment_metadata.unwrap_or_default().into_iter().collect());
            }
            if let Some(error) = status.attach_error {
                return Err(error.message.unwrap_or_default());
            }
        }
        Err("the watch has ended".to_owned())
    };
    let fail = |message| VolumeError::Attach { volume: place.name.clone(), message };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(result) => result.map_err(fail),
        Err(_) => Err(fail(format!(
            "timed out waiting for external-attacher of {driver} CSI driver to attach volume {handle}"
        ))),
    }
}
