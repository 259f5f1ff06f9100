//! Volumes of the `local` driver: a directory each, with a name.

mod handlers;
mod mounting;
pub(crate) mod subpath;
mod table;

pub(crate) use handlers::{create, inspect, known_driver, list, prune, remove};
pub(crate) use table::{Volumes, check_name as check};
