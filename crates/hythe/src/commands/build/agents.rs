//! The user's SSH agents, by their sockets (`--ssh`).

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use builder::Agents;
use futures::future::BoxFuture;
use tokio::net::UnixStream;

/// Those of the flags, by id.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sockets(BTreeMap<String, PathBuf>);

impl Sockets {
    /// Reads `default` or `ID=SOCKET`; without a socket, the environment's is meant.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(flags: &[String], environment: Option<PathBuf>) -> Result<Self> {
        let mut sockets = BTreeMap::new();
        for flag in flags {
            let (id, path) = match flag.split_once('=') {
                Some((id, path)) => (id, PathBuf::from(path)),
                None => (flag.as_str(), environment.clone().context("--ssh: SSH_AUTH_SOCK names no agent")?),
            };
            if id.is_empty() || !path.exists() {
                bail!("--ssh {flag:?}: there is no socket {}", path.display());
            }
            sockets.insert(id.to_owned(), path);
        }
        Ok(Self(sockets))
    }
}

impl Agents for Sockets {
    fn check<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), String>> {
        let found = self.0.contains_key(id).then_some(());
        let none = || format!("no SSH agent {id:?}: start the build with --ssh {id}");
        Box::pin(std::future::ready(found.ok_or_else(none)))
    }

    fn carry(&self, id: String, mut program: UnixStream) -> BoxFuture<'static, ()> {
        let path = self.0.get(&id).cloned();
        Box::pin(async move {
            let Some(path) = path else { return };
            if let Ok(mut agent) = UnixStream::connect(path).await {
                // Whoever goes away first ends it; that is no news.
                let _ = tokio::io::copy_bidirectional(&mut program, &mut agent).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_have_names_and_sockets() {
        let here = std::env::temp_dir();
        let flags = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
        let found = Sockets::parse(&flags(&["default", &format!("other={}", here.display())]), Some(here.clone()));
        assert_eq!(found.unwrap().0.keys().collect::<Vec<_>>(), ["default", "other"]);
        assert!(Sockets::parse(&flags(&["default"]), None).is_err());
        assert!(Sockets::parse(&flags(&["default=/no/such/socket"]), None).is_err());
    }
}
