//! Names by `/etc/hosts` and `/etc/resolv.conf`, without the C library's modules, which a static binary cannot load.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use hickory_resolver::TokioResolver;
use hyper_util::client::legacy::connect::dns::Name;

/// A name that could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct NameError {
    /// What was asked for.
    pub name: String,
    /// The resolver's words.
    pub reason: String,
}

/// The system's resolver. Cloning shares its cache.
#[derive(Clone, Default)]
pub struct Names(Arc<OnceLock<TokioResolver>>);

impl Names {
    /// All addresses of a name, in the order the servers gave; an address is itself.
    ///
    /// # Errors
    /// When the name has none, or no server answers.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let told = |reason: String| NameError { name: name.to_owned(), reason };
        let found = self.resolver().map_err(&told)?.lookup_ip(name).await.map_err(|error| told(error.to_string()))?;
        Ok(found.iter().collect())
    }

    /// Forgets what was learnt, so that the next question goes to a server.
    pub fn forget(&self) {
        if let Some(resolver) = self.0.get() {
            resolver.clear_cache();
        }
    }

    fn resolver(&self) -> Result<&TokioResolver, String> {
        if self.0.get().is_none() {
            let made = TokioResolver::builder_tokio().and_then(|builder| builder.build());
            let _ = self.0.set(made.map_err(|error| error.to_string())?);
        }
        // Set just above, or by someone who was faster.
        Ok(self.0.get().expect("the resolver was set"))
    }
}

impl tower_service::Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = NameError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NameError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NameError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let names = self.clone();
        Box::pin(async move {
            let found = names.addresses(name.as_str()).await?;
            Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}
