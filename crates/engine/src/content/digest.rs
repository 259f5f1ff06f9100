//! Digests: `sha256:HEX`, which everything here is named by, and `sha512:HEX`, which a client of the registry may
//! choose for what it pushes (the two algorithms that the OCI image specification registers).

use std::{fmt, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// A checked digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    /// Of what a hasher has seen.
    pub fn finish(hasher: Sha256) -> Self {
        Self(format!("sha256:{}", hex::encode(hasher.finalize())))
    }

    /// Of bytes in memory, by the algorithm of `self`: equal to it if they are what it says.
    pub fn again(&self, bytes: &[u8]) -> Self {
        match self.is_sha512() {
            true => Self(format!("sha512:{}", hex::encode(Sha512::digest(bytes)))),
            false => Self::of(bytes),
        }
    }

    /// SHA-512 of all that a reader has.
    pub(super) fn sha512(mut reader: impl io::Read) -> io::Result<Self> {
        let mut hasher = Sha512::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(Self(format!("sha512:{}", hex::encode(hasher.finalize())))),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    /// Parses `sha256:` and 64 or `sha512:` and 128 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = match text.split_once(':')? {
            ("sha256", digits) if digits.len() == 64 => digits,
            ("sha512", digits) if digits.len() == 128 => digits,
            _ => return None,
        };
        digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).then(|| Self(text.to_owned()))
    }

    /// From the digits alone, whose number tells the algorithm.
    pub(super) fn from_hex(digits: &str) -> Option<Self> {
        let algorithm = if digits.len() == 128 { "sha512" } else { "sha256" };
        Self::parse(&format!("{algorithm}:{digits}"))
    }

    /// The 64 or 128 digits: safe as a file name.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        &self.0[.."sha256".len()]
    }

    pub(super) fn is_sha512(&self) -> bool {
        self.algorithm() == "sha512"
    }

    /// The whole, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("unsupported digest {text:?}"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
