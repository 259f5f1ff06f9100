//! As much of git as it takes to have a commit's files: protocol version 2 over HTTP, version 0 over other connections, a
//! repository on the disk, packs, checkout, submodules.
//!
//! Only the commit that is wanted is fetched, never its history. What is kept are the files and, where it is asked for, a
//! repository of that commit beside them. Why this is our own code: docs/decisions/0015-git.md.

mod address;
mod checkout;
mod delta;
mod keep;
mod local;
mod object;
mod pack;
mod packet;
mod receiving;
mod remote;
mod stream;
mod submodules;
mod write_pack;

pub use address::without_password;
pub use checkout::{CheckoutError, checkout};
pub use delta::{DeltaError, apply};
pub use keep::keep;
pub use local::{Local, LocalObjects};
pub use object::{Entry, Kind, Mode, ObjectError, Oid, commit_tree, entries};
pub use pack::{Objects, Pack, PackError};
pub use packet::{Packet, PacketError, Packets, write as write_packet};
pub use remote::{Found, Remote, RemoteError};
pub use stream::{Connect, Connecting, Connection, Duplex};
pub use submodules::{Submodule, resolve, settings_of, submodules};
