//! The registry and its configuration.

use std::{path::PathBuf, sync::Arc, time::Duration};

use engine::content::{Collected, Content, ContentError, Credentials, PullOptions, Repository, Secret, Upstream};

use crate::{failure::Failure, htpasswd::Htpasswd, sessions::Sessions, sweep::Sweep};

/// What a registry is made of.
#[derive(Clone)]
pub struct Config {
    /// The store, which may be in use by the engine and by other processes at the same time.
    pub content: Content,
    /// Who may do anything at all: lines of `user:hash`, bcrypt only. Read again when it changes. None: everybody.
    pub htpasswd: Option<PathBuf>,
    /// Where to look for what is not here.
    pub mirror: Option<Mirror>,
    /// Whether `POST …?mount=DIGEST` without `from` finds every blob of the store, the engine's images included, and
    /// not only those of a repository that the client can name.
    pub mount_from_store: bool,
    /// How long a blob stays that a client was told is here, while no manifest needs it: longer than a push takes.
    pub keep: Duration,
    /// How long a client may leave the registry waiting in the middle of a request or an answer.
    pub patience: Duration,
    /// Connections at a time; more wait in the listener's queue.
    pub connections: usize,
}

impl Config {
    /// Open to everybody, without a mirror.
    pub fn new(content: Content) -> Self {
        Self {
            content,
            htpasswd: None,
            mirror: None,
            mount_from_store: true,
            keep: Duration::from_secs(6 * 3600),
            patience: Duration::from_secs(60),
            connections: 1024,
        }
    }
}

/// An upstream registry, from which what is missing here is fetched and kept.
#[derive(Clone)]
pub struct Mirror {
    /// `docker.io` or `host[:port]`.
    pub registry: String,
    /// How to speak to it. The first credentials that let one in are used.
    pub options: PullOptions,
    /// What is kept at most, in bytes, of what nobody but clients of the mirror needs; the longest unused goes first.
    /// `None`: all of it.
    pub limit: Option<u64>,
    /// What was asked for this lately stays all the same: who asked for a manifest is about to ask for what it needs.
    pub grace: Duration,
}

/// Longer than a client takes from one request of a pull to the next.
const GRACE: Duration = Duration::from_secs(60);

impl Mirror {
    /// From a URL (`https://[user:password@]host[:port]`; with `http://` it is spoken to in the clear) or a bare
    /// `host[:port]`. What else than letters and digits is in a password may be written as `%HH`.
    pub fn at(url: &str) -> Self {
        let mut options = PullOptions::default();
        let bare = url.trim_end_matches('/');
        let plain = bare.strip_prefix("http://");
        let registry = plain.or_else(|| bare.strip_prefix("https://")).unwrap_or(bare);
        let registry = match registry.rsplit_once('@') {
            Some((login, host)) => {
                let (username, password) = login.split_once(':').unwrap_or((login, ""));
                let decoded = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
                let (username, password) = (decoded(username), Secret(decoded(password)));
                options.credentials.push(Credentials::Basic { username, password });
                host
            }
            None => registry,
        };
        if plain.is_some() {
            options.insecure_registries.push(registry.to_owned());
        }
        let registry = match registry {
            "registry-1.docker.io" | "index.docker.io" => "docker.io",
            other => other,
        };
        Self { registry: registry.to_owned(), options, limit: None, grace: GRACE }
    }
}

/// Why a registry can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The password file can't be read.
    #[error("read {}: {source}", path.display())]
    Htpasswd {
        /// Which.
        path: PathBuf,
        /// How it failed.
        source: std::io::Error,
    },
    /// The password file lets nobody in.
    #[error("{}: no line of the form user:BCRYPT-HASH (make one with htpasswd -B)", .0.display())]
    Nobody(PathBuf),
}

/// A registry. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: Config,
    pub htpasswd: Option<Htpasswd>,
    pub upstream: Option<Upstream>,
    pub sessions: Sessions,
    pub sweep: Sweep,
}

impl Registry {
    /// Opens a registry on a store.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let htpasswd = config.htpasswd.clone().map(Htpasswd::open).transpose()?;
        let mirror = config.mirror.clone();
        let upstream = mirror.map(|m| Upstream::new(config.content.clone(), &m.registry, m.options));
        let inner = Inner { config, htpasswd, upstream, sessions: Sessions::default(), sweep: Sweep::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Removes what nothing needs any more, now. Deletions do it by themselves.
    ///
    /// # Errors
    /// The disk's.
    pub async fn collect(&self) -> Result<Collected, ContentError> {
        let content = self.inner.config.content.clone();
        tokio::task::spawn_blocking(move || content.collect())
            .await
            .unwrap_or_else(|e| Err(ContentError::Interrupted(e.to_string())))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Does what blocks on a thread that may.
    pub(crate) async fn blocking<T, E>(
        &self,
        repository: &Repository,
        work: impl FnOnce(&Repository) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let repository = repository.clone();
        match tokio::task::spawn_blocking(move || work(&repository)).await {
            Ok(result) => result.map_err(Into::into),
            Err(error) => Err(Failure::internal(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstreams_address_may_carry_a_login() {
        let at = |url: &str| {
            let mirror = Mirror::at(url);
            let login = mirror.options.credentials.into_iter().next().map(|credentials| match credentials {
                Credentials::Basic { username, password } => format!("{username} {}", password.0),
                other => format!("{other:?}"),
            });
            (mirror.registry, login.unwrap_or_default(), mirror.options.insecure_registries)
        };
        let known = |registry: &str, login: &str, insecure: &[&str]| {
            (registry.to_owned(), login.to_owned(), insecure.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(at("https://registry-1.docker.io/"), known("docker.io", "", &[]));
        assert_eq!(at("host:5000"), known("host:5000", "", &[]));
        assert_eq!(at("http://me:p%40ss%3a1@host:5000"), known("host:5000", "me p@ss:1", &["host:5000"]));
        assert_eq!(at("https://token@host"), known("host", "token ", &[]));
    }
}
