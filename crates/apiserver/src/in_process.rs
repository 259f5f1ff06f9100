//! The API without a socket, for clients in the same process.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;

use crate::{
    authn::Peer,
    body::{Body, BoxError, RequestBody},
    config::User,
    guard::guarded,
    handler,
    negotiate::OMIT,
    server::ApiServer,
};

/// A `tower` service over the API; hand it to `kube::Client::new`.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<ApiServer>,
    user: Arc<User>,
    program: Option<HeaderValue>,
    lean: bool,
}

impl InProcess {
    pub(crate) fn new(server: Arc<ApiServer>, user: User) -> InProcess {
        InProcess { server, user: Arc::new(user), program: None, lean: false }
    }

    /// The same in the name of a program: what it writes is its own, as `managedFields` show it.
    #[must_use]
    pub fn named(mut self, program: &'static str) -> InProcess {
        self.program = Some(HeaderValue::from_static(program));
        self
    }

    /// The same for who does not read `metadata.managedFields`: they are left out of what it gets, and need not be
    /// taken apart.
    #[must_use]
    pub fn lean(mut self) -> InProcess {
        self.lean = true;
        self
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
        let mut request = request.map(|body| RequestBody::Local(body.map_err(Into::into).boxed_unsync()));
        if let Some(program) = &self.program {
            request.headers_mut().entry(header::USER_AGENT).or_insert_with(|| program.clone());
        }
        if self.lean {
            request.headers_mut().insert(OMIT, HeaderValue::from_static("managedFields"));
        }
        guarded(handler::handle(server, request, peer)).map(Ok).boxed()
    }
}
