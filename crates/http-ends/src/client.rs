//! An HTTP client with one deadline and one limit a call.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use crate::{Names, ServerName, TlsConfig, Trust, TrustError};

/// Idle connections are given up after this long.
const IDLE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection could not be made: nothing has been sent, another try is safe.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, String),
    /// The connection broke, or what came was not HTTP. The request may have had its effect.
    #[error("{0}: {1}")]
    Exchange(String, String),
    /// The answer did not come in time. The request may have had its effect.
    #[error("{0}: no answer within {1:?}")]
    Deadline(String, Duration),
    /// The answer's body is larger than was asked for.
    #[error("{0}: the answer is larger than {1} bytes")]
    TooLarge(String, usize),
    /// `https` without certificate authorities that could vouch for anyone.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Error {
    /// Whether nothing was sent, so that even an unsafe method may be tried again.
    #[must_use]
    pub fn nothing_sent(&self) -> bool {
        matches!(self, Self::Connect(..) | Self::Trust(_))
    }
}

/// An answer with its whole body.
pub type Answer = Response<Bytes>;

type Plain = HttpConnector<Names>;
type Inner<C> = legacy::Client<C, Full<Bytes>>;

/// Asks over HTTP. Cloning shares connections.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    plain: Inner<Plain>,
    /// Made when the first `https` address is asked: authorities cost memory.
    tls: OnceLock<Inner<HttpsConnector<Plain>>>,
    names: Names,
    vouched: Vouched,
}

/// How `https` is spoken.
enum Vouched {
    /// Each host shows a certificate for its own name that one of these vouches for.
    ByTrust(Trust),
    /// All hosts are one service, by this name.
    As(Box<TlsConfig>, ServerName<'static>),
}

impl Client {
    /// A client that resolves by `names` and, for `https`, believes `trust`.
    #[must_use]
    pub fn new(names: Names, trust: Trust) -> Self {
        Self::vouched(names, Vouched::ByTrust(trust))
    }

    /// A client of one service whose replicas are asked by their addresses: each shows a certificate for `name`.
    #[must_use]
    pub fn of_service(names: Names, tls: TlsConfig, name: ServerName<'static>) -> Self {
        Self::vouched(names, Vouched::As(Box::new(tls), name))
    }

    fn vouched(names: Names, vouched: Vouched) -> Self {
        let plain = builder().build(connector(&names));
        Self(Arc::new(Shared { plain, tls: OnceLock::new(), names, vouched }))
    }

    /// What it resolves names by.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.0.names
    }

    /// Sends the request and gives back the answer with a body that has not been read.
    ///
    /// # Errors
    /// When no answer begins.
    pub async fn open(&self, mut request: Request<Bytes>) -> Result<Response<Incoming>, Error> {
        let address = shown(request.uri());
        if !request.headers().contains_key(header::USER_AGENT) {
            let agent = concat!("hythe/", env!("CARGO_PKG_VERSION"));
            request.headers_mut().insert(header::USER_AGENT, http::HeaderValue::from_static(agent));
        }
        let request = request.map(Full::new);
        let sent = if request.uri().scheme_str() == Some("https") {
            self.tls()?.request(request).await
        } else {
            self.0.plain.request(request).await
        };
        sent.map_err(|error| {
            let reason = root_cause(&error);
            if error.is_connect() { Error::Connect(address, reason) } else { Error::Exchange(address, reason) }
        })
    }

    /// Sends the request and reads the whole answer, of at most `limit` bytes, within `deadline`.
    ///
    /// # Errors
    /// When no whole answer comes. A status that tells of a failure is an answer.
    pub async fn send(&self, request: Request<Bytes>, limit: usize, deadline: Duration) -> Result<Answer, Error> {
        let address = shown(request.uri());
        let whole = async {
            let (parts, body) = self.open(request).await?.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|error| {
                if error.downcast_ref::<LengthLimitError>().is_some() {
                    Error::TooLarge(address.clone(), limit)
                } else {
                    Error::Exchange(address.clone(), root_cause(&*error))
                }
            })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        match tokio::time::timeout(deadline, whole).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Deadline(address, deadline)),
        }
    }

    /// `GET` of an address, as [`Client::send`].
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get(&self, uri: &Uri, headers: HeaderMap, limit: usize, deadline: Duration) -> Result<Answer, Error> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        self.send(request, limit, deadline).await
    }

    /// `GET` of an address that is followed through at most five redirects.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get_following(&self, uri: &Uri, limit: usize, deadline: Duration) -> Result<Answer, Error> {
        let mut uri = uri.clone();
        for _ in 0..5 {
            let answer = self.get(&uri, HeaderMap::new(), limit, deadline).await?;
            match redirect(&uri, &answer) {
                Some(next) => uri = next,
                None => return Ok(answer),
            }
        }
        Err(Error::Exchange(shown(&uri), "too many redirects".to_owned()))
    }

    fn tls(&self) -> Result<&Inner<HttpsConnector<Plain>>, Error> {
        if self.0.tls.get().is_none() {
            let mut plain = connector(&self.0.names);
            plain.enforce_http(false);
            let connectors = HttpsConnectorBuilder::new();
            let tls = match &self.0.vouched {
                Vouched::ByTrust(trust) => connectors.with_tls_config(trust.configuration()?).https_or_http(),
                Vouched::As(config, name) => connectors
                    .with_tls_config((**config).clone())
                    .https_or_http()
                    .with_server_name_resolver(FixedServerNameResolver::new(name.clone())),
            };
            let tls = tls.enable_http1().wrap_connector(plain);
            let _ = self.0.tls.set(builder().build(tls));
        }
        // Set just above, or by someone who was faster.
        Ok(self.0.tls.get().expect("the client was set"))
    }
}

fn builder() -> legacy::Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new());
    builder
}

fn connector(names: &Names) -> Plain {
    let mut connector = HttpConnector::new_with_resolver(names.clone());
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    connector
}

fn redirect(from: &Uri, answer: &Answer) -> Option<Uri> {
    let moved = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !moved.contains(&answer.status()) {
        return None;
    }
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let next: Uri = if location.starts_with('/') {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(location.parse().ok()?);
        Uri::from_parts(parts).ok()?
    } else {
        location.parse().ok()?
    };
    // Never from an encrypted address to a plain one.
    (next.scheme_str() == Some("https") || next.scheme() == from.scheme()).then_some(next)
}

/// An address as it may be shown: without what may be secret, its user, password and query.
pub fn shown(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{}://{host}{}", uri.scheme_str().unwrap_or("http"), uri.path())
}

/// The innermost error says what happened; the outer ones say where.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_with_its_port_and_without_secrets() {
        for (uri, text) in [
            ("http://localhost:8080/ok", "http://localhost:8080/ok"),
            ("https://me:secret@h/x?token=secret", "https://h/x"),
            ("http://[::1]:81/", "http://[::1]:81/"),
        ] {
            assert_eq!(shown(&uri.parse().unwrap()), text);
        }
    }
}
