//! What repositories and promises keep from being collected, and what of themselves is due.

use std::{collections::HashSet, fs, time::SystemTime};

use super::{Repository, Upload, facts};
use crate::content::{Content, ContentError, Digest};

impl Content {
    /// Adds the blobs that must stay to `kept`; removes links that nothing needs, promises that have ended,
    /// and uploads that were given up. Returns when the next promise ends that alone keeps a blob.
    /// Nobody may be promising meanwhile.
    pub(in crate::content) fn collect_repositories(
        &self,
        now: SystemTime,
        kept: &mut HashSet<String>,
    ) -> Result<Option<SystemTime>, ContentError> {
        let repositories = self.all_repositories()?;
        let mut needed = Vec::new();
        for repository in &repositories {
            let blobs = repository.needed()?;
            kept.extend(blobs.iter().cloned());
            needed.push(blobs);
        }
        let mut due: Option<SystemTime> = None;
        let mut promised = HashSet::new();
        let promises = self.path("registry/_promises");
        for name in facts::list(&promises)? {
            let path = promises.join(&name);
            let until =
                fs::metadata(&path).and_then(|m| m.modified()).map_err(|e| ContentError::io("read", &path, e))?;
            if until <= now {
                fs::remove_file(&path).map_err(|e| ContentError::io("remove", &path, e))?;
                continue;
            }
            if !kept.contains(&name) {
                due = Some(due.map_or(until, |d| d.min(until)));
            }
            promised.insert(name);
        }
        for (repository, needed) in repositories.iter().zip(&needed) {
            repository.prune(now, |hex| needed.contains(hex) || promised.contains(hex))?;
        }
        kept.extend(promised);
        Ok(due)
    }
}

impl Repository {
    /// The blobs (manifests too) that its manifests need.
    fn needed(&self) -> Result<HashSet<String>, ContentError> {
        let mut needed = HashSet::new();
        for manifest in self.manifests()? {
            let Some(record) = self.manifest(&manifest)? else { continue };
            needed.insert(manifest.hex().to_owned());
            needed.extend(record.needs.iter().map(|d: &Digest| d.hex().to_owned()));
        }
        Ok(needed)
    }

    fn prune(&self, now: SystemTime, keep: impl Fn(&str) -> bool) -> Result<(), ContentError> {
        let links = self.dir.join("_blobs");
        for name in facts::list(&links)?.iter().filter(|n| !keep(n)) {
            let path = links.join(name);
            fs::remove_file(&path).map_err(|e| ContentError::io("remove", &path, e))?;
        }
        let uploads = self.dir.join("_uploads");
        for name in facts::list(&uploads)? {
            let path = uploads.join(&name);
            // One that its client finishes or cancels meanwhile is none of ours.
            let Ok(touched) = fs::metadata(&path).and_then(|m| m.modified()) else { continue };
            if now.duration_since(touched).is_ok_and(|age| age > Upload::EXPIRY) {
                let _ = fs::remove_file(&path);
            }
        }
        // Nobody writes a fact meanwhile, so one under way was cut off.
        let referrers = self.dir.join("_referrers");
        let mut dirs: Vec<_> = ["_blobs", "_manifests", "_tags", "_uploads"].map(|d| self.dir.join(d)).into();
        dirs.extend(facts::list(&referrers)?.iter().map(|subject| referrers.join(subject)));
        for entry in dirs.iter().flat_map(fs::read_dir).flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".new-") {
                let _ = fs::remove_file(entry.path());
            }
        }
        // An empty repository leaves no trace. Directories with something in them refuse to go.
        for dir in dirs.iter().chain([&referrers]) {
            let _ = fs::remove_dir(dir);
        }
        let left = facts::list(&self.dir)?;
        if !left.iter().any(|n| n.starts_with('_') && n != "_lock") {
            let _ = fs::remove_file(self.dir.join("_lock"));
            let mut dir = self.dir.as_path();
            while dir != self.content.path("registry") && fs::remove_dir(dir).is_ok() {
                dir = dir.parent().expect("it lies below the registry's directory");
            }
        }
        Ok(())
    }
}
