//! The certificates of a listener: read from files that may change, shown by name, watched for their end.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::provider;
use crate::config;

/// A certificate that ends within this time is told of.
const SOON: u64 = 14 * 86_400;

/// The certificates of a listener.
#[derive(Debug)]
pub struct Certificates {
    config: config::Tls,
    current: RwLock<Arc<Chosen>>,
    seen: Mutex<Vec<Option<SystemTime>>>,
    /// What was last told of each file.
    told: Mutex<HashMap<PathBuf, State>>,
    /// Handshakes that asked for a name no certificate is for.
    pub unmatched: AtomicU64,
    /// Times that changed files could not be used.
    pub failures: AtomicU64,
}

/// What is known of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its file.
    pub file: PathBuf,
    /// The names it is shown for.
    pub names: Vec<String>,
    /// When it begins to hold, in seconds since the epoch.
    pub not_before: u64,
    /// When it ends, likewise.
    pub not_after: u64,
}

/// Where in its life a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does not hold yet.
    Early,
    /// It holds.
    Good,
    /// It holds for two more weeks at most.
    Ending,
    /// It has ended. It is shown all the same: whether that is enough is for the client to say.
    Ended,
}

impl Shown {
    /// Its state at a time, and when that changes.
    pub fn at(&self, now: u64) -> (State, Option<u64>) {
        let soon = self.not_after.saturating_sub(SOON);
        match now {
            _ if now < self.not_before => (State::Early, Some(self.not_before)),
            _ if now < soon => (State::Good, Some(soon)),
            _ if now < self.not_after => (State::Ending, Some(self.not_after)),
            _ => (State::Ended, None),
        }
    }
}

/// Certificates by lower-case server name; `*.` stands for one label.
#[derive(Debug)]
struct Chosen {
    shown: Vec<Shown>,
    names: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or used, with its name and the reason.
    pub fn new(config: &config::Tls) -> Result<Arc<Self>, String> {
        let seen = times(config);
        let current = RwLock::new(Arc::new(load(config)?));
        Ok(Arc::new(Self {
            config: config.clone(),
            current,
            seen: Mutex::new(seen),
            told: Mutex::default(),
            unmatched: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }))
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.config.certificates.iter().flat_map(|c| [&c.certificate, &c.key])
    }

    /// Reads the files again if they changed. Handshakes from now on show the new certificates.
    ///
    /// # Errors
    /// When one cannot be used: the old ones go on.
    pub fn refresh(&self) -> Result<bool, String> {
        let times = times(&self.config);
        if *self.seen.lock() == times {
            return Ok(false);
        }
        let chosen = load(&self.config).inspect_err(|_| {
            self.failures.fetch_add(1, Ordering::Relaxed);
        })?;
        *self.current.write() = Arc::new(chosen);
        *self.seen.lock() = times;
        Ok(true)
    }

    /// What is known of each of them.
    pub fn shown(&self) -> Vec<Shown> {
        self.current.read().shown.clone()
    }

    /// Whether one of them is for a name, which may begin with `*.`.
    pub fn covers(&self, name: &str) -> bool {
        let current = self.current.read();
        let name = name.to_ascii_lowercase();
        let wild = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        current.names.contains_key(&name) || wild.is_some_and(|wild| current.names.contains_key(&wild))
    }

    /// Tells of those that do not hold or will soon hold no more, each once. Returns how long it stays at that.
    pub fn report(&self, listener: &str, now: SystemTime) -> Option<Duration> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut told = self.told.lock();
        let shown = self.shown();
        told.retain(|file, _| shown.iter().any(|s| s.file == *file));
        let mut next = None;
        for one in shown {
            let (state, until) = one.at(now);
            next = next.into_iter().chain(until).min();
            if told.insert(one.file.clone(), state) == Some(state) {
                continue;
            }
            let (file, days) = (one.file.display(), one.not_after.saturating_sub(now) / 86_400);
            match state {
                State::Good => {}
                State::Early => tracing::warn!(listener, certificate = %file, "does not hold yet"),
                State::Ending => tracing::warn!(listener, certificate = %file, days, "holds for a few days more only"),
                State::Ended => tracing::error!(listener, certificate = %file, "has expired: clients will refuse it"),
            }
        }
        next.map(|at| Duration::from_secs(at - now))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read();
        let Some(name) = hello.server_name() else { return Some(Arc::clone(&current.first)) };
        let name = name.to_ascii_lowercase();
        let found = current.names.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            current.names.get(&format!("*.{parent}"))
        });
        if found.is_none() {
            self.unmatched.fetch_add(1, Ordering::Relaxed);
        }
        Some(Arc::clone(found.unwrap_or(&current.first)))
    }
}

fn times(config: &config::Tls) -> Vec<Option<SystemTime>> {
    let files = config.certificates.iter().flat_map(|c| [&c.certificate, &c.key]);
    files.map(|file| fs::metadata(file).and_then(|m| m.modified()).ok()).collect()
}

fn load(config: &config::Tls) -> Result<Chosen, String> {
    let mut names = HashMap::new();
    let mut shown = Vec::new();
    let mut first = None;
    for certificate in &config.certificates {
        let (chain, key) = pair(&certificate.certificate, &certificate.key)?;
        let names_within =
            if certificate.hosts.is_empty() { subject_names(&chain[0]) } else { certificate.hosts.clone() };
        let (not_before, not_after) = validity(&chain[0]).unwrap_or((0, u64::MAX));
        shown.push(Shown { file: certificate.certificate.clone(), names: names_within.clone(), not_before, not_after });
        let refuse = |error: rustls::Error| format!("{}: {error}", certificate.key.display());
        let certified = Arc::new(CertifiedKey::from_der(chain, key, &provider()).map_err(refuse)?);
        for name in names_within {
            names.entry(name.to_ascii_lowercase()).or_insert_with(|| Arc::clone(&certified));
        }
        first.get_or_insert(certified);
    }
    Ok(Chosen { shown, names, first: first.ok_or("there is no certificate")? })
}

pub(super) fn pair(chain: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let certificates = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    Ok((certificates, key))
}

pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let refuse = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|e| refuse(&e))?;
    if found.is_empty() { Err(refuse(&"there is no certificate in it")) } else { Ok(found) }
}

/// The DNS names of a certificate's subjectAltName.
pub(super) fn subject_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::{FromDer, X509Certificate};
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
}

/// When a certificate begins and ends to hold, in seconds since the epoch.
fn validity(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    Some((seconds(parsed.validity().not_before), seconds(parsed.validity().not_after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_early_good_ending_and_ended_in_its_time() {
        let day = 86_400;
        let one = Shown { file: "a".into(), names: Vec::new(), not_before: 10 * day, not_after: 100 * day };
        assert_eq!(one.at(9 * day), (State::Early, Some(10 * day)));
        assert_eq!(one.at(10 * day), (State::Good, Some(86 * day)));
        assert_eq!(one.at(86 * day), (State::Ending, Some(100 * day)));
        assert_eq!(one.at(100 * day), (State::Ended, None));
    }
}
