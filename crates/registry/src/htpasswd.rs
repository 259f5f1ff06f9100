//! Who may come in: `htpasswd` files with bcrypt hashes, HTTP basic authentication (RFC 7617).

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::{
    failure::{Code, Failure},
    registry::OpenError,
};

/// bcrypt is slow on purpose: so many at a time, so that guessing does not take the machine.
const CHECKS: usize = 2;
/// Passwords remembered as right.
const REMEMBERED: usize = 1024;
/// bcrypt sees no more than that.
const MAX_PASSWORD: usize = 72;

/// A password file.
pub(crate) struct Htpasswd {
    path: PathBuf,
    loaded: Mutex<Loaded>,
    checks: Arc<Semaphore>,
    /// Keyed digests of (hash, password) that were right, since bcrypt at every request would be most of the work.
    right: Mutex<HashSet<[u8; 32]>>,
    key: [u8; 32],
    /// What a password of an unknown user is compared with, so that time does not tell who there is.
    nobody: String,
}

struct Loaded {
    version: Option<(SystemTime, u64)>,
    hashes: Arc<HashMap<String, String>>,
}

/// A line's second half for `password`: `$2b$…` with bcrypt's cost 10.
///
/// # Panics
/// Never: the cost is in range.
pub fn hash_password(password: &str) -> String {
    bcrypt::hash(password, 10).expect("10 is a cost of bcrypt's")
}

impl Htpasswd {
    pub fn open(path: PathBuf) -> Result<Self, OpenError> {
        let (version, hashes) = load(&path).map_err(|source| OpenError::Htpasswd { path: path.clone(), source })?;
        if hashes.is_empty() {
            return Err(OpenError::Nobody(path));
        }
        let mut key = [0; 32];
        key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        Ok(Self {
            path,
            loaded: Mutex::new(Loaded { version, hashes: Arc::new(hashes) }),
            checks: Arc::new(Semaphore::new(CHECKS)),
            right: Mutex::default(),
            key,
            nobody: hash_password(&uuid::Uuid::new_v4().to_string()),
        })
    }

    /// # Errors
    /// `UNAUTHORIZED`, with the challenge that makes clients send what they have.
    pub async fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let refused = || {
            let challenge = HeaderValue::from_static("Basic realm=\"Hythe registry\", charset=\"UTF-8\"");
            Code::Unauthorized.failure().header(WWW_AUTHENTICATE, challenge)
        };
        let (user, password) = headers.get(AUTHORIZATION).and_then(basic).ok_or_else(refused)?;
        let hash = self.hashes().get(&user).cloned();
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let digest: [u8; 32] = Sha256::new_with_prefix(self.key)
            .chain_update((hash.len() as u64).to_le_bytes())
            .chain_update(&hash)
            .chain_update(&password)
            .finalize()
            .into();
        if self.right.lock().contains(&digest) {
            return Ok(());
        }
        if password.len() > MAX_PASSWORD {
            return Err(refused());
        }
        let slot = self.checks.clone().acquire_owned().await.map_err(|e| Failure::internal(&e))?;
        let right = tokio::task::spawn_blocking(move || {
            let right = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(slot);
            right
        });
        if !(right.await.map_err(|e| Failure::internal(&e))? && known) {
            return Err(refused());
        }
        let mut remembered = self.right.lock();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(digest);
        Ok(())
    }

    /// The users, read again if the file is another than before.
    fn hashes(&self) -> Arc<HashMap<String, String>> {
        let mut loaded = self.loaded.lock();
        let version = version(&self.path);
        if version.is_some() && version != loaded.version {
            match load(&self.path) {
                Ok((version, hashes)) => {
                    *loaded = Loaded { version, hashes: Arc::new(hashes) };
                    self.right.lock().clear();
                }
                Err(error) => tracing::error!(path = %self.path.display(), %error, "the password file can't be read"),
            }
        }
        loaded.hashes.clone()
    }
}

fn version(path: &std::path::Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

type Users = (Option<(SystemTime, u64)>, HashMap<String, String>);

fn load(path: &std::path::Path) -> std::io::Result<Users> {
    let version = version(path);
    let text = std::fs::read_to_string(path)?;
    let mut hashes = HashMap::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.split_once(':').filter(|(_, hash)| hash.starts_with("$2")) {
            Some((user, hash)) => {
                hashes.insert(user.to_owned(), hash.to_owned());
            }
            None => tracing::warn!(path = %path.display(), "a line of the password file is not bcrypt's: ignored"),
        }
    }
    Ok((version, hashes))
}

fn basic(header: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|b| *b == b':')?;
    Some((String::from_utf8(decoded[..colon].to_vec()).ok()?, decoded[colon + 1..].to_vec()))
}
