//! Disks that pods name in their own specs, and that not all pods of a node may have at once (upstream's
//! `VolumeRestrictions`).

use k8s_openapi::api::core::v1::{PodSpec, Volume};

/// One disk, and whether it is only read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    which: Which,
    read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    /// By name.
    Gce(String),
    /// By the volume's id; readers too exclude each other.
    Ebs(String),
    /// By the target's qualified name.
    Iscsi(String),
    /// An image in a pool that any of these monitors knows.
    Rbd { monitors: Vec<String>, pool: String, image: String },
}

impl Disk {
    /// Whether two pods with these disks can't share a node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let one = match (&self.which, &other.which) {
            (Which::Rbd { monitors, pool, image }, Which::Rbd { monitors: others, pool: at, image: of }) => {
                pool == at && image == of && monitors.iter().any(|monitor| others.contains(monitor))
            }
            (one, other) => one == other,
        };
        one && (matches!(self.which, Which::Ebs(_)) || !(self.read_only && other.read_only))
    }
}

/// The disks of a pod.
pub(crate) fn disks_of(spec: &PodSpec) -> Vec<Disk> {
    spec.volumes.iter().flatten().filter_map(disk).collect()
}

fn disk(volume: &Volume) -> Option<Disk> {
    let (which, read_only) = if let Some(gce) = &volume.gce_persistent_disk {
        (Which::Gce(gce.pd_name.clone()), gce.read_only)
    } else if let Some(ebs) = &volume.aws_elastic_block_store {
        (Which::Ebs(ebs.volume_id.clone()), ebs.read_only)
    } else if let Some(iscsi) = &volume.iscsi {
        (Which::Iscsi(iscsi.iqn.clone()), iscsi.read_only)
    } else {
        let rbd = volume.rbd.as_ref()?;
        let (monitors, image) = (rbd.monitors.clone(), rbd.image.clone());
        (Which::Rbd { monitors, pool: rbd.pool.clone().unwrap_or_else(|| "rbd".to_owned()), image }, rbd.read_only)
    };
    Some(Disk { which, read_only: read_only.unwrap_or(false) })
}
