//! Single files to and from a client: an exported archive (`moby.filesync.v1.FileSend`), a context from standard input
//! (`moby.upload.v1.Upload`).

use std::io::{self, Write};
use std::time::Duration;

use grpc::{CallError, Duplex, Fields, Message};
use tokio::sync::mpsc;

use super::Session;

/// How long a client may send nothing.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes in one message to the client.
const PIECE: usize = 1 << 20;

/// What a client's `context` is when it comes from its standard input.
pub(crate) struct Upload {
    host: String,
    path: String,
}

impl Upload {
    /// From `http://buildkit-session/ID`.
    pub fn parse(context: &str) -> Option<Self> {
        let rest = context.strip_prefix("http://buildkit-session")?;
        let path = rest.strip_prefix('/').filter(|path| !path.is_empty())?;
        Some(Self { host: "buildkit-session".into(), path: format!("/{path}") })
    }
}

/// Writes what the client uploads, up to `limit` bytes; returns them.
pub(crate) async fn receive_upload(
    session: &Session,
    upload: &Upload,
    mut file: tokio::fs::File,
    limit: u64,
) -> Result<u64, String> {
    use tokio::io::AsyncWriteExt;
    let metadata = [("urlpath", upload.path.clone()), ("urlhost", upload.host.clone())];
    let Duplex { sending, mut receiving } =
        session.channel.open("moby.upload.v1.Upload/Pull", &metadata).map_err(|e| e.to_string())?;
    let mut bytes = 0;
    loop {
        let message = tokio::time::timeout(PATIENCE, receiving.next()).await;
        let message = message.map_err(|_| "the client sends nothing any more")?.map_err(|e| e.to_string())?;
        let Some(message) = message else { break };
        let fields = Fields::read(&message);
        bytes += fields.data(1).len() as u64;
        if bytes > limit {
            return Err(format!("more than {limit} bytes"));
        }
        file.write_all(fields.data(1)).await.map_err(|e| e.to_string())?;
    }
    drop(sending);
    file.flush().await.map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Opens a file at the client for an exporter; the writer may block. The future sends until the writer is dropped, and
/// ends when the client has it all.
pub(crate) fn send_file(
    session: &Session,
    exporter: usize,
    metadata: &[(String, String)],
) -> Result<(PieceWriter, impl Future<Output = Result<(), CallError>> + Send + use<>), CallError> {
    let mut headers = vec![("buildkit-attachable-exporter-id", exporter.to_string())];
    let named: Vec<(String, String)> =
        metadata.iter().map(|(key, value)| (format!("exporter-md-{key}"), value.clone())).collect();
    headers.extend(named.iter().map(|(key, value)| (key.as_str(), value.clone())));
    let Duplex { sending, mut receiving } = session.channel.open("moby.filesync.v1.FileSend/DiffCopy", &headers)?;
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(4);
    let transfer = async move {
        loop {
            tokio::select! {
                piece = pieces.recv() => match piece {
                    Some(piece) => sending.send(&Message::default().data(1, &piece)).await?,
                    None => break,
                },
                // A client that ends the call early says why.
                answer = receiving.next() => {
                    answer?;
                    return Err(CallError::Transport("the client closed the file".to_owned()));
                }
            }
        }
        drop(sending);
        while receiving.next().await?.is_some() {}
        Ok(())
    };
    Ok((PieceWriter { sender, buffer: Vec::new() }, transfer))
}

/// The blocking end of a file at a client.
pub(crate) struct PieceWriter {
    sender: mpsc::Sender<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client closed the file");
        self.sender.blocking_send(std::mem::take(&mut self.buffer)).map_err(gone)
    }
}
