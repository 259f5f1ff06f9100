//! `emptyDir.sizeLimit` of volumes on disk: looked at now and then, as the kubelet does; who takes more is evicted.
//! (The kernel itself limits those in memory.)

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;

use crate::{paths::PodPaths, spec::quantity};

/// Between two looks; the kubelet's.
const PERIOD: Duration = Duration::from_secs(10);

/// A volume that takes more than it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Its name.
    pub volume: String,
    /// Its limit as the pod states it.
    pub limit: String,
}

struct Limited {
    path: PathBuf,
    bytes: u64,
    told_as: Exceeded,
}

/// Watches the pod's limited volumes; `None` if it has none. Ends with the first that exceeds its limit.
pub fn watch(pod: &Pod, paths: &PodPaths) -> Option<impl Future<Output = Exceeded> + Send + 'static> {
    let limited: Vec<Limited> = super::volumes(pod)
        .filter_map(|volume| {
            let empty = volume.empty_dir.as_ref().filter(|e| e.medium.as_deref() != Some("Memory"))?;
            let limit = empty.size_limit.as_ref()?;
            let bytes = u64::try_from(quantity::whole(limit)?).ok().filter(|b| *b > 0)?;
            let told_as = Exceeded { volume: volume.name.clone(), limit: limit.0.clone() };
            Some(Limited { path: paths.volume("empty-dir", &volume.name), bytes, told_as })
        })
        .collect();
    (!limited.is_empty()).then_some(async move {
        let limited = Arc::new(limited);
        loop {
            tokio::time::sleep(PERIOD).await;
            let limited = Arc::clone(&limited);
            let look = move || limited.iter().find(|l| usage(&l.path) > l.bytes).map(|l| l.told_as.clone());
            if let Ok(Some(exceeded)) = tokio::task::spawn_blocking(look).await {
                return exceeded;
            }
        }
    })
}

/// Bytes that a tree takes on its own file system. What vanishes meanwhile counts nothing.
fn usage(root: &Path) -> u64 {
    let Ok(top) = fs::symlink_metadata(root) else { return 0 };
    let device = top.dev();
    let taken = |m: &Metadata| m.blocks() * 512;
    let mut total = taken(&top);
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.dev() != device {
                continue;
            }
            total += taken(&metadata);
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_take_is_counted_all_the_way_down() {
        let dir = tempfile::tempdir().expect("a directory");
        let before = usage(dir.path());
        fs::create_dir(dir.path().join("deep")).expect("made");
        fs::write(dir.path().join("deep/file"), vec![1; 1 << 20]).expect("written");
        assert!((1 << 20..2 << 20).contains(&(usage(dir.path()) - before)));
        assert_eq!(usage(&dir.path().join("none")), 0);
    }
}
