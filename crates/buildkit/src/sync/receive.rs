//! Taking a tree from a client.

use std::os::fd::OwnedFd;

use grpc::{Channel, Duplex};
use tokio::sync::mpsc;

use super::packet::Packet;
use super::tree::Tree;
use super::{Limits, SyncError, TreeError, refuse};

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
                return Err(refuse(error, sending, receiving).await);
            }
            message = tokio::time::timeout(limits.patience, receiving.next()) => {
                let message = message.map_err(|_| SyncError::Stalled(limits.patience.as_secs()))??;
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
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::*;
    use crate::sync::packet::Stat;

    /// In a list of packets: waits for one of the receiver's.
    const WAIT: Packet = Packet::Request(u32::MAX);

    /// What comes of a sender that sends these, one after the other, whatever is asked; and what it heard.
    async fn from(packets: Vec<Packet>, stays: bool, limits: Limits) -> (Result<u64, SyncError>, Vec<Packet>, TempDir) {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (heard, mut hearing) = mpsc::unbounded_channel();
        let packets = Arc::new(packets);
        tokio::spawn(grpc::connection(client, move |mut call: grpc::Call| {
            let (heard, packets) = (heard.clone(), packets.clone());
            async move {
                assert_eq!(
                    (call.method.as_str(), call.header("dir-name")),
                    ("moby.filesync.v1.FileSync/DiffCopy", Some("context"))
                );
                let (sender, receiver) = mpsc::channel(1);
                tokio::spawn(async move {
                    for packet in packets.iter() {
                        // An honest sender sends what it was asked for.
                        if *packet == WAIT {
                            let message = call.next().await.unwrap().unwrap();
                            let _ = heard.send(Packet::read(&message).unwrap());
                            continue;
                        }
                        let _ = sender.send(packet.message()).await;
                    }
                    while let Ok(Some(message)) = call.next().await {
                        let packet = Packet::read(&message).unwrap();
                        if packet == Packet::Finished {
                            let _ = sender.send(Packet::Finished.message()).await;
                        }
                        let _ = heard.send(packet);
                    }
                    drop(if stays { None } else { Some(sender) });
                });
                Ok(grpc::Reply::Many(receiver))
            }
        }));
        let channel = Channel::over(server, "localhost").await.unwrap();
        let place = tempfile::tempdir().unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let root = rustix::fs::open(place.path(), flags, rustix::fs::Mode::empty()).unwrap();
        let result = receive(&channel, "context", &Patterns::default(), root, limits, |_| ()).await;
        drop(channel);
        let mut all = Vec::new();
        while let Some(packet) = hearing.recv().await {
            all.push(packet);
        }
        (result, all, place)
    }

    fn stat(path: &str, size: i64) -> Packet {
        Packet::Stat(Stat { path: path.into(), mode: 0o644, size, ..Stat::default() })
    }

    #[tokio::test]
    async fn a_tree_is_asked_for_file_by_file_and_finished() {
        let packets = vec![
            stat("a", 1),
            stat("b", 2),
            Packet::LastStat,
            WAIT,
            WAIT,
            Packet::Data(1, b"bb".to_vec()),
            Packet::Data(0, b"a".to_vec()),
            Packet::Data(1, Vec::new()),
            Packet::Data(0, Vec::new()),
        ];
        let (result, heard, place) = from(packets, true, Limits::default()).await;
        result.unwrap();
        assert_eq!(heard, [Packet::Request(0), Packet::Request(1), Packet::Finished]);
        assert_eq!(std::fs::read(place.path().join("b")).unwrap(), b"bb");
    }

    #[tokio::test]
    async fn a_hostile_sender_is_told_why_and_the_build_fails() {
        for (packets, said) in [
            (vec![stat("../x", 1)], "invalid path \"../x\""),
            (vec![stat("a", 1), stat("a", 1)], "path \"a\" is out of order"),
            (vec![stat("a", 1), Packet::Data(0, vec![0; 100])], "more than 64 bytes"),
            (vec![stat("a", 1), Packet::Data(3, vec![0; 1])], "invalid file request 3"),
        ] {
            let limits = Limits { bytes: 64, ..Limits::default() };
            let (result, heard, place) = from(packets, true, limits).await;
            assert_eq!(result.unwrap_err().to_string(), said);
            assert_eq!(heard.last(), Some(&Packet::Error(said.to_owned())));
            assert!(!place.path().join("../x").exists());
        }
    }

    #[tokio::test]
    async fn a_sender_that_fails_ends_early_or_falls_silent_is_an_error() {
        let failed = |packets, stays, patience| async move {
            let limits = Limits { patience, ..Limits::default() };
            from(packets, stays, limits).await.0.unwrap_err().to_string()
        };
        let long = std::time::Duration::from_secs(60);
        let error = vec![Packet::Error("no such directory".into())];
        assert_eq!(failed(error, true, long).await, "error from sender: no such directory");
        assert_eq!(failed(vec![Packet::Request(1)], true, long).await, "unexpected packet in a file transfer");
        assert_eq!(failed(vec![Packet::Finished], true, long).await, "unexpected packet in a file transfer");
        let short = std::time::Duration::from_millis(20);
        assert_eq!(failed(vec![stat("a", 1)], true, short).await, "the client has sent nothing for 0 seconds");
    }

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
