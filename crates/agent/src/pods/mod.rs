//! The pods of this node: one actor a pod turns what is declared into what runs, and reports what is.

mod actor;
mod admission;
pub mod backoff;
pub mod conditions;
pub mod container;
mod container_spec;
mod dispatcher;
mod etc_files;
pub mod hosts_file;
mod image_pull;
mod known;
mod launch;
pub mod phase;
pub mod plan;
mod prepare;
mod pull_secrets;
mod record;
pub mod resolv_conf;
pub mod restart;
mod sandbox;
mod settle;
pub mod status;
pub mod status_patch;
mod status_writer;
mod stopping;
pub(crate) mod storage;
mod teardown;
mod termination_message;

pub(crate) use actor::{Eviction, PodView};
pub(crate) use admission::requested;
pub(crate) use container::{ContainerRecord, Current, Role};
pub(crate) use dispatcher::run;
pub(crate) use known::Pods;
pub(crate) use launch::runtime_id;
pub(crate) use prepare::root_id;
