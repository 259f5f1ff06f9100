//! The node's network: a bridge and a namespace a pod, Service rules in one nftables table, and the cluster's DNS.
//!
//! - [`Network`] gives pods their namespaces and addresses ([`Network::attach`], [`Network::detach`]).
//! - [`service::ServiceTable`] (from [`Network::services`]) keeps Services' rules in step with the kernel.
//! - [`dns::Server`] answers names of the cluster and forwards the rest.
//!
//! Callers watch the API and hand over plain data; nothing here speaks Kubernetes, starts a program or polls.

mod cidr;
mod conntrack;
pub mod dns;
mod error;
mod hash;
mod host;
mod isolation;
mod leases;
mod namespace;
mod netlink;
mod network;
mod nft;
mod pod;
mod routes;
pub mod service;

pub use cidr::{Cidr, CidrError};
pub use error::NetworkError;
pub use isolation::Isolation;
pub use network::{Addresses, Ipv6, Network, NetworkConfig, RESOLVER, is_link_name};
pub use pod::{HostPort, PodAttach, PodNetwork, UserIds};
pub use routes::{Route, routes};
