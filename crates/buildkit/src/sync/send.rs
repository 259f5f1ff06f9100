//! Giving a directory to a client (`--output type=local`).

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use grpc::{Duplex, Message};
use tokio::sync::mpsc;

use super::packet::{Packet, Stat, mode};
use super::{SyncError, refuse};

/// Bytes of a file in one packet.
const PIECE: usize = 32 << 10;
/// Packets between the disk and the network.
const WAITING: usize = 16;

/// Sends all below `root` over a call; the client asks for the contents it wants. Returns the bytes sent.
pub(crate) async fn send(call: Duplex, root: PathBuf, mut progress: impl FnMut(u64)) -> Result<u64, SyncError> {
    let Duplex { sending, mut receiving } = call;
    let (packets, mut to_net) = mpsc::channel::<Message>(WAITING);
    let (asking, asked) = mpsc::unbounded_channel::<u32>();
    let mut disk = tokio::task::spawn_blocking(move || read(&root, &packets, asked));
    let mut bytes = 0;
    loop {
        tokio::select! {
            Some(message) = to_net.recv() => {
                bytes += message.0.len() as u64;
                progress(bytes);
                sending.send(&message).await?;
            }
            result = &mut disk => {
                let error = match result {
                    // It ends when nobody asks any more, which is only below.
                    Ok(Ok(())) => return Err(SyncError::Packet),
                    Ok(Err(error)) => error,
                    Err(panic) => SyncError::Interrupted(panic.to_string()),
                };
                return Err(refuse(error, sending, receiving).await);
            }
            message = receiving.next() => match message?.as_deref().map(Packet::read) {
                Some(Some(Packet::Request(id))) => drop(asking.send(id)),
                Some(Some(Packet::Finished)) => {
                    sending.send(&Packet::Finished.message()).await?;
                    drop(sending);
                    while receiving.next().await?.is_some() {}
                    return Ok(bytes);
                }
                Some(Some(Packet::Error(text))) => return Err(SyncError::Peer("receiver", text)),
                _ => return Err(SyncError::Packet),
            }
        }
    }
}

/// The blocking half: lists, then reads what is asked for.
fn read(
    root: &Path,
    packets: &mpsc::Sender<Message>,
    mut asked: mpsc::UnboundedReceiver<u32>,
) -> Result<(), SyncError> {
    let mut files = HashMap::new();
    let mut count = 0;
    list(root, "", &mut |stat| {
        if stat.is_file() {
            files.insert(count, stat.path.clone());
        }
        count += 1;
        // A network that takes nothing any more has its own reason.
        let _ = packets.blocking_send(Packet::Stat(stat).message());
    })?;
    let _ = packets.blocking_send(Packet::LastStat.message());
    let mut buffer = vec![0; PIECE];
    while let Some(id) = asked.blocking_recv() {
        let path = files.remove(&id).ok_or(SyncError::Packet)?;
        let failed = |error| SyncError::Read(path.clone(), error);
        let mut file = File::open(root.join(&path)).map_err(failed)?;
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            let _ = packets.blocking_send(Packet::Data(id, buffer[..count].to_vec()).message());
            if count == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// A directory's entries in the order of their names, each with all below it before the next.
fn list(root: &Path, below: &str, each: &mut impl FnMut(Stat)) -> Result<(), SyncError> {
    let failed = |error| SyncError::Read(below.to_owned(), error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root.join(below)).map_err(failed)? {
        // Names that are not UTF-8 can't be said in this protocol.
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    for name in names {
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let metadata = std::fs::symlink_metadata(root.join(&path)).map_err(failed)?;
        let kind = metadata.file_type();
        use std::os::unix::fs::FileTypeExt;
        let bits = match () {
            () if kind.is_dir() => mode::DIRECTORY,
            () if kind.is_symlink() => mode::LINK,
            () if kind.is_fifo() => mode::PIPE,
            () if kind.is_file() => 0,
            // Devices can't be made by most receivers.
            () => continue,
        };
        let link = match kind.is_symlink() {
            true => std::fs::read_link(root.join(&path)).map_err(failed)?.to_string_lossy().into_owned(),
            false => String::new(),
        };
        each(Stat {
            path: path.clone(),
            mode: bits | mode::of_permissions(metadata.mode()),
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: if kind.is_file() { metadata.len() as i64 } else { 0 },
            modified: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            link,
        });
        if kind.is_dir() {
            list(root, &path, each)?;
        }
    }
    Ok(())
}
