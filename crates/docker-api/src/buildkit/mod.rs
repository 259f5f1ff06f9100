//! BuildKit's API in Docker's: `POST /grpc`, `POST /session`, and `POST /build?version=2` of clients without buildx.

mod build;
mod connections;
mod host;

pub(crate) use build::{Uploads, build};
pub(crate) use connections::{control, session};

use std::sync::{Arc, Weak};

use ::buildkit::BuildKit;

use self::host::Lender;
use crate::Config;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};

/// The API, where there is a builder.
pub(crate) fn open(daemon: &Weak<Daemon>, config: &Config) -> Option<BuildKit> {
    let builder = config.builder.clone()?;
    Some(BuildKit::new(Arc::new(Lender(daemon.clone())), builder, config.content.clone()))
}

fn of(daemon: &Daemon) -> Result<BuildKit> {
    let missing =
        || ApiError::new(http::StatusCode::NOT_IMPLEMENTED, "this engine was started without an image builder");
    daemon.buildkit.clone().ok_or_else(missing)
}
