//! The engine's end of a shim's socket.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::shim::protocol::{self, Answer, Failure, Message, Reader, Request, RequestBody};
use crate::streams;

type Reply = (Result<Answer, Failure>, Vec<OwnedFd>);

/// A connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: Arc<AsyncFd<OwnedFd>>,
    /// `None` once the connection is lost.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>,
    next: AtomicU64,
    /// Held while a frame is sent, so that frames do not mix.
    sending: tokio::sync::Mutex<()>,
}

/// The other end is gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// The messages that are no answers, in order.
pub(crate) struct Incoming {
    client: Client,
    reader: Reader,
}

impl Client {
    /// Takes a connected socket.
    pub fn new(socket: OwnedFd) -> io::Result<(Self, Incoming)> {
        let client = Self(Arc::new(Inner {
            socket: streams::register(socket)?,
            pending: Mutex::new(Some(HashMap::new())),
            next: AtomicU64::new(1),
            sending: tokio::sync::Mutex::new(()),
        }));
        Ok((client.clone(), Incoming { client, reader: Reader::default() }))
    }

    /// Connects to a shim's socket, however long its path.
    pub fn connect(path: &Path) -> io::Result<(Self, Incoming)> {
        let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stream = UnixStream::connect(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?;
        Self::new(stream.into())
    }

    /// Asks and waits for the answer.
    pub async fn call(&self, body: RequestBody, fds: &[RawFd]) -> Result<Reply, Gone> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.0.pending.lock().as_mut().ok_or(Gone)?.insert(id, sender);
        let frame = protocol::frame(&Request { id, fds: fds.len(), body });
        if self.send(&frame, fds).await.is_err() {
            self.close();
            return Err(Gone);
        }
        receiver.await.map_err(|_| Gone)
    }

    async fn send(&self, mut bytes: &[u8], mut fds: &[RawFd]) -> io::Result<()> {
        let _turn = self.0.sending.lock().await;
        while !bytes.is_empty() {
            let mut ready = self.0.socket.writable().await?;
            if let Ok(result) = ready.try_io(|socket| protocol::send(socket.as_fd(), bytes, fds)) {
                bytes = &bytes[result?..];
                fds = &[];
            }
        }
        Ok(())
    }

    /// Fails every call, now and later.
    fn close(&self) {
        self.0.pending.lock().take();
    }
}

impl Incoming {
    /// The next message that is no answer; `None` when the shim is gone.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.reader.next::<Message>() {
                Ok(Some(Message::Answer { id, fds, result })) => {
                    let Ok(fds) = self.reader.take_fds(fds) else { break };
                    let waiting = self.client.0.pending.lock().as_mut().and_then(|pending| pending.remove(&id));
                    if let Some(waiting) = waiting {
                        // Whoever asked may have gone.
                        let _ = waiting.send((result, fds));
                    }
                    continue;
                }
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "a shim sent what cannot be understood");
                    break;
                }
            }
            let Ok(mut ready) = self.client.0.socket.readable().await else { break };
            match ready.try_io(|socket| self.reader.fill(socket.as_fd())) {
                Ok(Ok(true)) | Err(_) => {}
                Ok(Ok(false) | Err(_)) => break,
            }
        }
        self.client.close();
        None
    }
}
