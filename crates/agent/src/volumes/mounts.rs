//! A container's `volumeMounts` as mounts of the runtime.

use std::path::{Path, PathBuf};

use engine::Mount;
use k8s_openapi::api::core::v1::Container;

use super::{PodVolumes, Source};
use crate::spec::expansion::expand_strictly;

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
    /// `subPathExpr` names a variable that is not set.
    #[error("missing value for \"{0}\"")]
    MissingVariable(String),
    /// The sub path leaves the volume or can't be made.
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\"")]
    SubPath {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
}

/// The mounts of `container`; `environment` is what `subPathExpr` may refer to, `host_path` where the host sees a
/// path of the sandbox's memory file systems.
pub fn mounts_of(
    container: &Container,
    volumes: &PodVolumes,
    environment: &[(String, String)],
    host_path: impl Fn(&Path) -> PathBuf,
) -> Result<Vec<Mount>, MountError> {
    let mut out = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let Some(source) = volumes.sources.get(&mount.name) else {
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
            inside(source, &sub_path, &host_path)
                .ok_or_else(|| MountError::SubPath { volume: mount.name.clone(), container: container.name.clone() })?
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
        out.push(Mount {
            source: path.to_string_lossy().into_owned(),
            destination,
            fstype: "bind".to_owned(),
            options,
        });
    }
    Ok(out)
}

/// `sub_path` in the volume, made as a directory if it does not exist; `None` if it leads out of the volume.
fn inside(source: &Source, sub_path: &str, host_path: &impl Fn(&Path) -> PathBuf) -> Option<PathBuf> {
    if sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..") {
        return None;
    }
    let seen = if source.memory { host_path(&source.path) } else { source.path.clone() };
    let root = seen.canonicalize().ok()?;
    let wanted = seen.join(sub_path);
    if wanted.symlink_metadata().is_err() {
        // Only below what already lies inside: a link planted in the volume must not lead the agent astray.
        let parent = wanted.ancestors().skip(1).find(|p| p.symlink_metadata().is_ok())?;
        if !parent.canonicalize().ok()?.starts_with(&root) {
            return None;
        }
        std::fs::create_dir_all(&wanted).ok()?;
    }
    let real = wanted.canonicalize().ok()?;
    if !real.starts_with(&root) {
        return None;
    }
    if source.memory { Some(source.path.join(real.strip_prefix(&root).ok()?)) } else { Some(real) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sub_paths_stay_inside_their_volume() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("v");
        std::fs::create_dir(&volume).expect("made");
        std::os::unix::fs::symlink("/etc", volume.join("out")).expect("linked");
        let mut volumes = PodVolumes::default();
        volumes.sources.insert("v".into(), Source { path: volume.clone(), read_only: false, memory: false });
        let mount = |extra: serde_json::Value| {
            let mut mount = json!({"name": "v", "mountPath": "/data"});
            mount.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
            let container: Container =
                serde_json::from_value(json!({"name": "c", "volumeMounts": [mount]})).expect("a container");
            mounts_of(&container, &volumes, &[("N".into(), "seven".into())], Path::to_path_buf)
        };
        let whole = mount(json!({"readOnly": true})).expect("mounts");
        assert_eq!(whole[0].source, volume.to_string_lossy());
        assert_eq!(whole[0].options, ["rbind", "rprivate", "ro"]);
        let sub = mount(json!({"subPathExpr": "a/$(N)", "mountPropagation": "HostToContainer"})).expect("mounts");
        assert!(sub[0].source.ends_with("/v/a/seven"), "{}", sub[0].source);
        assert_eq!(sub[0].options[1], "rslave");
        assert_eq!(mount(json!({"subPathExpr": "$(X)"})), Err(MountError::MissingVariable("X".into())));
        for path in ["../x", "/abs", "out", "out/passwd", "out/new"] {
            assert!(mount(json!({"subPath": path})).is_err(), "{path}");
        }
    }
}
