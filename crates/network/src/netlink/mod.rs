//! Netlink from blocking code: a socket that stays bound to the namespace it was opened in, attribute coding for the
//! subsystems that have no message crate fit for bulk loads (nftables, conntrack), typed messages for links.

mod attributes;
mod link;
mod socket;

pub(crate) use attributes::{AttributeWriter, attributes};
pub(crate) use link::{Links, POD_INDEX, PodSide};
pub(crate) use socket::{Family, NetlinkSocket, next_sequence};

/// Length of `struct nlmsghdr` (linux/netlink.h).
pub(crate) const HEADER: usize = 16;
