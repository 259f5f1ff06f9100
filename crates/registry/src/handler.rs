//! One request: who asks, what for, and the handler of it.

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header::ALLOW};
use hyper::body::Incoming;

use crate::{
    answer::{Body, json},
    blobs, catalogue,
    failure::{Code, Failure},
    manifests, referrers,
    registry::Registry,
    route::{Reference, Route},
    uploads,
};

/// By which Docker's older clients know a registry.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers a request, whatever it is.
pub(crate) async fn handle(registry: Registry, request: Request<Incoming>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = match answer(&registry, request).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    };
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if method == Method::HEAD {
        *response.body_mut() = Body::default();
    }
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    response
}

async fn answer(registry: &Registry, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    if let Some(htpasswd) = &registry.inner.htpasswd {
        htpasswd.check(request.headers()).await?;
    }
    let route = Route::parse(&registry.config().content, request.uri().path())?;
    let method = request.method().clone();
    let reads = matches!(method, Method::GET | Method::HEAD);
    match route {
        Route::Base if reads => Ok(json(&serde_json::json!({}), "application/json").done()),
        Route::Catalogue if reads => catalogue::repositories(registry, request.uri().query()).await,
        Route::Tags(repository) if reads => catalogue::tags(registry, &repository, request.uri().query()).await,
        Route::Referrers(repository, digest) if reads => {
            referrers::list(registry, &repository, &digest, request.uri().query()).await
        }
        Route::Manifest(repository, reference) => match method {
            Method::GET | Method::HEAD => manifests::get(registry, &repository, reference, request.headers()).await,
            Method::PUT => manifests::put(registry, &repository, reference, request).await,
            Method::DELETE => manifests::delete(registry, &repository, reference).await,
            _ => Err(unsupported("GET, HEAD, PUT, DELETE")),
        },
        Route::Blob(repository, digest) => match method {
            Method::GET | Method::HEAD => blobs::get(registry, &repository, &digest, &request).await,
            Method::DELETE => blobs::delete(registry, &repository, digest).await,
            _ => Err(unsupported("GET, HEAD, DELETE")),
        },
        Route::Uploads(repository) => match method {
            Method::POST => uploads::begin(registry, &repository, request).await,
            _ => Err(unsupported("POST")),
        },
        Route::Upload(repository, id) => match method {
            Method::GET | Method::HEAD => uploads::status(registry, &repository, &id).await,
            Method::PATCH => uploads::append(registry, &repository, &id, request).await,
            Method::PUT => uploads::close(registry, &repository, &id, request).await,
            Method::DELETE => uploads::cancel(registry, &repository, &id).await,
            _ => Err(unsupported("GET, PATCH, PUT, DELETE")),
        },
        Route::Base | Route::Catalogue | Route::Tags(_) | Route::Referrers(..) => Err(unsupported("GET, HEAD")),
    }
}

fn unsupported(allowed: &'static str) -> Failure {
    Code::Unsupported.failure().header(ALLOW, HeaderValue::from_static(allowed))
}

impl Reference {
    /// As the client wrote it.
    pub fn text(&self) -> &str {
        match self {
            Self::Digest(digest) => digest.as_str(),
            Self::Tag(tag) | Self::Neither(tag) => tag,
        }
    }
}

/// Accepted: the work that follows is the registry's own affair.
pub(crate) fn accepted() -> Response<Body> {
    crate::answer::finish(crate::answer::empty(StatusCode::ACCEPTED), Body::default())
}
