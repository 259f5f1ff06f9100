//! Sockets, and the choice between the zone and the upstream resolvers.

use std::io;
use std::net::SocketAddr;

use crate::dns::{DnsConfig, Zone};

/// A running name server; it stops when dropped.
pub struct Server {}

impl Server {
    /// Binds all addresses and starts to serve on the current tokio runtime.
    /// Errors: an address can't be bound.
    pub async fn start(config: DnsConfig) -> io::Result<Server> {
        let _ = config;
        todo!()
    }

    /// The zone, to be filled by the caller. Cheap to clone.
    pub fn zone(&self) -> &Zone {
        todo!()
    }

    /// The addresses really bound, in the order of `DnsConfig::listen`.
    pub fn addresses(&self) -> &[SocketAddr] {
        todo!()
    }
}
