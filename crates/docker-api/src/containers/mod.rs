//! Containers: their records, their life, and everything `docker` does with one.

mod accept;
mod adopt;
mod archive;
mod attach;
mod changes;
mod commit;
mod create;
mod disks;
mod ending;
mod exec;
pub(crate) mod flags;
mod health;
mod init_layer;
mod inspect;
mod life;
mod list;
mod logs;
mod mounts;
mod names;
pub(crate) mod options;
mod prune;
mod record;
mod remove;
mod root;
mod security;
mod shm;
mod shown;
mod signal;
mod spec;
mod start;
mod stats;
mod table;
pub(crate) mod tarball;
mod top;
mod update;
pub(crate) mod users;
mod wait;

pub(crate) use accept::platform as check_platform;
pub(crate) use adopt::{adopt, remove_all};
pub(crate) use archive::{
    Channel, decompressed, export, get as archive_get, produce_with, put as archive_put, stat as archive_stat,
};
pub(crate) use attach::{attach, attach_websocket, resize};
pub(crate) use changes::changes;
pub(crate) use commit::commit;
pub(crate) use create::{create, find_image};
pub(crate) use exec::{
    Execs, create as exec_create, inspect as exec_inspect, resize as exec_resize, start as exec_start,
};
pub(crate) use init_layer::init_layer;
pub(crate) use inspect::inspect;
pub(crate) use life::{kill, pause, restart, start, stop, unpause};
pub(crate) use list::{list, summary};
pub(crate) use logs::logs;
pub(crate) use options::HostOptions;
pub(crate) use prune::prune;
pub(crate) use record::{Record, Status};
pub(crate) use remove::{remove, remove_link};
pub(crate) use spec::{resources, rlimits};
pub(crate) use stats::stats;
pub(crate) use table::{Container, Containers};
pub(crate) use top::top;
pub(crate) use update::{rename, update};
pub(crate) use wait::wait;

/// The name of the one container in each sandbox.
const MAIN: &str = "main";

/// 64 hexadecimal digits nobody else has.
pub(crate) fn random_id() -> String {
    let bytes: [u8; 32] = rand::random();
    hex::encode(bytes)
}
