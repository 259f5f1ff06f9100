//! Keys for a connection: both sides say what they can, agree on a secret over an elliptic curve (RFC 5656, 8731), and the
//! server signs for it (RFC 4253, 7 and 8). The same again whenever the server wants other keys.

use ring::agreement::{self, Algorithm, ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, X25519};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cipher::{self, Cipher};
use crate::known_hosts::Verdict;
use crate::transport::{DISCONNECT, KEXINIT, NEWKEYS, Transport, VERSION, disconnected, fill_random};
use crate::wire::{Fields, Message};
use crate::{Login, SshError, host_key};

const ECDH_INIT: u8 = 30;
const ECDH_REPLY: u8 = 31;
const CURVES: [&str; 3] = ["curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256"];
/// That sequence numbers start anew with the keys: a mark among the ways to exchange them (OpenSSH's PROTOCOL, 1.10).
const STRICT: [&str; 2] = ["kex-strict-c-v00@openssh.com", "kex-strict-s-v00@openssh.com"];
/// Never used: the ciphers seal by themselves. Some servers want a common one all the same.
const MACS: &str = "hmac-sha2-256-etm@openssh.com,hmac-sha2-256,hmac-sha2-512";

/// What an exchange came to.
pub(crate) struct Exchanged {
    secret: Vec<u8>,
    hash: Vec<u8>,
    session: Vec<u8>,
    /// The ciphers' names.
    pub sending: String,
    pub receiving: String,
}

impl Exchanged {
    /// A cipher with its own keys: `letters` are those of its nonce and its key.
    pub fn cipher(&self, name: &str, letters: [u8; 2]) -> Result<Cipher, SshError> {
        let (key, nonce) = cipher::lengths(name);
        Cipher::new(name, &self.derived(letters[1], key), &self.derived(letters[0], nonce))
    }

    /// As many bytes as are wanted, of the letter.
    fn derived(&self, letter: u8, length: usize) -> Vec<u8> {
        let base = [&self.secret[..], &self.hash].concat();
        let mut key = digest(&SHA256, &[&base[..], &[letter], &self.session].concat()).as_ref().to_vec();
        while key.len() < length {
            let more = digest(&SHA256, &[&base[..], &key].concat());
            key.extend(more.as_ref());
        }
        key.truncate(length);
        key
    }
}

/// What is agreed on.
#[derive(Debug, PartialEq, Eq)]
struct Agreed {
    curve: String,
    host_key: String,
    sending: String,
    receiving: String,
    /// The server has sent a guess that was wrong.
    wrong_guess: bool,
    strict: bool,
}

/// Exchanges keys; `theirs` is what the server has said already. The first time, `login` says who it is to be; later it
/// must be who it was.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    transport: &mut Transport<S>,
    theirs: Option<Vec<u8>>,
    login: Option<&Login<'_>>,
) -> Result<(), SshError> {
    let host_keys = login.map_or_else(Vec::new, |login| login.known.kinds(login.host, login.port));
    let ours = offer(&host_key::names(&host_keys))?;
    transport.send(ours.clone()).await?;
    let theirs = match theirs {
        Some(theirs) => theirs,
        None => next(transport, KEXINIT).await?,
    };
    let agreed = agree(&theirs, &ours.0)?;
    transport.strict |= agreed.strict && transport.session.is_empty();
    let algorithm: &Algorithm = if agreed.curve == "ecdh-sha2-nistp256" { &ECDH_P256 } else { &X25519 };
    const RANDOM: SshError = SshError::Protocol("no key can be made");
    let private = EphemeralPrivateKey::generate(algorithm, &SystemRandom::new()).map_err(|_| RANDOM)?;
    let public = private.compute_public_key().map_err(|_| RANDOM)?;
    transport.send(Message::new(ECDH_INIT).bytes(public.as_ref())).await?;
    if agreed.wrong_guess {
        transport.packet().await?;
    }
    let reply = next(transport, ECDH_REPLY).await?;
    let mut fields = Fields::of(&reply[1..]);
    let (host, point, signature) = (fields.bytes()?, fields.bytes()?, fields.bytes()?);
    let secret = agreement::agree_ephemeral(private, &UnparsedPublicKey::new(algorithm, point), |secret| {
        Message::default().big(secret).0
    });
    let secret = secret.map_err(|_| SshError::Protocol("the server's half of the secret is none"))?;
    let signed = Message::default()
        .text(VERSION)
        .text(&transport.server_version)
        .bytes(&ours.0)
        .bytes(&theirs)
        .bytes(host)
        .bytes(public.as_ref())
        .bytes(point);
    let hash = digest(&SHA256, &[signed.0, secret.clone()].concat()).as_ref().to_vec();
    host_key::verify(host, &agreed.host_key, signature, &hash)?;
    match login {
        Some(login) => {
            if login.known.verdict(login.host, login.port, host) == Verdict::Other {
                return Err(SshError::HostKey(login.host.to_owned()));
            }
            transport.host_key = host.to_vec();
            transport.session.clone_from(&hash);
        }
        None if transport.host_key != host => return Err(SshError::Forged("the server's second key")),
        None => {}
    }
    let session = transport.session.clone();
    let Agreed { sending, receiving, .. } = agreed;
    let keys = Exchanged { secret, hash, session, sending, receiving };
    transport.send(Message::new(NEWKEYS)).await?;
    transport.send_with(&keys)?;
    next(transport, NEWKEYS).await?;
    transport.receive_with(&keys)
}

