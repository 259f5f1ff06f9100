//! Proxies on loopback, between clients and servers of every temper.

mod bytes;
mod caching;
mod certificates;
mod disk;
mod documents;
mod flags;
mod framing;
mod hashing;
mod limiting;
mod mirroring;
mod names;
mod pressure;
mod retrying;
mod routing;
mod serving;
mod stage;
mod tls;
mod two;
