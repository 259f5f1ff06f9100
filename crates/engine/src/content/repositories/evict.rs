//! What a mirror lets go when it has grown: manifests that came from upstream, the longest unused first. What the
//! engine's images, builds and pushed manifests need is neither counted nor lost.

use std::{
    collections::{HashMap, HashSet},
    fs::FileTimes,
    time::SystemTime,
};

use super::Repository;
use crate::content::{Content, ContentError, Digest};

/// What an eviction came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Manifests removed.
    pub manifests: u64,
    /// Bytes that the next collection frees.
    pub bytes: u64,
    /// When the next manifest may go, if it is still too much: until then all that is left was used too lately.
    pub due: Option<SystemTime>,
}

/// A manifest that may go.
struct Candidate {
    repository: Repository,
    digest: Digest,
    used: SystemTime,
    needs: Vec<String>,
}

impl Repository {
    /// Notes that a manifest was asked for just now.
    pub fn touch_manifest(&self, digest: &Digest) {
        let path = self.dir.join("_manifests").join(digest.hex());
        if let Ok(file) = std::fs::File::options().write(true).open(path) {
            let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        }
    }
}

impl Content {
    /// Removes mirrored manifests until the blobs that they alone need come to `limit` bytes at most; none that was used
    /// after `idle_since`.
    ///
    /// # Errors
    /// The disk's. What can't be read is never taken for unneeded: nothing is removed then.
    pub fn evict_mirrored(&self, limit: u64, idle_since: SystemTime) -> Result<Evicted, ContentError> {
        let (candidates, held) = self.mirrored()?;
        let mut needed: HashMap<&str, u32> = HashMap::new();
        for hex in candidates.iter().flat_map(|candidate| &candidate.needs).filter(|hex| !held.contains(*hex)) {
            *needed.entry(hex).or_default() += 1;
        }
        let size = |hex: &str| Digest::from_hex(hex).and_then(|digest| self.blob_size(&digest)).unwrap_or(0);
        let mut total: u64 = needed.keys().map(|hex| size(hex)).sum();
        let mut evicted = Evicted::default();
        for candidate in &candidates {
            if total <= limit {
                break;
            }
            if candidate.used > idle_since {
                evicted.due = candidate.used.duration_since(idle_since).ok().map(|left| SystemTime::now() + left);
                break;
            }
            match candidate.repository.delete_manifest(&candidate.digest) {
                Ok(_) => {}
                // An index that was used later needs it.
                Err(ContentError::InUse { .. }) => continue,
                Err(error) => return Err(error),
            }
            evicted.manifests += 1;
            for hex in candidate.needs.iter().map(String::as_str) {
                let Some(left) = needed.get_mut(hex) else { continue };
                *left -= 1;
                if *left == 0 {
                    total -= size(hex);
                    evicted.bytes += size(hex);
                }
            }
        }
        Ok(evicted)
    }

    /// Manifests that came from upstream, the longest unused first, and what others need.
    fn mirrored(&self) -> Result<(Vec<Candidate>, HashSet<String>), ContentError> {
        let mut held = HashSet::new();
        for (_, pin, _) in self.pins() {
            held.extend(pin.layers.iter().map(|layer| layer.blob.hex().to_owned()));
        }
        for digest in self.names()?.names.values() {
            held.insert(digest.hex().to_owned());
            let Ok(manifest) = self.manifest(digest) else { continue };
            held.insert(manifest.config.digest.hex().to_owned());
            held.extend(manifest.layers.iter().map(|layer| layer.digest.hex().to_owned()));
        }
        let mut candidates = Vec::new();
        for repository in self.all_repositories()? {
            for digest in repository.manifests()? {
                let Some(record) = repository.manifest(&digest)? else { continue };
                let own = std::iter::once(&digest).chain(&record.needs);
                let needs: Vec<String> = own.map(|digest| digest.hex().to_owned()).collect();
                if !record.mirrored {
                    held.extend(needs);
                    continue;
                }
                let path = repository.dir.join("_manifests").join(digest.hex());
                let used = std::fs::metadata(&path).and_then(|m| m.modified());
                let used = used.map_err(|e| ContentError::io("read", &path, e))?;
                candidates.push(Candidate { repository: repository.clone(), digest, used, needs });
            }
        }
        candidates.sort_by_key(|candidate| candidate.used);
        Ok((candidates, held))
    }
}
