//! Pure functions from a pod's specification to what a container gets. No I/O and no clock: ConfigMaps,
//! Secrets, images and times are passed in.

pub mod capabilities;
pub mod command;
pub mod env_file;
pub mod environment;
pub mod expansion;
pub mod field_reference;
pub mod oom_score;
pub mod qos;
pub mod quantity;
pub mod resource_reference;
pub mod resources;
pub mod security;
pub mod service_environment;
pub mod user;
