//! The resolver as the HTTP client's connector wants it.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use ::names::NameError;
use hyper_util::client::legacy::connect::dns::Name;

/// The system's resolver.
#[derive(Clone, Default)]
pub struct Names(::names::Names);

impl Names {
    /// All addresses of a name; an address is itself.
    ///
    /// # Errors
    /// When the name has none, or no server answers.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        Ok(self.0.addresses(name).await?.records)
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
