//! `docker cp` and `docker export`: files out of a container, and into it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use engine::UserSpec;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tokio::sync::mpsc;

use super::root;
use super::table::Container;
use super::tarball::{Tarball, unpack};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, empty, streamed};
use crate::time;

const STAT: &str = "x-docker-container-path-stat";

fn path_of(call: &Call) -> Result<String> {
    let path = call.query("path").ok_or_else(|| ApiError::bad("bad parameter: path cannot be empty"))?;
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

/// What is at a path, as a header.
pub(crate) async fn stat(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let path = path_of(&call)?;
    let name = call.param("name").to_owned();
    let _turn = turn(&container).await;
    let at = container.clone();
    let header = blocking(move || root::within(&daemon, &at, || describe(&path, &name))).await?;
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(STAT, header);
    Ok(response)
}

/// Kept while the files of a container that does not run are worked on.
async fn turn(container: &Container) -> Option<tokio::sync::MutexGuard<'_, ()>> {
    let turn = container.turn().await;
    (!container.status().is_live()).then_some(turn)
}

/// Runs inside the container's root.
fn describe(path: &str, container: &str) -> Result<HeaderValue> {
    let metadata = look(path).map_err(|error| unfound(&error, path, container))?;
    let target = if metadata.is_symlink() {
        fs::canonicalize(path).or_else(|_| fs::read_link(path)).unwrap_or_default()
    } else {
        Default::default()
    };
    let modified = jiff::Timestamp::new(metadata.mtime(), metadata.mtime_nsec() as i32).unwrap_or_default();
    let value = json!({
        "name": base_name(path),
        "size": metadata.len(),
        "mode": go_mode(&metadata),
        "mtime": time::text(modified),
        "linkTarget": target,
    });
    let text = base64::engine::general_purpose::STANDARD.encode(value.to_string());
    Ok(HeaderValue::from_str(&text).expect("base64 is a header's text"))
}

/// Why there is nothing at a path.
fn unfound(error: &io::Error, path: &str, container: &str) -> ApiError {
    match error.kind() {
        io::ErrorKind::NotADirectory => ApiError::internal(format!("lstat {path}: not a directory")),
        _ => ApiError::not_found(format!("Could not find the file {path} in container {container}")),
    }
}

/// A trailing slash or dot asks for what a link leads to.
fn look(path: &str) -> io::Result<Metadata> {
    if path.ends_with('/') || path.ends_with("/.") { fs::metadata(path) } else { fs::symlink_metadata(path) }
}

fn base_name(path: &str) -> String {
    // A trailing dot stays: it asks for what is in the directory, not for the directory.
    match path.trim_end_matches('/').rsplit('/').next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "/".to_owned(),
    }
}

/// Go's `fs.FileMode`.
fn go_mode(metadata: &Metadata) -> u32 {
    let kind = metadata.file_type();
    let mut mode = metadata.mode() & 0o777;
    for (is, bit) in [
        (kind.is_dir(), 31),
        (kind.is_symlink(), 27),
        (kind.is_block_device() || kind.is_char_device(), 26),
        (kind.is_fifo(), 25),
        (kind.is_socket(), 24),
        (metadata.mode() & 0o4000 != 0, 23),
        (metadata.mode() & 0o2000 != 0, 22),
        (kind.is_char_device(), 21),
        (metadata.mode() & 0o1000 != 0, 20),
    ] {
        mode |= u32::from(is) << bit;
    }
    mode
}

/// A path of a container as a tar stream.
pub(crate) async fn get(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let path = path_of(&call)?;
    let name = call.param("name").to_owned();
    let (header, stream) = {
        let _turn = turn(&container).await;
        let (at, of, path_there) = (daemon.clone(), container.clone(), path.clone());
        let header = blocking(move || root::within(&at, &of, || describe(&path_there, &name))).await?;
        drop(_turn);
        let base = base_name(&path);
        let literal = base == "." || base == "/";
        (
            header,
            produce(daemon.clone(), container.clone(), literal, move |tar| {
                let followed = path.ends_with('/') || path.ends_with("/.");
                let source = if followed { fs::canonicalize(&path)? } else { path.into() };
                tar.tree(&source, Path::new(&base))
            }),
        )
    };
    let record = container.snapshot();
    daemon.events.emit("container", "archive-path", &record.id, record.event_attributes());
    let mut response = streamed("application/x-tar", stream);
    response.headers_mut().insert(STAT, header);
    Ok(response)
}

/// All files of a container as a tar stream.
pub(crate) async fn export(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let record = container.snapshot();
    daemon.events.emit("container", "export", &record.id, record.event_attributes());
    let at = daemon.clone();
    // Without its volumes and mounts: from a view of its layers, as they are now.
    let stream = produce_with(move |sender| {
        root::layers_of(&at, &container, || {
            let mut tar = Tarball::new(Channel(sender));
            tar.children(Path::new("/"), Path::new(""))?;
            tar.finish()?;
            Ok(())
        })
    });
    Ok(streamed("application/x-tar", stream))
}

