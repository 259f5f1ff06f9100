//! Layers that are used before they are on the disk.
//!
//! Waiting until thousands of small files are written takes longer than anything else about a layer, and nobody needs it:
//! the blob, which is on the disk, can be unpacked again. So a layer appears at once, with a note that names the boot it
//! was unpacked in; what is noted is written to the disk soon after, and the note goes. A note of another boot is of a
//! machine that went down in between: such a layer is unpacked again before anything uses it.
//!
//! The note is made before the layer has its name, and file systems keep the order of such changes: there is no layer
//! without its note, whenever the power fails.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs as rfs;

use super::{Content, ContentError, Digest};

/// Layers that come one after the other are written in one go.
const PAUSE: Duration = Duration::from_secs(2);

/// Names this run of the machine's kernel.
static BOOT: LazyLock<String> = LazyLock::new(|| {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().chars().filter(char::is_ascii_hexdigit).collect()
});

/// Whether this process is about to write layers to the disk.
#[derive(Default)]
pub(super) struct Settling(AtomicBool);

impl Content {
    /// Notes that the files of a layer, all made by now, may not be on the disk. Call it right before the layer's name
    /// appears, and [`Content::settle_soon`] right after.
    pub(super) fn note_unsettled(&self, diff_id: &Digest) -> Result<(), ContentError> {
        let path = self.note(diff_id.hex(), &BOOT);
        File::create(&path).map(drop).map_err(|e| ContentError::io("create", &path, e))
    }

    /// Sees to it that what is noted is written to the disk, behind the caller's back.
    pub(super) fn settle_soon(&self) {
        if self.inner.settling.0.swap(true, Ordering::AcqRel) {
            return;
        }
        let content = self.clone();
        let thread = std::thread::Builder::new().name("settle-layers".into());
        let spawned = thread.spawn(move || {
            std::thread::sleep(PAUSE);
            // Notes made from here on have another turn.
            content.inner.settling.0.store(false, Ordering::Release);
            if let Err(error) = content.settle() {
                tracing::warn!(%error, "layers were not written to the disk; they are unpacked again after a crash");
            }
        });
        if spawned.is_err() {
            self.inner.settling.0.store(false, Ordering::Release);
        }
    }

