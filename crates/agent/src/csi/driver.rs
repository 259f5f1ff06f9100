//! A registered driver and the calls of CSI's node service.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::call::call;
use grpc::{Fields, Message, Status};

/// What a driver can do beyond publishing (`NodeServiceCapability.RPC.Type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// `STAGE_UNSTAGE_VOLUME`
    pub stages: bool,
    /// `EXPAND_VOLUME`
    pub expands: bool,
    /// `SINGLE_NODE_MULTI_WRITER`
    pub single_node_writers: bool,
    /// `GET_VOLUME_STATS`
    pub measures: bool,
    /// `VOLUME_MOUNT_GROUP`: it applies `fsGroup` itself.
    pub mount_group: bool,
}

/// A driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// As CSIDriver objects and volumes name it.
    pub name: String,
    /// Its socket.
    pub endpoint: PathBuf,
    /// The socket in the registry by which it came.
    pub registered_by: PathBuf,
    /// What it calls this node.
    pub node_id: String,
    /// Volumes that it can have on this node; zero: no limit.
    pub max_volumes: u64,
    /// Where the node is, for the driver's volumes.
    pub topology: BTreeMap<String, String>,
    /// What it can do.
    pub abilities: Abilities,
}

/// How a volume is to be used.
#[derive(Clone, Debug, Default)]
pub struct Capability {
    /// The file system.
    pub fs_type: String,
    /// Mount options.
    pub mount_flags: Vec<String>,
    /// The pod's group, for drivers that apply it themselves.
    pub group: String,
    /// CSI's number of the access mode.
    pub mode: u64,
    /// It is to be a block device; the rest but the mode means nothing then.
    pub block: bool,
}

impl Capability {
    fn encode(&self) -> Message {
        let mode = Message::default().number(1, self.mode);
        if self.block {
            return Message::default().message(1, &Message::default()).message(3, &mode);
        }
        let mount = Message::default()
            .text(1, &self.fs_type)
            .texts(2, self.mount_flags.iter().map(String::as_str))
            .text(3, &self.group);
        Message::default().message(2, &mount).message(3, &mode)
    }
}

/// What staging and publishing have in common.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The driver's id of the volume.
    pub volume_id: String,
    /// What attaching it gave.
    pub publish_context: BTreeMap<String, String>,
    /// Where it is staged; empty if the driver does not stage.
    pub staging: String,
    /// How it is to be used.
    pub capability: Capability,
    /// Secrets.
    pub secrets: BTreeMap<String, String>,
    /// The volume's attributes, and what the driver wants to know of the pod.
    pub context: BTreeMap<String, String>,
}

impl Driver {
    /// Asks a driver what it is.
    pub async fn ask(name: String, endpoint: PathBuf, registered_by: PathBuf) -> Result<Self, Status> {
        let info = call(&endpoint, "csi.v1.Node/NodeGetInfo", &Message::default()).await?;
        let info = Fields::read(&info);
        let answer = call(&endpoint, "csi.v1.Node/NodeGetCapabilities", &Message::default()).await?;
        let mut abilities = Abilities::default();
        for capability in Fields::read(&answer).all(1) {
            let rpc = Fields::read(capability).message(1).map_or(0, |rpc| rpc.number(1));
            match rpc {
                1 => abilities.stages = true,
                2 => abilities.measures = true,
                3 => abilities.expands = true,
                5 => abilities.single_node_writers = true,
                6 => abilities.mount_group = true,
                _ => {}
            }
        }
        let topology = info.message(3).map(|t| t.map(1)).unwrap_or_default();
        Ok(Self {
            name,
            endpoint,
            registered_by,
            node_id: info.text(1),
            max_volumes: info.number(2),
            topology,
            abilities,
        })
    }

    /// Makes the volume ready on the node, once for all pods.
    pub async fn stage(&self, request: &Request) -> Result<(), Status> {
        let message = Message::default()
            .text(1, &request.volume_id)
            .map(2, &request.publish_context)
            .text(3, &request.staging)
            .message(4, &request.capability.encode())
            .map(5, &request.secrets)
            .map(6, &request.context);
        call(&self.endpoint, "csi.v1.Node/NodeStageVolume", &message).await.map(drop)
    }

    /// Makes it ready for a pod.
    pub async fn publish(&self, request: &Request, target: &Path, read_only: bool) -> Result<(), Status> {
        let message = Message::default()
            .text(1, &request.volume_id)
            .map(2, &request.publish_context)
            .text(3, &request.staging)
            .text(4, &target.to_string_lossy())
            .message(5, &request.capability.encode())
            .flag(6, read_only)
            .map(7, &request.secrets)
            .map(8, &request.context);
        call(&self.endpoint, "csi.v1.Node/NodePublishVolume", &message).await.map(drop)
    }

    /// The volume, published at `path`, has `bytes` now: its file system is to follow.
    pub async fn expand(&self, request: &Request, path: &Path, bytes: u64) -> Result<(), Status> {
        let message = Message::default()
            .text(1, &request.volume_id)
            .text(2, &path.to_string_lossy())
            .message(3, &Message::default().number(1, bytes))
            .text(4, &request.staging)
            .message(5, &request.capability.encode())
            .map(6, &request.secrets);
        call(&self.endpoint, "csi.v1.Node/NodeExpandVolume", &message).await.map(drop)
    }
}

/// What a driver says of a volume that it has published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Free, all and used, in bytes.
    pub bytes: Option<[u64; 3]>,
    /// Free, all and used.
    pub inodes: Option<[u64; 3]>,
}

impl Driver {
    /// How full the volume published at `path` is; `staging` is empty if it is not staged.
    pub async fn measure(&self, volume_id: &str, path: &Path, staging: &str) -> Result<Fill, Status> {
        let message = Message::default().text(1, volume_id).text(2, &path.to_string_lossy()).text(3, staging);
        let answer = call(&self.endpoint, "csi.v1.Node/NodeGetVolumeStats", &message).await?;
        let mut fill = Fill::default();
        for usage in Fields::read(&answer).all(1) {
            let usage = Fields::read(usage);
            let amounts = [1, 2, 3].map(|field| usage.number(field));
            match usage.number(4) {
                1 => fill.bytes = Some(amounts),
                2 => fill.inodes = Some(amounts),
                _ => {}
            }
        }
        Ok(fill)
    }
}

/// Takes it from a pod.
pub async fn unpublish(endpoint: &Path, volume_id: &str, target: &Path) -> Result<(), Status> {
    let message = Message::default().text(1, volume_id).text(2, &target.to_string_lossy());
    gone_is_fine(call(endpoint, "csi.v1.Node/NodeUnpublishVolume", &message).await)
}

/// Takes it from the node.
pub async fn unstage(endpoint: &Path, volume_id: &str, staging: &Path) -> Result<(), Status> {
    let message = Message::default().text(1, volume_id).text(2, &staging.to_string_lossy());
    gone_is_fine(call(endpoint, "csi.v1.Node/NodeUnstageVolume", &message).await)
}

fn gone_is_fine<T>(result: Result<T, Status>) -> Result<(), Status> {
    match result {
        Err(error) if error.code == Status::NOT_FOUND => Ok(()),
        other => other.map(drop),
    }
}
