//! The commands that speak to an instance: one file each.

pub mod apply;
pub mod build;
pub mod delete;
pub mod describe;
pub mod down;
pub mod engine;
pub mod exec;
pub mod get;
pub mod image;
pub mod kubeconfig;
pub mod logs;
pub mod operator;
pub mod registry;
pub mod status;

mod manifests;
mod resources;
mod session;
mod table;
