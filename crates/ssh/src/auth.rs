//! Who asks, shown by a key of the agent's (RFC 4252).

use tokio::io::{AsyncRead, AsyncWrite};

use crate::SshError;
use crate::agent::{Agent, way};
use crate::transport::Transport;
use crate::wire::{Fields, Message};

const SERVICE_REQUEST: u8 = 5;
const SERVICE_ACCEPT: u8 = 6;
const REQUEST: u8 = 50;
const FAILURE: u8 = 51;
const SUCCESS: u8 = 52;
const BANNER: u8 = 53;
const KEY_IS_FINE: u8 = 60;

/// What the server makes of a request.
enum Answer {
    Welcome,
    /// With this key, if it signs.
    Fine,
    /// It takes these ways instead.
    No(String),
}

/// Tries the agent's keys, one after the other; asks for a signature with one that the server takes.
pub(crate) async fn authenticate<S, A>(
    transport: &mut Transport<S>,
    user: &str,
    agent: &mut Agent<A>,
) -> Result<(), SshError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    transport.send(Message::new(SERVICE_REQUEST).text("ssh-userauth")).await?;
    if transport.message().await?.first() != Some(&SERVICE_ACCEPT) {
        return Err(SshError::Protocol("the server does not ask who we are"));
    }
    let of = |method: &str| Message::new(REQUEST).text(user).text("ssh-connection").text(method);
    // Who asks for nothing hears what there is.
    let mut methods = match ask(transport, of("none")).await? {
        Answer::Welcome => return Ok(()),
        Answer::No(methods) => methods,
        Answer::Fine => return Err(SshError::Protocol("an answer to another request")),
    };
    let keys = agent.keys().await?;
    for key in &keys {
        let Ok(way) = way(key) else { continue };
        match ask(transport, of("publickey").byte(0).text(&way).bytes(key)).await? {
            Answer::Welcome => return Ok(()),
            Answer::No(other) => methods = other,
            Answer::Fine => {
                let request = of("publickey").byte(1).text(&way).bytes(key);
                let signed = [Message::default().bytes(&transport.session).0, request.0.clone()].concat();
                let signature = agent.sign(key, &signed).await?;
                match ask(transport, request.bytes(&signature)).await? {
                    Answer::Welcome => return Ok(()),
                    Answer::No(other) => methods = other,
                    Answer::Fine => return Err(SshError::Protocol("an answer to another request")),
                }
            }
        }
    }
    Err(SshError::Denied { methods, tried: keys.len() })
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    transport: &mut Transport<S>,
    request: Message,
) -> Result<Answer, SshError> {
    transport.send(request).await?;
    loop {
        let message = transport.message().await?;
        let mut fields = Fields::of(&message);
        match fields.byte()? {
            BANNER => {}
            SUCCESS => return Ok(Answer::Welcome),
            KEY_IS_FINE => return Ok(Answer::Fine),
            FAILURE => return Ok(Answer::No(fields.text()?.to_owned())),
            _ => return Err(SshError::Protocol("an answer to another request")),
        }
    }
}
