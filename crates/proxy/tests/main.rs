//! Proxies on loopback, between clients and servers of every temper.

mod bytes;
mod caching;
mod disk;
mod documents;
mod framing;
mod limiting;
mod mirroring;
mod retrying;
mod routing;
mod serving;
mod stage;
mod tls;
mod two;
