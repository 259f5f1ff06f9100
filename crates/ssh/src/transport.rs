//! Packets over a connection (RFC 4253, 6), sealed with the keys of the last exchange.

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::cipher::Cipher;
use crate::exchange::{self, Exchanged};
use crate::wire::{Fields, Message};
use crate::{Login, SshError};

pub(crate) const DISCONNECT: u8 = 1;
const IGNORE: u8 = 2;
const UNIMPLEMENTED: u8 = 3;
const DEBUG: u8 = 4;
const EXT_INFO: u8 = 7;
pub(crate) const KEXINIT: u8 = 20;
pub(crate) const NEWKEYS: u8 = 21;
const GLOBAL_REQUEST: u8 = 80;
const REQUEST_FAILURE: u8 = 82;

/// What this program says that it is.
pub(crate) const VERSION: &str = concat!("SSH-2.0-hythe_", env!("CARGO_PKG_VERSION"));
/// A packet is no longer, as for OpenSSH.
const LONGEST: u32 = 256 << 10;
/// Bytes of what a server may say before its version, and of a version's line.
const GREETING: usize = 16 << 10;

/// One direction of a connection.
pub(crate) struct Direction {
    pub cipher: Cipher,
    pub sequence: u32,
}

impl Direction {
    fn new() -> Self {
        Self { cipher: Cipher::Plain, sequence: 0 }
    }
}

/// A connection to a server that has shown who it is.
pub(crate) struct Transport<S> {
    stream: S,
    buffer: Vec<u8>,
    pub sending: Direction,
    pub receiving: Direction,
    pub server_version: String,
    /// The first exchange's hash: what this connection is known by. Empty until then.
    pub session: Vec<u8>,
    /// The server's key, as it was first shown.
    pub host_key: Vec<u8>,
    /// Sequence numbers start anew with the keys.
    pub strict: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    /// Greets the server and exchanges keys with it.
    pub async fn open(stream: S, login: &Login<'_>) -> Result<Self, SshError> {
        let mut transport = Self {
            stream,
            buffer: Vec::new(),
            sending: Direction::new(),
            receiving: Direction::new(),
            server_version: String::new(),
            session: Vec::new(),
            host_key: Vec::new(),
            strict: false,
        };
        transport.stream.write_all(format!("{VERSION}\r\n").as_bytes()).await?;
        transport.server_version = transport.greeting().await?;
        exchange::exchange(&mut transport, None, Some(login)).await?;
        Ok(transport)
    }

    /// The server's version; lines before it are for people.
    async fn greeting(&mut self) -> Result<String, SshError> {
        let mut seen = 0;
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                seen += line.len();
                let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                if line.starts_with("SSH-2.0-") || line.starts_with("SSH-1.99-") {
                    return Ok(line);
                }
                if line.starts_with("SSH-") {
                    return Err(SshError::Protocol("the server speaks another version"));
                }
            }
            if seen + self.buffer.len() > GREETING {
                return Err(SshError::Protocol("the server does not greet"));
            }
            self.fill().await?;
        }
    }

    /// Can be given up at any time: what has arrived stays.
    async fn fill(&mut self) -> Result<(), SshError> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// The next packet, whatever it is. Can be given up at any time.
    pub async fn packet(&mut self) -> Result<Vec<u8>, SshError> {
        let Direction { cipher, sequence } = &self.receiving;
        let (tag, block, counts, sequence) = (cipher.tag(), cipher.block(), cipher.counts_length(), *sequence);
        let length = loop {
            if let Some(first) = self.buffer.first_chunk::<4>() {
                break self.receiving.cipher.length(sequence, *first);
            }
            self.fill().await?;
        };
        let blocks = length as usize + if counts { 4 } else { 0 };
        if !(5..=LONGEST).contains(&length) || !blocks.is_multiple_of(block) {
            return Err(SshError::Protocol("a packet of no possible length"));
        }
        let whole = 4 + length as usize + tag;
        while self.buffer.len() < whole {
            self.fill().await?;
        }
        let opened = self.receiving.cipher.open(sequence, &mut self.buffer[..whole])?;
        let padding = usize::from(opened[0]);
        let end = opened.len().checked_sub(padding).filter(|end| *end > 1 && padding >= 4);
        let payload = opened[1..end.ok_or(SshError::Protocol("a packet that is all padding"))?].to_vec();
        self.buffer.drain(..whole);
        self.receiving.sequence = sequence.wrapping_add(1);
        Ok(payload)
    }

    /// Sends one packet.
    pub async fn send(&mut self, message: Message) -> Result<(), SshError> {
        let Direction { cipher, sequence } = &mut self.sending;
        let (block, payload) = (cipher.block(), message.0);
        let head = if cipher.counts_length() { 5 } else { 1 };
        let padding = block - (head + payload.len()) % block;
        let padding = if padding < 4 { padding + block } else { padding };
        let length = 1 + payload.len() + padding;
        let mut packet = Message::default().number(length as u32).byte(padding as u8).0;
        packet.extend(payload);
        let mut random = vec![0; padding];
        fill_random(&mut random)?;
        packet.extend(random);
        cipher.seal(*sequence, &mut packet)?;
        *sequence = sequence.wrapping_add(1);
        self.stream.write_all(&packet).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message that is about what the caller does: what is about the connection itself is done here.
    pub async fn message(&mut self) -> Result<Vec<u8>, SshError> {
        loop {
            let packet = self.packet().await?;
            if let Some(message) = self.attend(packet).await? {
                return Ok(message);
            }
        }
    }

    /// Does what a packet wants of the connection; answers it if it wants something else.
    pub async fn attend(&mut self, packet: Vec<u8>) -> Result<Option<Vec<u8>>, SshError> {
        let mut fields = Fields::of(&packet);
        match fields.byte()? {
            IGNORE | UNIMPLEMENTED | DEBUG | EXT_INFO => {}
            DISCONNECT => return Err(disconnected(&packet)),
            KEXINIT => exchange::exchange(self, Some(packet), None).await?,
            GLOBAL_REQUEST => {
                fields.bytes()?;
                if fields.byte()? != 0 {
                    self.send(Message::new(REQUEST_FAILURE)).await?;
                }
            }
            _ => return Ok(Some(packet)),
        }
        Ok(None)
    }

    /// Uses other keys for what is sent from here on.
    pub fn send_with(&mut self, keys: &Exchanged) -> Result<(), SshError> {
        self.sending.cipher = keys.cipher(&keys.sending, *b"AC")?;
        self.sending.sequence = if self.strict { 0 } else { self.sending.sequence };
        Ok(())
    }

    /// The same for what is received.
    pub fn receive_with(&mut self, keys: &Exchanged) -> Result<(), SshError> {
        self.receiving.cipher = keys.cipher(&keys.receiving, *b"BD")?;
        self.receiving.sequence = if self.strict { 0 } else { self.receiving.sequence };
        Ok(())
    }
}

/// Why a server ended the connection.
pub(crate) fn disconnected(packet: &[u8]) -> SshError {
    let mut fields = Fields::of(packet);
    let words = fields.skip(5).and_then(|()| fields.bytes());
    SshError::Said(String::from_utf8_lossy(words.unwrap_or_default()).into_owned())
}

pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), SshError> {
    SystemRandom::new().fill(bytes).map_err(|_| std::io::Error::other("the kernel has no random numbers").into())
}
