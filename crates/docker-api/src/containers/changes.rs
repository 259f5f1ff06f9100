//! `docker diff`: what a container changed, from its writable layer.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::start;
use super::tarball::is_opaque;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, json as json_answer};

/// As the API numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Changed = 0,
    Added = 1,
    Deleted = 2,
}

/// Lists changes.
pub(crate) async fn changes(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    blocking(move || {
        let snapshot = daemon.config.content.snapshot(&container.id);
        let snapshot = snapshot.ok_or_else(|| ApiError::internal("the container's layer is missing"))?;
        let layers = start::layers(&daemon, &snapshot);
        let mut found = Vec::new();
        walk(&snapshot.upper, Path::new(""), &layers, &mut found)?;
        found.sort();
        let list: Vec<Value> = found.iter().map(|(path, kind)| json!({"Path": path, "Kind": *kind})).collect();
        Ok(json_answer(&if list.is_empty() { Value::Null } else { list.into() }))
    })
    .await
}

/// Compares one directory of the writable layer with the layers below it, topmost first.
fn walk(upper: &Path, inside: &Path, layers: &[PathBuf], found: &mut Vec<(String, u8)>) -> io::Result<()> {
    for entry in fs::read_dir(upper.join(inside))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let path = inside.join(entry.file_name());
        let mut note = |path: &Path, kind: Kind| found.push((format!("/{}", path.display()), kind as u8));
        if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
            note(&path, Kind::Deleted);
            continue;
        }
        let below = visible(layers, &path);
        note(&path, if below.is_some() { Kind::Changed } else { Kind::Added });
        if !metadata.is_dir() {
            continue;
        }
        if below.is_some_and(|below| below.is_dir()) && is_opaque(&upper.join(&path)) {
            for name in names_below(layers, &path) {
                let child = path.join(name);
                if fs::symlink_metadata(upper.join(&child)).is_err() {
                    note(&child, Kind::Deleted);
                }
            }
        }
        walk(upper, &path, layers, found)?;
    }
    Ok(())
}

/// What the lower layers show at a path.
fn visible(layers: &[PathBuf], path: &Path) -> Option<fs::Metadata> {
    for layer in layers {
        match fs::symlink_metadata(layer.join(path)) {
            Ok(metadata) if metadata.file_type().is_char_device() && metadata.rdev() == 0 => return None,
            Ok(metadata) => return Some(metadata),
            Err(_) => {}
        }
        // A parent that is gone, or hides what is below, in this layer.
        let mut parent = path.parent();
        while let Some(directory) = parent.filter(|directory| !directory.as_os_str().is_empty()) {
            match fs::symlink_metadata(layer.join(directory)) {
                Ok(metadata) if !metadata.is_dir() || is_opaque(&layer.join(directory)) => return None,
                _ => parent = directory.parent(),
            }
        }
    }
    None
}

fn names_below(layers: &[PathBuf], path: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = layers
        .iter()
        .filter_map(|layer| fs::read_dir(layer.join(path)).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.file_name()))
        .filter(|name| visible(layers, &path.join(name)).is_some())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_of_what_changed_counts_as_changed() {
        let root = tempfile::tempdir().unwrap();
        let (upper, lower) = (root.path().join("upper"), root.path().join("lower"));
        for (directory, file) in [(&upper, "etc/new"), (&upper, "etc/old"), (&upper, "fresh/file"), (&lower, "etc/old")]
        {
            let path = directory.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut found = Vec::new();
        walk(&upper, Path::new(""), &[lower], &mut found).unwrap();
        found.sort();
        let found: Vec<(&str, u8)> = found.iter().map(|(path, kind)| (path.as_str(), *kind)).collect();
        assert_eq!(found, [("/etc", 0), ("/etc/new", 1), ("/etc/old", 0), ("/fresh", 1), ("/fresh/file", 1)]);
    }
}
