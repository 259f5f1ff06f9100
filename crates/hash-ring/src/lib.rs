//! Consistent hashing: which member of a pool a key belongs to, placed as twemproxy and nginx place it. Pure.
//!
//! ```
//! use hash_ring::{Hash, Member, Placement, Ring};
//!
//! let members = [Member::new("db-0", 1), Member::new("db-1", 1), Member::new("db-2", 1)];
//! let ring = Ring::new(Placement::Ketama, &members);
//! let owner = ring.lookup(Hash::Fnv1a64.of(b"user:42"));
//! assert!(owner.is_some_and(|index| index < 3));
//! ```
//!
//! The order in which members are given does not matter for [`Placement::Ketama`] and [`Placement::NginxConsistent`]
//! (but for points that collide); members are known by their *names*, so a member keeps its keys when its address changes.
#![forbid(unsafe_code)]

mod hash;
mod mixers;
mod ring;
mod tag;

pub use hash::{Hash, UnknownHash};
pub use ring::{Member, POINTS_PER_MEMBER, Placement, Ring, UnknownPlacement};
pub use tag::{HashTag, MalformedTag};

/// The name twemproxy gives a server that has none of its own: `host:port`, or `host` alone at memcached's port 11211
/// (as libmemcached does). A unix socket is called by its path *and a colon*: twemproxy cuts `path:weight` one byte late.
#[must_use]
pub fn twemproxy_name(host: &str, port: u16) -> String {
    if host.starts_with('/') {
        format!("{host}:")
    } else if port == 11211 {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    }
}
