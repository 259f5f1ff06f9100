//! `fsGroup`: a volume's files are given to the pod's group, all of them or (by `fsGroupChangePolicy`) only when the
//! root is not the group's yet.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Pod;

/// Read and write for the group, as upstream's `rwMask`.
const FILE: u32 = 0o660;
/// Directories are also entered, and what is made in them is the group's.
const DIRECTORY: u32 = 0o2770;

/// Gives what is at `path` to the pod's group, if the pod has one.
pub async fn give(pod: &Pod, path: PathBuf) -> io::Result<()> {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let Some(group) = context.and_then(|c| c.fs_group).and_then(|g| u32::try_from(g).ok()) else { return Ok(()) };
    let only_root = context.and_then(|c| c.fs_group_change_policy.as_deref()) == Some("OnRootMismatch");
    tokio::task::spawn_blocking(move || {
        if only_root && is_given(&path, group)? {
            return Ok(());
        }
        give_tree(&path, group)
    })
    .await
    .map_err(io::Error::other)?
}

fn is_given(root: &Path, group: u32) -> io::Result<bool> {
    let meta = fs::metadata(root)?;
    Ok(meta.gid() == group && meta.mode() & DIRECTORY == DIRECTORY)
}

fn give_tree(path: &Path, group: u32) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            match give_tree(&entry?.path(), group) {
                // Someone removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    lchown(path, None, Some(group))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = meta.mode() & 0o7777 | if meta.is_dir() { DIRECTORY } else { FILE };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(policy: Option<&str>) -> Pod {
        let context = json!({"fsGroup": 1234, "fsGroupChangePolicy": policy});
        serde_json::from_value(json!({"spec": {"containers": [], "securityContext": context}})).expect("a pod")
    }

    #[tokio::test]
    async fn all_files_or_only_a_strange_root_are_given_to_the_group() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let (root, file) = (dir.path().join("v"), dir.path().join("v/sub/file"));
        fs::create_dir_all(root.join("sub")).expect("made");
        fs::write(&file, "").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).expect("set");
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).expect("linked");
        let passwd = fs::metadata("/etc/passwd").expect("there");
        give(&pod(None), root.clone()).await.expect("given");
        let mode = |path: &Path| fs::metadata(path).map(|m| (m.gid(), m.mode() & 0o7777)).expect("there");
        assert_eq!(mode(&file), (1234, 0o664));
        assert_eq!(mode(&root).0, 1234);
        assert_eq!(mode(&root.join("sub")).1 & 0o2070, 0o2070);
        let after = fs::metadata("/etc/passwd").expect("there");
        assert_eq!((passwd.gid(), passwd.mode()), (after.gid(), after.mode()), "links are not followed");

        std::os::unix::fs::chown(&file, None, Some(0)).expect("set");
        give(&pod(Some("OnRootMismatch")), root.clone()).await.expect("given");
        assert_eq!(mode(&file).0, 0, "the root is right, so the rest is left alone");
        give(&pod(Some("Always")), root).await.expect("given");
        assert_eq!(mode(&file).0, 1234);
    }
}
