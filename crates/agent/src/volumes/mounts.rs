//! A container's `volumeMounts` as mounts of the runtime.

use std::path::Path;

use engine::Mount;
use k8s_openapi::api::core::v1::Container;

use super::PodVolumes;
use crate::{runtime::SubPath, spec::expansion::expand_strictly};

/// Why a mount can't be made; the text of the `Failed` event (`CreateContainerConfigError`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// No volume of that name is set up.
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
    /// No block device of that name is set up.
    #[error("cannot find volume {volume:?} to pass into container {container:?}")]
    NoDevice {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
    /// `subPathExpr` names variables that are not set.
    #[error("missing value for {0}")]
    MissingVariable(String),
    /// The sub path is absolute, which shows only once variables are expanded.
    #[error("error SubPath `{0}` must not be an absolute path")]
    AbsoluteSubPath(String),
    /// The sub path goes up, which shows only once variables are expanded.
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    RisingSubPath(String),
    /// The sub path leaves the volume or can't be made.
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\"")]
    SubPath {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
}

/// What a container mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// In the order of its `volumeMounts`.
    pub mounts: Vec<Mount>,
    /// What must be bound before the mounts can be made: the volume of each, and the part of it.
    pub sub_paths: Vec<(String, SubPath)>,
}

/// The mounts of `container`; `environment` is what `subPathExpr` may refer to, `sub_paths` the directory in which
/// parts of volumes are to be bound.
pub fn mounts_of(
    container: &Container,
    volumes: &PodVolumes,
    environment: &[(String, String)],
    sub_paths: &Path,
) -> Result<Mounts, MountError> {
    let mut out = Mounts::default();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let Some(source) = volumes.sources.get(&mount.name).filter(|s| !s.block) else {
            return Err(MountError::NoVolume { volume: mount.name.clone(), container: container.name.clone() });
        };
        let lookup = |name: &str| environment.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        let sub_path = match mount.sub_path_expr.as_deref().filter(|s| !s.is_empty()) {
            Some(expression) => expand_strictly(expression, lookup).map_err(MountError::MissingVariable)?,
            None => mount.sub_path.clone().unwrap_or_default(),
        };
        let path = if sub_path.is_empty() {
            source.path.clone()
        } else {
            if sub_path.starts_with('/') {
                return Err(MountError::AbsoluteSubPath(sub_path));
            }
            if sub_path.split('/').any(|part| part == "..") {
                return Err(MountError::RisingSubPath(sub_path));
            }
            let target = sub_paths.join(index.to_string());
            let part = SubPath { volume: source.path.clone(), path: sub_path, target: target.clone() };
            out.sub_paths.push((mount.name.clone(), part));
            target
        };
        let read_only = source.read_only || mount.read_only == Some(true);
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => "rslave",
            Some("Bidirectional") => "rshared",
            _ => "rprivate",
        };
        let destination =
            if mount.mount_path.starts_with('/') { mount.mount_path.clone() } else { format!("/{}", mount.mount_path) };
        let mut options =
            vec!["rbind".to_owned(), propagation.to_owned(), if read_only { "ro" } else { "rw" }.to_owned()];
        if read_only && matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")) {
            options.push("rro".to_owned());
        }
        out.mounts.push(Mount {
            source: path.to_string_lossy().into_owned(),
            destination,
            fstype: "bind".to_owned(),
            options,
        });
    }
    Ok(out)
}

/// Makes those of `mounts` private that are to hear of the host's later mounts where there is nothing to hear: on many
/// machines without systemd no mount is shared. Which, and why.
pub fn without_source(mounts: &mut [Mount]) -> Vec<String> {
    let mut ignored = Vec::new();
    for mount in mounts {
        let Some(option) = mount.options.iter_mut().find(|option| *option == "rslave") else { continue };
        // What is not there yet is the engine's to complain of.
        if let Ok(false) = engine::receives_mounts(Path::new(&mount.source)) {
            *option = "rprivate".to_owned();
            ignored.push(format!(
                "path {:?} of mount {} is not on a shared or slave mount",
                mount.source, mount.destination
            ));
        }
    }
    ignored
}

/// The block devices of `container`: (path in the container, path on the host, cgroup permissions).
pub fn devices_of(container: &Container, volumes: &PodVolumes) -> Result<Vec<(String, String, String)>, MountError> {
    let devices = container.volume_devices.iter().flatten().map(|device| {
        let Some(source) = volumes.sources.get(&device.name).filter(|s| s.block) else {
            return Err(MountError::NoDevice { volume: device.name.clone(), container: container.name.clone() });
        };
        let permissions = if source.read_only { "mr" } else { "mrw" };
        Ok((device.device_path.clone(), source.path.to_string_lossy().into_owned(), permissions.to_owned()))
    });
    devices.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Source, *};

    #[test]
    fn parts_of_volumes_are_to_be_bound_before_they_are_mounted() {
        let mut volumes = PodVolumes::default();
        volumes.sources.insert("b".into(), Source { path: "/disk".into(), block: true, ..Source::default() });
        volumes.sources.insert("v".into(), Source { path: "/vol".into(), ..Source::default() });
        let mounts = |extra: serde_json::Value| {
            let mut mount = json!({"name": "v", "mountPath": "/data"});
            mount.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
            let container: Container =
                serde_json::from_value(json!({"name": "c", "volumeMounts": [mount]})).expect("a container");
            mounts_of(&container, &volumes, &[("N".into(), "seven".into())], Path::new("/subs"))
        };
        let whole = mounts(json!({"readOnly": true})).expect("mounts");
        assert_eq!((whole.mounts[0].source.as_str(), whole.sub_paths.len()), ("/vol", 0));
        assert_eq!(whole.mounts[0].options, ["rbind", "rprivate", "ro"]);
        let part = mounts(json!({"subPathExpr": "a/$(N)", "mountPropagation": "HostToContainer"})).expect("mounts");
        let expected = SubPath { volume: "/vol".into(), path: "a/seven".into(), target: "/subs/0".into() };
        assert_eq!(part.sub_paths, [("v".to_owned(), expected)]);
        assert_eq!((part.mounts[0].source.as_str(), part.mounts[0].options[1].as_str()), ("/subs/0", "rslave"));
        assert_eq!(mounts(json!({"subPathExpr": "$(X)"})), Err(MountError::MissingVariable("X".into())));
        let device = |name: &str| {
            let container = json!({"name": "c", "volumeDevices": [{"name": name, "devicePath": "/dev/xvda"}]});
            devices_of(&serde_json::from_value(container).expect("a container"), &volumes)
        };
        assert_eq!(device("b"), Ok(vec![("/dev/xvda".into(), "/disk".into(), "mrw".into())]));
        let missing = device("v").expect_err("no device").to_string();
        assert_eq!(missing, "cannot find volume \"v\" to pass into container \"c\"");
        let refused = |path: &str| mounts(json!({"subPath": path})).expect_err("no path").to_string();
        assert_eq!(refused("/abs"), "error SubPath `/abs` must not be an absolute path");
        for path in ["../x", "a/.."] {
            assert_eq!(refused(path), format!("unable to provision SubPath `{path}`: must not contain '..'"));
        }
    }
}