fn produce(
    daemon: Arc<Daemon>,
    container: Arc<Container>,
    literal: bool,
    write: impl FnOnce(&mut Tarball<Channel>) -> io::Result<()> + Send + 'static,
) -> impl futures::Stream<Item = io::Result<Bytes>> {
    produce_with(move |sender| {
        root::within(&daemon, &container, || {
            let mut tar = if literal { Tarball::literal(Channel(sender)) } else { Tarball::new(Channel(sender)) };
            write(&mut tar)?;
            tar.finish()?;
            Ok(())
        })
    })
}

/// What a blocking task writes, as a stream; its failure ends the stream so that the client notices.
pub(crate) fn produce_with(
    work: impl FnOnce(mpsc::Sender<io::Result<Bytes>>) -> Result<()> + Send + 'static,
) -> impl futures::Stream<Item = io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = work(sender.clone()) {
            let _ = sender.blocking_send(Err(io::Error::other(error)));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

/// The writing end of such a stream.
pub(crate) struct Channel(pub mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Unpacks an archive into a directory of a container.
pub(crate) async fn put(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let path = path_of(&call)?;
    let name = call.param("name").to_owned();
    let keep_kinds = call.flag("noOverwriteDirNonDir");
    // `docker cp -a`: what comes belongs to the container's user, if it has one.
    let user = Some(container.record().options.user.clone()).filter(|user| call.flag("copyUIDGID") && !user.is_empty());
    let spool = call.spool(&daemon.scratch()).await?;
    let _turn = turn(&container).await;
    let (here, at) = (daemon.clone(), container.clone());
    blocking(move || {
        let file = io::BufReader::new(spool.reopen()?);
        let mut plain = decompressed(file)?;
        root::within(&here, &at, || {
            let metadata = fs::metadata(&path).map_err(|error| unfound(&error, &path, &name))?;
            if !metadata.is_dir() {
                return Err(ApiError::bad("extraction point is not a directory"));
            }
            // A link in a volume may lead out of it.
            let place = fs::canonicalize(&path)?;
            match innermost(&at, &place.to_string_lossy()) {
                Some(true) => {}
                Some(false) => return Err(ApiError::bad("mounted volume is marked read-only")),
                None if at.record().host.readonly_rootfs => {
                    return Err(ApiError::bad("container rootfs is marked read-only"));
                }
                None => {}
            }
            let user = user.map(|user| UserSpec { user, ..UserSpec::default() });
            let ids = user.map(|user| engine::find_user(Path::new("/"), &user).map_err(ApiError::bad)).transpose()?;
            let owner = ids.map(|ids| (ids.uid, ids.gid));
            if keep_kinds || owner.is_some() {
                let mut archive = tar::Archive::new(&mut plain);
                archive.set_preserve_permissions(true);
                archive.set_preserve_ownerships(true);
                for entry in archive.entries()? {
                    let mut entry = entry?;
                    let target = Path::new(&path).join(entry.path()?);
                    let directory = entry.header().entry_type().is_dir();
                    if keep_kinds
                        && target
                            .symlink_metadata()
                            .is_ok_and(|there| there.is_dir() != directory && (there.is_dir() || directory))
                    {
                        return Err(ApiError::bad(format!(
                            "cannot overwrite {} \"{}\" with {} \"{}\"",
                            if directory { "non-directory" } else { "directory" },
                            target.display(),
                            if directory { "directory" } else { "non-directory" },
                            path
                        )));
                    }
                    let unpacked = entry.unpack_in(&path)?;
                    if let (true, Some((uid, gid))) = (unpacked, owner) {
                        std::os::unix::fs::lchown(&target, Some(uid), Some(gid))?;
                    }
                }
                return Ok(());
            }
            unpack(plain, Path::new(&path)).map_err(|error| ApiError::bad(error.to_string()))
        })
    })
    .await?;
    let record = container.snapshot();
    daemon.events.emit("container", "extract-to-dir", &record.id, record.event_attributes());
    Ok(empty(StatusCode::OK))
}

/// Whether the innermost mount that a path is below is writable; `None` if it is below none.
fn innermost(container: &Container, path: &str) -> Option<bool> {
    let (record, path) = (container.record(), super::mounts::clean(path));
    let around = record.mounts.iter().filter(|mount| Path::new(&path).starts_with(&mount.destination));
    around.max_by_key(|mount| mount.destination.len()).map(|mount| mount.rw)
}

/// The plain bytes of a plain or gzip stream.
pub(crate) fn decompressed(mut file: io::BufReader<fs::File>) -> io::Result<Box<dyn io::Read + Send>> {
    let head = io::BufRead::fill_buf(&mut file)?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        _ => Box::new(file),
    })
}
