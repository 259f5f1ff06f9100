//! Both ends of HTTP/1.1 as the pattern containers use them: a client whose calls have a deadline and a limit, over TCP and
//! TLS, with names by the system's resolver; a server that ends gracefully.
//!
//! No proxy is taken from the environment: what a pattern container asks is named by its own configuration.

mod client;
mod names;
mod server;

pub use ::names::NameError;
pub use client::{Answer, Client, Error, shown};
pub use names::Names;
pub use rustls::ClientConfig as TlsConfig;
pub use rustls_pki_types::ServerName;
pub use server::{BodyError, Whole, answer, bind, body_bytes, json, serve, whole};
pub use trust::{Identity, Trust, TrustError};
