//! Removing names, and then what no name and no container needs any more.

use std::{collections::HashSet, fs::File, path::Path, time::SystemTime};

use super::{Content, ContentError, Digest, Reference, Upload};

/// What a collection did.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Somebody is adding content: nothing was removed, try again later.
    pub postponed: bool,
    /// When the next promise ends that alone keeps something alive.
    pub due: Option<SystemTime>,
}

impl Content {
    /// Removes a name; by image ID, all of its names. Blobs and layers that nothing needs any more go with
    /// the last name. Returns the names removed and whether the image itself is gone.
    ///
    /// # Errors
    /// [`ContentError::NotFound`]; [`ContentError::InUse`] if it is the last name, a container uses the
    /// image and `force` is not set; or the disk's.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<(Vec<String>, bool), ContentError> {
        let image = self.image(name)?;
        // An image ID stands for all manifests with that configuration.
        let by_id = image.id.hex().starts_with(name.strip_prefix("sha256:").unwrap_or(name));
        let manifests: Vec<Digest> = match by_id {
            true => {
                self.images()?.into_iter().filter(|other| other.id == image.id).map(|other| other.manifest).collect()
            }
            false => vec![image.manifest.clone()],
        };
        let (_, users) = self.used_by_snapshots();
        let removed = self.change_names(|names| {
            let by_name = Reference::parse(name).ok().map(|r| r.to_string()).filter(|n| names.names.contains_key(n));
            let mut gone: Vec<String> = match by_name {
                Some(one) => vec![one],
                None => names.names.iter().filter(|(_, m)| manifests.contains(m)).map(|(n, _)| n.clone()).collect(),
            };
            let tagged = |n: &String| !n.contains('@');
            let tags_left = names.names.iter().any(|(n, m)| *m == image.manifest && tagged(n) && !gone.contains(n));
            if !tags_left {
                // Names by digest only accompany the tags.
                gone.extend(names.names.iter().filter(|(_, m)| **m == image.manifest).map(|(n, _)| n.clone()));
                gone.sort();
                gone.dedup();
                if let Some((_, container)) = users.iter().find(|(i, _)| *i == image.id).filter(|_| !force) {
                    return Err(ContentError::InUse { image: name.to_owned(), container: container.clone() });
                }
            }
            for one in &gone {
                names.names.remove(one);
            }
            Ok(gone)
        })?;
        self.collect()?;
        let left = self.names()?.names.values().any(|m| manifests.contains(m));
        Ok((removed, !left))
    }

    /// Removes every blob and layer that no image, no container, no repository and no promise to a client of
    /// the registry needs. While a pull or an import is under way (in any process) nothing is removed, since
    /// its name is written last; the next removal does it.
    ///
    /// # Errors
    /// The disk's. What can't be read is never taken for unneeded: nothing is removed then.
    pub fn collect(&self) -> Result<Collected, ContentError> {
        let guard = self.gate()?;
        if guard.try_lock().is_err() {
            return Ok(Collected { postponed: true, ..Collected::default() });
        }
        // Until the end no blob can be promised to anybody.
        let _promises = self.no_promises()?;
        let mut blobs: HashSet<String> = HashSet::new();
        let mut layers: HashSet<Digest> = self.used_by_snapshots().0;
        for (_, pin, _) in self.pins() {
            blobs.extend(pin.layers.iter().map(|l| l.blob.hex().to_owned()));
            layers.extend(pin.layers.into_iter().map(|l| l.diff_id));
        }
        for manifest_digest in self.names()?.names.values() {
            blobs.insert(manifest_digest.hex().to_owned());
            // An image that can't be read keeps nothing alive but is no reason to stop.
            let Ok(manifest) = self.manifest(manifest_digest) else { continue };
            blobs.insert(manifest.config.digest.hex().to_owned());
            blobs.extend(manifest.layers.iter().map(|l| l.digest.hex().to_owned()));
            if let Ok(bytes) = self.read_blob(&manifest.config.digest)
                && let Ok(config) = serde_json::from_slice::<super::ImageConfig>(&bytes)
            {
                layers.extend(config.rootfs.diff_ids);
            }
        }
        let due = self.collect_repositories(SystemTime::now(), &mut blobs)?;
        let layer_names: HashSet<&str> = layers.iter().map(|l| l.hex()).collect();
        let (mut count, mut bytes) = (0, 0);
        for dir in ["blobs/sha256", "blobs/sha512"] {
            let (files, length) = self.sweep(dir, |name| blobs.contains(name))?;
            (count, bytes) = (count + files, bytes + length);
        }
        self.sweep("layers", |name| layer_names.contains(name))?;
        // A download that broke off is taken up again, if somebody comes back for it soon.
        let fresh = |path: &Path| {
            let age = std::fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            path.extension().is_some_and(|e| e == "part") && age.is_none_or(|age| age < Upload::EXPIRY)
        };
        let ingest = self.path("ingest");
        self.sweep("ingest", |name| fresh(&ingest.join(name)))?;
        self.remove_soon();
        Ok(Collected { blobs: count, bytes, postponed: false, due })
    }

    /// Held shared by whoever adds content, exclusively by whoever removes it.
    pub(super) fn gate(&self) -> Result<std::fs::File, ContentError> {
        let path = self.path("collect.lock");
        let options = std::fs::File::options().create(true).truncate(false).write(true).clone();
        options.open(&path).map_err(|e| ContentError::io("open", &path, e))
    }

    /// Keeps collection away until dropped.
    pub(super) fn adding(&self) -> Result<std::fs::File, ContentError> {
        let guard = self.gate()?;
        guard.lock_shared().map_err(|e| ContentError::io("lock", &self.path("collect.lock"), e))?;
        Ok(guard)
    }

    /// Held for the moment in which a blob is found to be here and that is written down (as a promise, a
    /// link or a manifest's need), so that no collection falls between. Never held while a client is waited for.
    pub(super) fn promising(&self) -> Result<impl Drop + use<'_>, ContentError> {
        let inside = self.inner.promises.read();
        let file = self.promise_file()?;
        file.lock_shared().map_err(|e| ContentError::io("lock", &self.path("promise.lock"), e))?;
        Ok(Held { _file: file, _inside: inside })
    }

    fn no_promises(&self) -> Result<impl Drop + use<'_>, ContentError> {
        let inside = self.inner.promises.write();
        let file = self.promise_file()?;
        file.lock().map_err(|e| ContentError::io("lock", &self.path("promise.lock"), e))?;
        Ok(Held { _file: file, _inside: inside })
    }

    fn promise_file(&self) -> Result<File, ContentError> {
        let path = self.path("promise.lock");
        let options = File::options().create(true).truncate(false).write(true).clone();
        options.open(&path).map_err(|e| ContentError::io("open", &path, e))
    }

    /// Removes what is not kept; returns how many files and how many bytes went.
    fn sweep(&self, dir: &str, keep: impl Fn(&str) -> bool) -> Result<(u64, u64), ContentError> {
        let dir = self.path(dir);
        let (mut count, mut bytes) = (0, 0);
        for entry in std::fs::read_dir(&dir).map_err(|e| ContentError::io("list", &dir, e))?.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(&keep) {
                continue;
            }
            let path = entry.path();
            count += 1;
            bytes += entry.metadata().map(|m| m.len()).unwrap_or_default();
            match path.is_dir() {
                true => self.take_out(&path)?,
                false => std::fs::remove_file(&path).map_err(|e| ContentError::io("remove", &path, e))?,
            }
        }
        Ok((count, bytes))
    }
}

/// Both locks, let go together.
struct Held<G> {
    _file: File,
    _inside: G,
}

impl<G> Drop for Held<G> {
    fn drop(&mut self) {}
}
