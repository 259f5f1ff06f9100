//! What passwords are turned into before they are sent. Pure: random numbers are given.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

/// PostgreSQL's `md5` (protocol, "AuthenticationMD5Password").
pub(crate) fn postgres_md5(user: &str, password: &str, salt: &[u8]) -> String {
    let inner = hex::encode(Md5::digest(format!("{password}{user}").as_bytes()));
    let outer = Md5::digest([inner.as_bytes(), salt].concat());
    format!("md5{}", hex::encode(outer))
}

/// A conversation by SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677). Passwords beyond ASCII are taken as they
/// are, without SASLprep.
pub(crate) struct Scram {
    nonce: String,
    first_bare: String,
    server_signature: Vec<u8>,
}

impl Scram {
    /// A conversation with a nonce of random bytes.
    pub(crate) fn begin(random: [u8; 18]) -> Self {
        let nonce = STANDARD.encode(random);
        // PostgreSQL knows the user already and ignores the name here.
        let first_bare = format!("n=,r={nonce}");
        Self { nonce, first_bare, server_signature: Vec::new() }
    }

    pub(crate) fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// The second message, by the server's first; nothing if that breaks the rules.
    pub(crate) fn second(&mut self, server_first: &str, password: &str) -> Option<String> {
        let field = |name: &str| server_first.split(',').find_map(|field| field.strip_prefix(name));
        let nonce = field("r=").filter(|nonce| nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len())?;
        let salt = STANDARD.decode(field("s=")?).ok()?;
        // A server that asks for more only wants to keep us busy.
        let rounds: NonZeroU32 = field("i=")?.parse().ok().filter(|rounds: &NonZeroU32| rounds.get() <= 1_000_000)?;
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = sign(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
        self.server_signature = sign(&sign(&salted, b"Server Key"), message.as_bytes());
        Some(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server knows the password too.
    pub(crate) fn is_the_server(&self, server_final: &str) -> bool {
        let signature = server_final.split(',').find_map(|field| field.strip_prefix("v="));
        let signature = signature.and_then(|signature| STANDARD.decode(signature).ok());
        !self.server_signature.is_empty() && signature.is_some_and(|signature| signature == self.server_signature)
    }
}

fn sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

/// MySQL's `mysql_native_password`: SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password))).
pub(crate) fn mysql_native(password: &str, nonce: &[u8]) -> Vec<u8> {
    scramble(&digest::SHA1_FOR_LEGACY_USE_ONLY, password, |twice| [nonce, twice].concat())
}

/// MySQL's `caching_sha2_password`: SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce).
pub(crate) fn mysql_sha2(password: &str, nonce: &[u8]) -> Vec<u8> {
    scramble(&digest::SHA256, password, |twice| [twice, nonce].concat())
}

fn scramble(hash: &'static digest::Algorithm, password: &str, message: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = digest::digest(hash, password.as_bytes());
    let twice = digest::digest(hash, once.as_ref());
    let mask = digest::digest(hash, &message(twice.as_ref()));
    once.as_ref().iter().zip(mask.as_ref()).map(|(left, right)| left ^ right).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scram_is_that_of_the_specification() {
        // RFC 7677, section 3, whose exchange names its user.
        let mut scram = Scram {
            nonce: "rOprNGfwEbeRWgbNEkqO".into(),
            first_bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".into(),
            server_signature: Vec::new(),
        };
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let second = scram.second(server, "pencil").unwrap();
        assert!(second.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{second}");
        assert!(scram.is_the_server("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!scram.is_the_server("v=AAAA") && !scram.is_the_server("e=other"));
        assert_eq!(scram.second("r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "pencil"), None);
        assert_eq!(scram.second(&server.replace("4096", "999999999"), "pencil"), None);
    }

    #[test]
    fn the_other_logins_are_as_their_makers_say() {
        assert_eq!(postgres_md5("postgres", "secret", &[1, 2, 3, 4]).len(), 35);
        assert!(mysql_native("", b"x").is_empty());
        assert_eq!((mysql_native("a", &[0; 20]).len(), mysql_sha2("a", &[0; 20]).len()), (20, 32));
    }
}
