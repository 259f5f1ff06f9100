//! As much of SSH as it takes to run one command at a server with a key of the user's agent, and to speak with it
//! (RFC 4251 to 4254). Why this is our own code: docs/decisions/0046-ssh.md.
//!
//! What modern servers have in common is spoken, and nothing older: keys are exchanged over curve25519 or nistp256, hosts
//! sign with ed25519, ECDSA or RSA with SHA-2, packets are sealed with chacha20-poly1305 or AES-GCM, and sequence numbers
//! start anew with the keys where the server can do that (`kex-strict`). All of the arithmetic is `ring`'s.

#![forbid(unsafe_code)]

mod agent;
mod auth;
mod channel;
mod cipher;
mod error;
mod exchange;
mod host_key;
mod known_hosts;
mod transport;
mod wire;

pub use channel::Session;
pub use error::SshError;
pub use known_hosts::KnownHosts;

use tokio::io::{AsyncRead, AsyncWrite};

/// Whom a command is run as, and where.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The server's name, as the user wrote it.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// The user there.
    pub user: &'a str,
    /// The keys that servers are known by. One with another key than its own is refused; one that is not among them is
    /// taken as it is.
    pub known: &'a KnownHosts,
}

/// Runs a command at the server behind `stream`, as one of whose keys `agent` holds (draft-ietf-sshm-ssh-agent).
/// Must run in a runtime.
///
/// # Errors
/// [`SshError`]; nothing goes on then.
pub async fn run<S, A>(stream: S, login: Login<'_>, agent: A, command: &str) -> Result<Session, SshError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut transport = transport::Transport::open(stream, &login).await?;
    auth::authenticate(&mut transport, login.user, &mut agent::Agent::new(agent)).await?;
    channel::run(transport, command).await
}