/// The next message of the exchange; nothing else may come in between where that would count (CVE-2023-48795).
async fn next<S: AsyncRead + AsyncWrite + Unpin>(transport: &mut Transport<S>, kind: u8) -> Result<Vec<u8>, SshError> {
    loop {
        let packet = transport.packet().await?;
        match packet[0] {
            found if found == kind => return Ok(packet),
            DISCONNECT => return Err(disconnected(&packet)),
            // To be ignored, or words for whoever looks for faults.
            2..=4 if !transport.strict => {}
            _ => return Err(SshError::Protocol("a message in the middle of an exchange of keys")),
        }
    }
}

fn offer(host_keys: &str) -> Result<Message, SshError> {
    let mut cookie = [0; 16];
    fill_random(&mut cookie)?;
    let mut message = Message::new(KEXINIT);
    message.0.extend(cookie);
    let (curves, ciphers) = (format!("{},{}", CURVES.join(","), STRICT[0]), cipher::NAMES.join(","));
    let message = message.text(&curves).text(host_keys).text(&ciphers).text(&ciphers).text(MACS).text(MACS);
    Ok(message.text("none").text("none").text("").text("").byte(0).number(0))
}

/// The ten lists of a message, and whether a guess follows it.
fn lists(message: &[u8]) -> Result<(Vec<&str>, bool), SshError> {
    let mut fields = Fields::of(message);
    fields.skip(17)?;
    let lists = (0..10).map(|_| fields.text()).collect::<Result<_, _>>()?;
    Ok((lists, fields.byte()? != 0))
}

/// Of each kind the first of ours that is theirs, too.
fn agree(theirs: &[u8], ours: &[u8]) -> Result<Agreed, SshError> {
    let ((theirs, guessed), (ours, _)) = (lists(theirs)?, lists(ours)?);
    let pick = |at: usize, what: &'static str| {
        let offered: Vec<&str> = theirs[at].split(',').collect();
        let found = ours[at].split(',').find(|name| offered.contains(name) && !STRICT.contains(name));
        found.map(str::to_owned).ok_or_else(|| SshError::Nothing { what, offered: theirs[at].to_owned() })
    };
    let (curve, host_key) = (pick(0, "way to exchange keys")?, pick(1, "kind of host key")?);
    let (sending, receiving) = (pick(2, "cipher")?, pick(3, "cipher")?);
    pick(6, "compression")?;
    pick(7, "compression")?;
    let guess = [theirs[0], theirs[1]].map(|list| list.split(',').next().unwrap_or_default());
    let wrong_guess = guessed && guess != [curve.as_str(), host_key.as_str()];
    let strict = theirs[0].split(',').any(|name| name == STRICT[1]);
    Ok(Agreed { curve, host_key, sending, receiving, wrong_guess, strict })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lists: [&str; 10], guessed: bool) -> Vec<u8> {
        let mut message = Message(vec![0; 17]);
        for list in lists {
            message = message.text(list);
        }
        message.byte(guessed.into()).number(0).0
    }

    #[test]
    fn the_first_of_ours_that_is_theirs_is_taken_and_nothing_weaker() {
        let ours = offer("ssh-ed25519,rsa-sha2-512").unwrap().0;
        let with = |curves: &str, ciphers: &str, guessed| {
            let theirs =
                said([curves, "ssh-rsa,rsa-sha2-512", ciphers, ciphers, "", "", "none", "none", "", ""], guessed);
            agree(&theirs, &ours)
        };
        let found = with("ecdh-sha2-nistp256,curve25519-sha256", "aes128-ctr,aes256-gcm@openssh.com", true).unwrap();
        assert_eq!((found.curve.as_str(), found.host_key.as_str()), ("curve25519-sha256", "rsa-sha2-512"));
        assert_eq!((found.sending.as_str(), found.wrong_guess, found.strict), ("aes256-gcm@openssh.com", true, false));
        let strict = with("curve25519-sha256,kex-strict-s-v00@openssh.com", "chacha20-poly1305@openssh.com", false);
        assert!(strict.unwrap().strict);
        let weak = with("curve25519-sha256", "aes128-ctr,3des-cbc", false).unwrap_err();
        assert_eq!(weak.to_string(), "no common cipher: the server offers aes128-ctr,3des-cbc");
        let weak = with("diffie-hellman-group14-sha1,kex-strict-c-v00@openssh.com", "", false).unwrap_err();
        assert!(weak.to_string().starts_with("no common way to exchange keys"), "{weak}");
    }
}
