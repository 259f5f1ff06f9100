//! Images, as `docker` shows and handles them, over the engine's content store.
//!
//! Docker knows images without a name; the store's table needs one. They have a tag in [`names::NAMELESS`], which is
//! never shown.

mod announce;
mod build;
pub(crate) mod compose;
mod create;
mod instructions;
mod layers;
mod list;
mod load;
mod names;
mod push;
pub(crate) mod registry;
mod remote;
mod remove;
mod save;
mod show;
mod upload;

pub(crate) use announce::announce;
pub(crate) use build::{build, cache as build_cache, document, prune as build_prune};
pub(crate) use create::{create, search};
pub(crate) use instructions::apply as apply_changes;
pub(crate) use layers::{layers, layers_size};
pub(crate) use list::{descends, list, summary, users, visible};
pub(crate) use load::load;
pub(crate) use names::{strip, tag, target_name};
pub(crate) use push::{distribution, push, send};
pub(crate) use remove::{prune, remove};
pub(crate) use save::save;
pub(crate) use show::{history, inspect};
