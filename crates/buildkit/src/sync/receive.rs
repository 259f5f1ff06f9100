//! Taking a tree from a client.

use std::os::fd::OwnedFd;
use std::time::Duration;

use grpc::{Channel, Duplex};
use tokio::sync::mpsc;

use super::packet::Packet;
use super::tree::Tree;
use super::{Limits, SyncError, TreeError};

/// How long a client may send nothing while something is awaited from it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Packets between the network and the disk.
const WAITING: usize = 64;

/// Which files of a directory the client is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Patterns {
    /// `.dockerignore`'s lines.
    pub exclude: Vec<String>,
    /// Paths (or patterns) with what they lead to; all when there are none.
    pub follow: Vec<String>,
}

/// Fills an empty directory with a client's directory `name`; `progress` is told the bytes so far. Returns them.
pub(crate) async fn receive(
    channel: &Channel,
    name: &str,
    patterns: &Patterns,
    root: OwnedFd,
    limits: Limits,
    mut progress: impl FnMut(u64),
) -> Result<u64, SyncError> {
    let headers = headers(name, patterns);
    let Duplex { sending, mut receiving } = channel.open("moby.filesync.v1.FileSync/DiffCopy", &headers)?;
    let (to_disk, packets) = mpsc::channel::<Packet>(WAITING);
    let (asking, mut asked) = mpsc::unbounded_channel();
    let mut disk = tokio::task::spawn_blocking(move || fill(Tree::new(root, limits), packets, &asking));
    let mut bytes = 0;
    let mut whole = false;
    loop {
        tokio::select! {
            Some(id) = asked.recv(), if !whole => sending.send(&Packet::Request(id).message()).await?,
            result = &mut disk, if !whole => {
                let error = match result {
                    Ok(Ok(())) => {
                        whole = true;
                        sending.send(&Packet::Finished.message()).await?;
                        continue;
                    }
                    Ok(Err(error)) => SyncError::from(error),
                    Err(panic) => SyncError::Interrupted(panic.to_string()),
                };
                let _ = sending.send(&Packet::Error(error.to_string()).message()).await;
                return Err(error);
            }
            message = tokio::time::timeout(PATIENCE, receiving.next()) => {
                let message = message.map_err(|_| SyncError::Stalled(PATIENCE.as_secs()))??;
                // Once all is here, a sender may close without saying that it is finished, too.
                let Some(message) = message else { return if whole { Ok(bytes) } else { Err(SyncError::Packet) } };
                bytes += message.len() as u64;
                progress(bytes);
                match Packet::read(&message) {
                    Some(Packet::Error(text)) => return Err(SyncError::Peer("sender", text)),
                    Some(Packet::Finished) if whole => return Ok(bytes),
                    // A disk that does not take it any more says why itself.
                    Some(packet @ (Packet::Stat(_) | Packet::LastStat | Packet::Data(..))) => {
                        let _ = to_disk.send(packet).await;
                    }
                    _ => return Err(SyncError::Packet),
                }
            }
        }
    }
}

/// The blocking half: packets become files, until the tree is whole or nobody sends any more.
fn fill(
    mut tree: Tree,
    mut packets: mpsc::Receiver<Packet>,
    asking: &mpsc::UnboundedSender<u32>,
) -> Result<(), TreeError> {
    while let Some(packet) = packets.blocking_recv() {
        let wanted = match packet {
            Packet::Stat(stat) => tree.stat(stat)?,
            Packet::LastStat => tree.last()?,
            Packet::Data(id, data) => tree.data(id, &data)?,
            Packet::Request(_) | Packet::Finished | Packet::Error(_) => continue,
        };
        for id in wanted {
            let _ = asking.send(id);
        }
        if tree.is_whole() {
            break;
        }
    }
    Ok(())
}

/// The request's metadata. Lists that are not ASCII are escaped whole, and say so.
fn headers(name: &str, patterns: &Patterns) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    let lists = [
        ("dir-name", "dir-name-encoded", vec![name.to_owned()]),
        ("exclude-patterns", "exclude-patterns-encoded", patterns.exclude.clone()),
        ("followpaths", "followpaths-encoded", patterns.follow.clone()),
    ];
    for (key, encoded, values) in lists {
        let plain = values.iter().all(|value| value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        if !plain {
            headers.push((encoded, "1".to_owned()));
        }
        headers.extend(values.into_iter().map(|value| (key, if plain { value } else { escape(&value) })));
    }
    headers
}

/// Go's `url.QueryEscape`.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_travel_as_headers_and_are_escaped_when_they_must() {
        let patterns =
            Patterns { exclude: vec!["*.o".into(), "!a b".into()], follow: vec!["für".into(), "x y".into()] };
        let found = headers("context", &patterns);
        let wanted = [
            ("dir-name", "context"),
            ("exclude-patterns", "*.o"),
            ("exclude-patterns", "!a b"),
            ("followpaths-encoded", "1"),
            ("followpaths", "f%C3%BCr"),
            ("followpaths", "x+y"),
        ];
        assert_eq!(found, wanted.map(|(key, value)| (key, value.to_owned())));
    }
}
