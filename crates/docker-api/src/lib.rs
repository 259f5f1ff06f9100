//! The Docker Engine API over `engine` and `network`: what the stock `docker` client speaks.
//!
//! [`DockerApi::open`] takes up what an earlier process left (containers keep running while no daemon does), and
//! [`DockerApi::serve`] answers on a unix socket. A container is one sandbox of the engine with one container in it,
//! made anew at each start on the writable layer of the last run.
//!
//! ```text
//! data_dir/containers/ID/   container.json (the record), hosts, hostname, resolv.conf, container.log
//! data_dir/volumes/NAME/    volume.json, _data
//! data_dir/networks/        one JSON file a network; leases in network/ID
//! data_dir/init-layer/      the mount points that every container has, between its image and its writable layer
//! ```

#![recursion_limit = "512"]

mod buildkit;
mod config;
mod containers;
mod daemon;
mod error;
mod events;
mod filters;
mod http;
mod images;
mod networks;
mod routes;
mod system;
mod time;
mod volumes;

pub use config::{Config, NetworkSettings};
pub use containers::flags::{Flag, RUN_FLAGS, State};
pub use daemon::DockerApi;
pub use error::ApiError;
pub use http::is_answering;
pub use routes::{Endpoint, endpoints};
