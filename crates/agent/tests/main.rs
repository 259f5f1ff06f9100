//! The agent against a fake runtime and a fake API.

#![allow(missing_docs)] // names of tests and fakes speak for themselves

mod adoption;
mod cluster;
mod device_plugins;
mod ephemeral;
mod eviction;
mod fake_api;
mod fake_runtime;
mod image_volumes;
mod life_of_a_pod;
mod resize;
mod restart_together;
mod static_pods;
mod streaming;
mod termination;
