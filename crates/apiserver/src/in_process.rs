//! The API without a socket, for clients in the same process.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;

use crate::{
    authn::Peer,
    body::{Body, BoxError, RequestBody},
    config::User,
    handler,
    server::ApiServer,
};

/// A `tower` service over the API; hand it to `kube::Client::new`.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<ApiServer>,
    user: Arc<User>,
}

impl InProcess {
    pub(crate) fn new(server: Arc<ApiServer>, user: User) -> InProcess {
        InProcess { server, user: Arc::new(user) }
    }
}

impl<B> tower_service::Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.server.clone();
        let peer = Peer::Trusted(self.user.clone());
        let request = request.map(|body| RequestBody::Local(body.map_err(Into::into).boxed_unsync()));
        Box::pin(async move { Ok(handler::handle(server, request, peer).await) })
    }
}
