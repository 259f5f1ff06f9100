//! The registry: an OCI distribution server (specification 1.1) over the engine's content store.
//!
//! Repositories and tags are the engine's ([`engine::content::Repository`]); this crate speaks HTTP for them. What is
//! pushed here and what the engine pulls, imports and builds are the same blobs in the same files, so neither pushing to
//! nor pulling from the local registry makes a second copy.
//!
//! ```text
//! connection → htpasswd → route → one handler a noun: catalogue, manifests, blobs, uploads, referrers
//!                                 ↘ on a miss, the mirror: the upstream registry, stored while it streams
//! ```
//! Nothing runs while nobody asks: garbage is collected after a deletion, and once more when the last promise to a
//! client that concerned it has ended.

mod answer;
mod blobs;
mod catalogue;
mod failure;
mod handler;
mod htpasswd;
mod manifests;
mod mirror;
mod range;
mod receive;
mod referrers;
mod registry;
mod route;
mod serve;
mod sessions;
mod stall;
mod sweep;
mod uploads;

pub use htpasswd::hash_password;
pub use registry::{Config, Mirror, OpenError, Registry};
pub use serve::{Tls, TlsError};
