//! The L4 and L7 data plane: edge, balancing, splitting, caching, rate limits, TLS.
//!
//! [`config`] says what a proxy does; [`Proxy`] does it. Deciders are pure and apart from what carries bytes: [`http1`]
//! (framing), [`pool::balance`], [`cache::freshness`], [`limit::count`].

pub mod address;
pub mod cache;
pub mod command;
pub mod config;
pub mod edge;
pub mod http1;
mod io;
pub mod limit;
pub mod metrics;
pub mod pool;
pub mod proxy_protocol;
mod replica;
pub mod site;
pub mod tee;
pub mod tls;

pub use command::{Command, main};
pub use edge::{Proxy, StartError};
