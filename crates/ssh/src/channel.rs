//! A command that runs at the server, and what it says and hears (RFC 4254, 5 and 6).

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;

use crate::SshError;
use crate::transport::Transport;
use crate::wire::{Fields, Message};

const OPEN: u8 = 90;
const OPENED: u8 = 91;
const NOT_OPENED: u8 = 92;
const WINDOW_ADJUST: u8 = 93;
const DATA: u8 = 94;
const EXTENDED_DATA: u8 = 95;
const EOF: u8 = 96;
const CLOSE: u8 = 97;
const REQUEST: u8 = 98;
const REQUEST_SUCCESS: u8 = 99;
const REQUEST_FAILURE: u8 = 100;

/// Our number of the one channel.
const NUMBER: u32 = 0;
/// So much may be under way to us.
const WINDOW: u32 = 2 << 20;
const PACKET: u32 = 32 << 10;
/// Words of a command's standard error that are kept.
const WORDS: usize = 8 << 10;

/// A running command: its standard output is read, its standard input written. Dropped, the connection is given up.
pub struct Session {
    stream: DuplexStream,
    ended: Arc<Mutex<Ended>>,
    task: JoinHandle<()>,
}

/// What is known of a command's end.
#[derive(Default)]
struct Ended {
    words: Vec<u8>,
    error: Option<SshError>,
}

impl Session {
    /// Tells why the command said no more, once it does not: the connection's fault, or the command's own words.
    pub fn reason(&self) -> impl Fn() -> Option<String> + Send + Sync + 'static {
        let ended = self.ended.clone();
        move || {
            let ended = ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let words = String::from_utf8_lossy(&ended.words).trim().to_owned();
            match &ended.error {
                Some(error) => Some(error.to_string()),
                None => Some(words).filter(|words| !words.is_empty()),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AsyncRead for Session {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl AsyncWrite for Session {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Starts the command.
pub(crate) async fn run<S>(mut transport: Transport<S>, command: &str) -> Result<Session, SshError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    transport.send(Message::new(OPEN).text("session").number(NUMBER).number(WINDOW).number(PACKET)).await?;
    let answer = transport.message().await?;
    let mut fields = Fields::of(&answer);
    let (theirs, window, packet) = match fields.byte()? {
        OPENED => {
            fields.number()?;
            (fields.number()?, fields.number()?, fields.number()?)
        }
        NOT_OPENED => {
            fields.skip(8)?;
            return Err(SshError::Said(String::from_utf8_lossy(fields.bytes()?).into_owned()));
        }
        _ => return Err(SshError::Protocol("an answer to another request")),
    };
    transport.send(Message::new(REQUEST).number(theirs).text("exec").byte(1).text(command)).await?;
    let (near, stream) = duplex(64 << 10);
    let ended = Arc::<Mutex<Ended>>::default();
    let mut channel =
        Channel { transport, theirs, window, packet, received: 0, ended: ended.clone(), early: Vec::new() };
    channel.accepted().await?;
    let task = tokio::spawn(async move {
        let mut near = near;
        let result = channel.carry(&mut near).await;
        // Whoever hears that there is no more asks why.
        channel.ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).error = result.err();
        drop(near);
    });
    Ok(Session { stream, ended, task })
}

struct Channel<S> {
    transport: Transport<S>,
    theirs: u32,
    /// What the server takes, altogether and at a time.
    window: u32,
    packet: u32,
    /// What we took since we last said so.
    received: u32,
    ended: Arc<Mutex<Ended>>,
    /// What came before the command was said to run.
    early: Vec<Vec<u8>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    /// Waits until the command is said to run.
    async fn accepted(&mut self) -> Result<(), SshError> {
        loop {
            let message = self.transport.message().await?;
            match message[0] {
                REQUEST_SUCCESS => return Ok(()),
                REQUEST_FAILURE | CLOSE => return Err(SshError::Refused),
                _ => self.early.push(message),
            }
        }
    }

    /// Carries what is said either way until the server has no more to say.
    async fn carry(&mut self, near: &mut DuplexStream) -> Result<(), SshError> {
        let (mut reader, mut writer) = tokio::io::split(near);
        for message in std::mem::take(&mut self.early) {
            if !self.hear(&message, &mut writer).await? {
                return Ok(());
            }
        }
        let (mut buffer, mut saying) = (vec![0; PACKET as usize], true);
        loop {
            let most = (self.window.min(self.packet) as usize).min(buffer.len());
            tokio::select! {
                packet = self.transport.packet() => {
                    let packet = packet?;
                    if let Some(message) = self.transport.attend(packet).await?
                        && !self.hear(&message, &mut writer).await?
                    {
                        return Ok(());
                    }
                }
                read = reader.read(&mut buffer[..most]), if saying && most > 0 => match read {
                    Ok(0) | Err(_) => {
                        saying = false;
                        self.transport.send(Message::new(EOF).number(self.theirs)).await?;
                    }
                    Ok(count) => {
                        self.window -= count as u32;
                        self.transport.send(Message::new(DATA).number(self.theirs).bytes(&buffer[..count])).await?;
                    }
                },
            }
        }
    }

    /// Whether more is to come after this message.
    async fn hear(&mut self, message: &[u8], writer: &mut (impl AsyncWrite + Unpin)) -> Result<bool, SshError> {
        let mut fields = Fields::of(message);
        let kind = fields.byte()?;
        if fields.number()? != NUMBER {
            return Err(SshError::Protocol("a message to another channel"));
        }
        match kind {
            WINDOW_ADJUST => self.window = self.window.saturating_add(fields.number()?),
            DATA => {
                let data = fields.bytes()?;
                if writer.write_all(data).await.is_err() {
                    return Ok(false);
                }
                self.took(data.len()).await?;
            }
            EXTENDED_DATA => {
                fields.number()?;
                let data = fields.bytes()?;
                {
                    let words = &mut self.ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).words;
                    let room = WORDS.saturating_sub(words.len());
                    words.extend(&data[..data.len().min(room)]);
                }
                self.took(data.len()).await?;
            }
            CLOSE => {
                self.transport.send(Message::new(CLOSE).number(self.theirs)).await?;
                return Ok(false);
            }
            REQUEST => {
                fields.bytes()?;
                if fields.byte()? != 0 {
                    self.transport.send(Message::new(REQUEST_FAILURE).number(self.theirs)).await?;
                }
            }
            _ => {}
        }
        Ok(true)
    }

    /// Lets the server say more, once it has said half of what it may.
    async fn took(&mut self, count: usize) -> Result<(), SshError> {
        self.received = self.received.saturating_add(count as u32);
        if self.received >= WINDOW / 2 {
            let more = std::mem::take(&mut self.received);
            self.transport.send(Message::new(WINDOW_ADJUST).number(self.theirs).number(more)).await?;
        }
        Ok(())
    }
}