    /// Writes noted layers to the disk.
    pub(super) fn settle(&self) -> Result<(), ContentError> {
        let notes = self.notes()?;
        if notes.is_empty() {
            return Ok(());
        }
        let layers = self.path("layers");
        let synced = File::open(&layers).and_then(|directory| Ok(rfs::syncfs(&directory)?));
        synced.map_err(|e| ContentError::io("sync", &layers, e))?;
        for (_, boot, path) in notes {
            if boot == *BOOT {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// Unpacks again what the machine went down with; the rest is written to the disk soon.
    pub(super) fn mend_unsettled(&self) -> Result<(), ContentError> {
        let notes = self.notes()?;
        if notes.iter().any(|(_, boot, _)| *boot == *BOOT) {
            self.settle_soon();
        }
        let mut doubtful: Vec<_> = notes.into_iter().filter(|(_, boot, _)| *boot != *BOOT).collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        let _adding = self.adding()?;
        let blobs = self.blobs_of_layers()?;
        for (diff_id, _, note) in doubtful.drain(..) {
            match blobs.get(&diff_id) {
                Some(blob) => {
                    if let Err(error) = self.unpack_again(blob, &diff_id) {
                        tracing::warn!(layer = diff_id.as_str(), %error, "a layer was lost; pull or build its image again");
                    }
                }
                // Nobody can make it again: a container whose image is gone keeps what there is.
                None => tracing::warn!(layer = diff_id.as_str(), "a layer may be damaged, and its image is not here"),
            }
            let _ = std::fs::remove_file(note);
        }
        Ok(())
    }

    fn unpack_again(&self, blob: &Digest, diff_id: &Digest) -> Result<(), ContentError> {
        let layer = self.path("layers").join(diff_id.hex());
        // Out of the way whole: half of it must never be found under its name.
        let doubtful = self.path("layers").join(format!("unpacking-again-{}", diff_id.hex()));
        let _ = std::fs::remove_dir_all(&doubtful);
        match std::fs::rename(&layer, &doubtful) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(ContentError::io("rename", &layer, e)),
            _ => {}
        }
        let _ = std::fs::remove_dir_all(&doubtful);
        self.unpack_layer(blob, diff_id).map(drop)
    }

    /// Which blob each layer of an image or a build comes from.
    fn blobs_of_layers(&self) -> Result<HashMap<Digest, Digest>, ContentError> {
        let mut blobs = HashMap::new();
        for (_, pin, _) in self.pins() {
            blobs.extend(pin.layers.into_iter().map(|layer| (layer.diff_id, layer.blob)));
        }
        for digest in self.names()?.names.values() {
            // One that can't be read has nothing to unpack.
            let Ok(manifest) = self.manifest(digest) else { continue };
            let Ok(config) = self.read_blob(&manifest.config.digest) else { continue };
            let Ok(config) = serde_json::from_slice::<super::ImageConfig>(&config) else { continue };
            blobs.extend(config.rootfs.diff_ids.into_iter().zip(manifest.layers.into_iter().map(|layer| layer.digest)));
        }
        Ok(blobs)
    }

    fn note(&self, hex: &str, boot: &str) -> PathBuf {
        self.path("unsettled").join(format!("{hex}.{boot}"))
    }

    /// Layers noted: diff ID, boot and the note itself.
    fn notes(&self) -> Result<Vec<(Digest, String, PathBuf)>, ContentError> {
        let directory = self.path("unsettled");
        let entries = std::fs::read_dir(&directory).map_err(|e| ContentError::io("list", &directory, e))?;
        let parse = |name: OsString| {
            let name = name.into_string().ok()?;
            let (hex, boot) = name.split_once('.')?;
            Some((Digest::from_hex(hex)?, boot.to_owned()))
        };
        Ok(entries
            .flatten()
            .filter_map(|entry| parse(entry.file_name()).map(|(digest, boot)| (digest, boot, entry.path())))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of one layer with one file, and where that is.
    fn image(content: &Content) -> (Digest, PathBuf) {
        let upper = content.root().join("upper");
        std::fs::create_dir(&upper).expect("made");
        std::fs::write(upper.join("file"), "whole").expect("written");
        let layer = content.commit_upper(&upper, None).expect("a layer");
        let config = super::super::ImageConfig {
            architecture: "amd64".into(),
            os: "linux".into(),
            rootfs: super::super::config::RootFs { kind: "layers".into(), diff_ids: vec![layer.diff_id.clone()] },
            ..Default::default()
        };
        let name = super::super::Reference::parse("made:here").expect("a name");
        content.author(&config, std::slice::from_ref(&layer), &[name]).expect("an image");
        let file = content.layer_directory(&layer.diff_id).expect("unpacked").join("file");
        (layer.diff_id, file)
    }

    #[test]
    fn a_layer_that_the_machine_went_down_with_is_unpacked_again() {
        let root = tempfile::tempdir().expect("a directory");
        let content = Content::open(root.path()).expect("open");
        let (diff_id, file) = image(&content);
        std::fs::write(&file, "").expect("what a crash leaves of a file");
        std::fs::rename(content.note(diff_id.hex(), &BOOT), content.note(diff_id.hex(), "before")).expect("noted");
        let content = Content::open(root.path()).expect("open after the crash");
        assert_eq!(std::fs::read_to_string(&file).expect("there again"), "whole");
        content.settle().expect("written");
        assert!(content.notes().expect("listed").is_empty(), "nothing is in doubt any more");
    }

    #[test]
    fn a_layer_of_this_boot_is_trusted_and_written_to_the_disk() {
        let root = tempfile::tempdir().expect("a directory");
        let content = Content::open(root.path()).expect("open");
        let (_, file) = image(&content);
        std::fs::write(&file, "as it is").expect("written");
        let again = Content::open(root.path()).expect("another process of this boot");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "as it is", "nobody unpacks it again");
        assert_eq!(again.notes().expect("listed").len(), 1);
        again.settle().expect("written");
        assert!(again.notes().expect("listed").is_empty());
    }

    #[test]
    fn what_no_image_can_make_again_is_kept_as_it_is() {
        let root = tempfile::tempdir().expect("a directory");
        let content = Content::open(root.path()).expect("open");
        let upper = root.path().join("upper");
        std::fs::create_dir(&upper).expect("made");
        let layer = content.commit_upper(&upper, None).expect("a layer");
        std::fs::rename(content.note(layer.diff_id.hex(), &BOOT), content.note(layer.diff_id.hex(), "x"))
            .expect("noted");
        let content = Content::open(root.path()).expect("open after the crash");
        assert!(content.layer_directory(&layer.diff_id).is_some());
        assert!(content.notes().expect("listed").is_empty());
    }
}
