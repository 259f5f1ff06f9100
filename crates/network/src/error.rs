//! What can go wrong, by stage.

use std::io;
use std::path::PathBuf;

/// A failed operation on the node's network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The configuration contradicts itself (ranges that overlap, IPv6 only…). A retry doesn't help.
    #[error("network configuration: {0}")]
    Config(String),
    /// A pod id that can't be a file name. A retry doesn't help.
    #[error("pod id {0:?} is not usable: 1 to 200 characters of [A-Za-z0-9._-], not starting with a dot")]
    PodId(String),
    /// Every address of the pod range is leased. A retry helps once a pod has gone.
    #[error("no free address in the pod range {0}")]
    AddressesExhausted(crate::Cidr),
    /// The address asked for is another pod's, reserved, or outside of the range. A retry helps once it is free.
    #[error("Address already in use: {0}")]
    AddressTaken(std::net::Ipv4Addr),
    /// The kernel refused a netlink request. `step` names the request. A retry helps only for busy resources.
    #[error("{step}: {source}")]
    Netlink {
        /// What was asked for.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file, mount or sysctl could not be read or written.
    #[error("{step} {path}: {source}", path = path.display())]
    File {
        /// What was attempted.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A pod's namespace could not be prepared.
    #[error("{step}: {source}")]
    Namespace {
        /// What was attempted.
        step: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Two claims on one (address, protocol, port) of the node. A retry helps once the other is gone.
    #[error("{claimant}: {protocol} port {port} is already taken by {holder}")]
    PortTaken {
        /// Who asked.
        claimant: String,
        /// Who has it.
        holder: String,
        /// The protocol's name.
        protocol: &'static str,
        /// The port of the node.
        port: u16,
    },
}

impl NetworkError {
    pub(crate) fn netlink(step: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
        move |source| NetworkError::Netlink { step, source }
    }

    pub(crate) fn namespace(step: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
        move |source| NetworkError::Namespace { step, source }
    }

    pub(crate) fn file(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> NetworkError {
        move |source| NetworkError::File { step, path: path.into(), source }
    }
}
