//! Staging a volume on the node and publishing it to a pod. Records are written before each call, so that what a driver
//! may have done is undone later, and what it surely has not is left alone.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::storage::v1::CSIDriverSpec;
use nix::sys::stat::{Mode, SFlag, mknod};
use tokio::task::AbortHandle;

use super::{
    call::is_final,
    driver::{Driver, Request},
    held::Held,
    place::Place,
    record::Published,
    tokens::{self, Republished},
};
use crate::volumes::{Source, VolumeError};

impl Place<'_> {
    /// Publishes it with the tokens that the driver wants, which are not part of the request that is kept: they grow
    /// old. Gives what asks the driver again as well, if it wants to be asked.
    pub async fn publish_with_tokens(
        &self,
        driver: &Arc<Driver>,
        facts: &CSIDriverSpec,
        request: &Request,
        stage: Option<Request>,
        read_only: bool,
    ) -> Result<(Source, Vec<AbortHandle>), VolumeError> {
        let given = tokens::get(self.context, self.pod, facts).await.map_err(|why| {
            self.fail(format!("mounter.SetUpAt failed to get service account token attributes: {why}"))
        })?;
        let source = self.publish(driver, &given.add_to(request, facts), stage, read_only).await?;
        let again = (facts.requires_republish == Some(true)).then(|| Republished {
            context: Arc::clone(self.context),
            pods: self.pods.clone(),
            volume: self.name.clone(),
            facts: facts.clone(),
            driver: Arc::clone(driver),
            request: request.clone(),
            path: self.published(request.capability.block),
            read_only,
        });
        Ok((source, again.map(|again| again.follow(given)).into_iter().collect()))
    }

    /// Notes that the pod is to have the volume before anything is done for it.
    pub async fn reserve(&self, published: &Published, attachable: bool) -> Result<(), VolumeError> {
        let turn = self.context.holding.turn(&published.driver_name, &published.volume_handle);
        let _known = turn.lock().await;
        if Published::load(&self.directory()).is_none() {
            published.save(&self.directory()).map_err(|e| self.fail(e.to_string()))?;
        }
        self.hold(published, |held| held.attachable |= attachable).map_err(|e| self.fail(e.to_string()))
    }

    /// The pod's own record; whether the driver was told to publish it before.
    fn note(&self, published: &Published) -> io::Result<bool> {
        let directory = self.directory();
        let called = Published::load(&directory).is_some_and(|before| before.publish_called);
        Published { publish_called: called || published.publish_called, ..published.clone() }.save(&directory)?;
        Ok(called)
    }

    /// The node's record, changed.
    pub fn hold(&self, published: &Published, change: impl FnOnce(&mut Held)) -> io::Result<()> {
        let data_dir = self.context.data_dir();
        let (driver, handle) = (&published.driver_name, &published.volume_handle);
        let mut held = Held::load(data_dir, driver, handle).unwrap_or_else(|| Held {
            driver_name: driver.clone(),
            volume_handle: handle.clone(),
            endpoint: published.endpoint.clone(),
            staging: None,
            stage_called: false,
            attachable: false,
        });
        held.endpoint.clone_from(&published.endpoint);
        held.staging = published.staging.clone().or(held.staging);
        change(&mut held);
        held.save(data_dir)
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
        let mut published = Published {
            driver_name: driver.name.clone(),
            volume_handle: request.volume_id.clone(),
            endpoint: driver.endpoint.clone(),
            staging: staging.clone(),
            device: device.clone(),
            publish_called: false,
        };
        let failed = |error: io::Error| self.fail(error.to_string());
        // Not while another pod's teardown decides whether it is the last to have the volume.
        let turn = self.context.holding.turn(&driver.name, &request.volume_id);
        let mut known = turn.lock().await;
        self.note(&published).map_err(failed)?;
        if let (Some(stage), Some(staging)) = (stage, staging)
            && !known.staged
        {
            fs::create_dir_all(&staging).map_err(failed)?;
            let mut before = false;
            self.hold(&published, |held| before = std::mem::replace(&mut held.stage_called, true)).map_err(failed)?;
            known.stage_is_own |= !before;
            if let Err(error) = driver.stage(&stage).await {
                if is_final(&error) && known.stage_is_own {
                    self.hold(&published, |held| held.stage_called = false).map_err(failed)?;
                }
                return Err(VolumeError::Device { volume: self.name.clone(), message: error.to_string() });
            }
            known.staged = true;
        }
        if let Some(parent) = device.as_ref().and_then(|d| d.parent()) {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        published.publish_called = true;
        if !self.note(&published).map_err(failed)? {
            known.publish_is_own.insert(directory.clone());
        }
        let block = device.is_some();
        let path = self.published(block);
        if let Err(error) = driver.publish(request, &path, read_only).await {
            if is_final(&error) && known.publish_is_own.contains(&directory) {
                Published { publish_called: false, ..published }.save(&directory).map_err(failed)?;
            }
            return Err(self.fail(error.to_string()));
        }
        // The driver's node is a mount on the host, which a sandbox from before does not see: its twin is a file.
        let path = if block { twin(&path, &directory.join("device")).map_err(failed)? } else { path };
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
