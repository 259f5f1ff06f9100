//! Who a request comes from: a client certificate, a bearer token, or the process itself.

use std::sync::Arc;

use http::{HeaderMap, header};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{config::User, server::ApiServer};

/// What is known of the other end before any header is read.
#[derive(Clone)]
pub(crate) enum Peer {
    /// In the same process.
    Trusted(Arc<User>),
    /// Over TLS with a certificate of the client CA.
    Certificate(Arc<User>),
    /// Over TLS without one.
    Unknown,
}

impl Peer {
    /// From the certificate that the TLS handshake has verified: CN is the user, each O a group.
    pub fn of_certificates(certificates: Option<&[CertificateDer<'_>]>) -> Peer {
        let Some(leaf) = certificates.and_then(<[_]>::first) else { return Peer::Unknown };
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return Peer::Unknown };
        let subject = certificate.subject();
        let Some(name) = subject.iter_common_name().next().and_then(|a| a.as_str().ok()) else { return Peer::Unknown };
        let groups: Vec<&str> = subject.iter_organization().filter_map(|a| a.as_str().ok()).collect();
        Peer::Certificate(Arc::new(User::new(name, &groups)))
    }
}

/// The user, or `None` for credentials that are wrong (401). No credentials are the anonymous user.
pub(crate) fn authenticate(server: &ApiServer, peer: &Peer, headers: &HeaderMap) -> Option<Arc<User>> {
    if let Peer::Trusted(user) | Peer::Certificate(user) = peer {
        return Some(user.clone());
    }
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Some(anonymous()) };
    let token = value.to_str().ok().and_then(bearer)?;
    of_token(server, token, &[]).ok()
}

/// The user that a token stands for, and the audiences for which it is good among those asked for.
pub(crate) fn of_token(server: &ApiServer, token: &str, audiences: &[String]) -> Result<Arc<User>, String> {
    if let Some(user) = server.static_tokens.get(token) {
        return Ok(user.clone());
    }
    server.tokens.verify(server, token, audiences).map(Arc::new)
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Whether nothing is known of the user.
pub(crate) fn is_anonymous(user: &User) -> bool {
    user.groups.iter().any(|group| group == ANONYMOUS_GROUP)
}

/// The name of those who show no credentials.
pub(crate) const ANONYMOUS: &str = "system:anonymous";

/// Their group.
pub(crate) const ANONYMOUS_GROUP: &str = "system:unauthenticated";

/// The group of all others.
pub(crate) const AUTHENTICATED_GROUP: &str = "system:authenticated";

fn anonymous() -> Arc<User> {
    Arc::new(User { name: ANONYMOUS.into(), groups: vec![ANONYMOUS_GROUP.into()], ..User::default() })
}
