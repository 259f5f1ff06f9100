//! The commands that speak to an instance: one file each.

pub mod apply;
pub mod delete;
pub mod describe;
pub mod down;
pub mod exec;
pub mod get;
pub mod image;
pub mod kubeconfig;
pub mod logs;
pub mod status;

mod manifests;
mod resources;
mod session;
mod table;
