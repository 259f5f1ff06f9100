//! The user's agent, which holds the keys and signs (draft-ietf-sshm-ssh-agent).

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::SshError;
use crate::wire::{Fields, Message};

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGNED: u8 = 14;
/// RSA signs with SHA-512.
const RSA_SHA2_512: u32 = 4;
/// No answer is longer, as for OpenSSH.
const LONGEST: u32 = 256 << 10;

/// A connection to an agent.
pub(crate) struct Agent<A>(A);

impl<A: AsyncRead + AsyncWrite + Unpin> Agent<A> {
    pub fn new(stream: A) -> Self {
        Self(stream)
    }

    async fn ask(&mut self, message: Message, kind: u8) -> Result<Vec<u8>, SshError> {
        let broken = |error: std::io::Error| SshError::Agent(error.to_string());
        self.0.write_all(&Message::default().bytes(&message.0).0).await.map_err(broken)?;
        self.0.flush().await.map_err(broken)?;
        let length = self.0.read_u32().await.map_err(broken)?;
        if !(1..=LONGEST).contains(&length) {
            return Err(SshError::Agent(format!("an answer of {length} bytes")));
        }
        let mut answer = vec![0; length as usize];
        self.0.read_exact(&mut answer).await.map_err(broken)?;
        match answer[0] == kind {
            true => Ok(answer),
            false => Err(SshError::Agent("it refuses".to_owned())),
        }
    }

    /// Its keys.
    pub async fn keys(&mut self) -> Result<Vec<Vec<u8>>, SshError> {
        let answer = self.ask(Message::new(REQUEST_IDENTITIES), IDENTITIES).await?;
        let mut fields = Fields::of(&answer[1..]);
        let mut keys = Vec::new();
        for _ in 0..fields.number()? {
            keys.push(fields.bytes()?.to_vec());
            fields.bytes()?;
        }
        Ok(keys)
    }

    /// A signature, which names the way it was made.
    pub async fn sign(&mut self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, SshError> {
        let flags = if is_rsa(key) { RSA_SHA2_512 } else { 0 };
        let answer = self.ask(Message::new(SIGN_REQUEST).bytes(key).bytes(data).number(flags), SIGNED).await?;
        Ok(Fields::of(&answer[1..]).bytes()?.to_vec())
    }
}

/// The way in which a key signs.
pub(crate) fn way(key: &[u8]) -> Result<String, SshError> {
    let kind = Fields::of(key).text()?;
    Ok(if is_rsa(key) { kind.replacen("ssh-rsa", "rsa-sha2-512", 1) } else { kind.to_owned() })
}

/// RSA's own keys, and certificates of those.
fn is_rsa(key: &[u8]) -> bool {
    Fields::of(key).text().is_ok_and(|kind| kind.starts_with("ssh-rsa"))
}
