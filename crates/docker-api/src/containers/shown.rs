//! Images that are mounted in a container (`--mount type=image`), to be read.
//!
//! A snapshot of the container's own keeps the layers of each, whatever becomes of the image; nothing is written to it.
//! The layers are mounted where nobody else reaches them while the container is made, and its own mount of them stays.

use std::path::{Path, PathBuf};

use super::record::Record;
use super::start::PARTS;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};

/// Keeps the images of a container that is being made, and says in its mounts where they will be. On an error nothing
/// remains.
pub(super) fn keep(daemon: &Daemon, record: &mut Record) -> Result<()> {
    let content = &daemon.config.content;
    let directory = daemon.config.data_dir.join("containers").join(&record.id).join(PARTS);
    for (index, (destination, image)) in record.images.iter().enumerate() {
        let kept = content.image(image).and_then(|image| content.prepare_snapshot(&snapshot_id(record, index), &image));
        if let Err(error) = kept {
            let_go(daemon, record)?;
            return Err(error.into());
        }
        for mount in record.mounts.iter_mut().filter(|mount| mount.destination == *destination) {
            mount.source = directory.join(format!("image-{index}")).to_string_lossy().into_owned();
        }
    }
    Ok(())
}

/// Lets them go; fine if there are none.
pub(super) fn let_go(daemon: &Daemon, record: &Record) -> Result<()> {
    for index in 0..record.images.len() {
        daemon.config.content.remove_snapshot(&snapshot_id(record, index))?;
    }
    Ok(())
}

/// Mounts what is to be seen at a container's `destination` at its mount's source.
pub(super) fn mount(daemon: &Daemon, record: &Record, destination: &str, at: &Path) -> Result<()> {
    std::fs::create_dir_all(at)?;
    Ok(engine::mount_read_only(&layers(daemon, record, destination)?, at)?)
}

fn layers(daemon: &Daemon, record: &Record, destination: &str) -> Result<Vec<PathBuf>> {
    let index = record.images.keys().position(|other| other == destination);
    let snapshot = index.and_then(|index| daemon.config.content.snapshot(&snapshot_id(record, index)));
    let snapshot = snapshot.ok_or_else(|| ApiError::internal(format!("the layers of {destination} are missing")))?;
    // Of an image without layers, nothing: the one directory that there is of it is empty.
    Ok(if snapshot.lower.is_empty() { vec![snapshot.upper] } else { snapshot.lower })
}

fn snapshot_id(record: &Record, index: usize) -> String {
    format!("{}.{index}.image", record.id)
}
