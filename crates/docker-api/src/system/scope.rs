//! What this engine does not do, said as dockerd says it.

use std::sync::Arc;

use http::StatusCode;

use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Response, json};

/// Any question to a swarm.
pub(crate) async fn not_in_swarm(_: Arc<Daemon>, _: Call) -> Result<Response> {
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again.",
    ))
}

/// Making one.
pub(crate) async fn no_swarm(_: Arc<Daemon>, _: Call) -> Result<Response> {
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "swarm mode is not supported by this engine"))
}

/// There are no plugins.
pub(crate) async fn plugins(_: Arc<Daemon>, _: Call) -> Result<Response> {
    Ok(json(&Vec::<String>::new()))
}

/// Nor can there be.
pub(crate) async fn no_plugins(_: Arc<Daemon>, _: Call) -> Result<Response> {
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "plugins are not supported by this engine"))
}

/// An experiment of dockerd's.
pub(crate) async fn no_checkpoints(_: Arc<Daemon>, _: Call) -> Result<Response> {
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "checkpoints are not supported by this engine"))
}
