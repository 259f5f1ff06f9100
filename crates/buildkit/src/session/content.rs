//! A directory of blobs at the client (`containerd.services.content.v1.Content`), where buildx keeps a build's cache.

use std::path::Path;

use grpc::{CallError, Duplex, Fields, Message, Receiving, Sending, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Session;

/// Bytes in one message to the client.
const PIECE: usize = 1 << 20;
const WRITE: u64 = 1;
const COMMIT: u64 = 2;

/// One directory.
pub(crate) struct Blobs<'a> {
    session: &'a Session,
    name: String,
}

impl<'a> Blobs<'a> {
    /// By the path that the client has it by.
    pub fn local(session: &'a Session, path: &str) -> Self {
        Self { session, name: format!("local:{path}") }
    }

    fn call(&self, method: &str) -> Result<(Sending, Receiving), CallError> {
        let method = format!("containerd.services.content.v1.Content/{method}");
        let Duplex { sending, receiving } =
            self.session.channel.open(&method, &[("buildkit-attachable-store-id", self.name.clone())])?;
        Ok((sending, receiving))
    }

    /// Whether a blob is there.
    pub async fn has(&self, digest: &str) -> Result<bool, CallError> {
        let (sending, mut receiving) = self.call("Info")?;
        sending.send(&Message::default().text(1, digest)).await?;
        drop(sending);
        match receiving.next().await {
            Ok(answer) => Ok(answer.is_some()),
            Err(CallError::Refused(status)) if status.code == Status::NOT_FOUND => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a blob into a new file, up to `limit` bytes of it. Whether it is what its digest says is not looked at.
    pub async fn read(&self, digest: &str, limit: u64, to: &Path) -> Result<(), CallError> {
        let local = |error: std::io::Error| CallError::Transport(format!("{}: {error}", to.display()));
        let (sending, mut receiving) = self.call("Read")?;
        sending.send(&Message::default().text(1, digest)).await?;
        drop(sending);
        let mut file = tokio::fs::File::create_new(to).await.map_err(local)?;
        let mut bytes = 0;
        while let Some(piece) = receiving.next().await? {
            let fields = Fields::read(&piece);
            bytes += fields.data(2).len() as u64;
            if bytes > limit {
                return Err(CallError::Transport(format!("the blob {digest} is larger than {limit} bytes")));
            }
            file.write_all(fields.data(2)).await.map_err(local)?;
        }
        file.flush().await.map_err(local)
    }

    /// Writes a file's bytes as a blob, unless it is there.
    pub async fn write(&self, digest: &str, from: &Path) -> Result<(), CallError> {
        if self.has(digest).await? {
            return Ok(());
        }
        let local = |error: std::io::Error| CallError::Transport(format!("{}: {error}", from.display()));
        let mut file = tokio::fs::File::open(from).await.map_err(local)?;
        let size = file.metadata().await.map_err(local)?.len();
        let (sending, mut receiving) = self.call("Write")?;
        let message = |action: u64, offset: u64| {
            let message = Message::default().number(1, action).text(2, &format!("hythe-cache-{digest}"));
            message.number(3, size).text(4, digest).number(5, offset)
        };
        let (mut buffer, mut offset) = (vec![0; PIECE], 0);
        loop {
            let count = file.read(&mut buffer).await.map_err(local)?;
            let action = if count == 0 { COMMIT } else { WRITE };
            // Each piece is answered; a client that wants no more says why.
            let sent = sending.send(&message(action, offset).data(6, &buffer[..count])).await;
            if receiving.next().await?.is_none() {
                sent?;
                return Err(CallError::Transport("the client closed the cache".to_owned()));
            }
            if count == 0 {
                return Ok(());
            }
            offset += count as u64;
        }
    }
}
