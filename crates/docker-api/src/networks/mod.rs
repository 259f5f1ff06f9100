//! Networks: the predefined three, user-defined bridges, and containers' places in them.

mod configuration;
mod create;
mod dns;
mod endpoint;
mod etc_files;
mod forward;
mod handlers;
mod legacy;
mod lend;
mod link;
mod ports;
mod record;
mod table;
mod wishes;

pub(crate) use create::create;
pub(crate) use endpoint::{Attached, attach, detach, parse_mac, resume, running};
pub(crate) use etc_files::{hostname, write as write_etc_files};
pub(crate) use handlers::{connect, disconnect, inspect, list, prune, remove};
pub(crate) use legacy::readdress;
pub(crate) use lend::{Lent, give_back, lend, take_back};
pub(crate) use ports::HeldPorts;
pub(crate) use record::{Driver, NetworkRecord};
pub(crate) use table::Networks;
pub(crate) use wishes::check as check_wishes;
