//! BuildKit's messages, as far as they are spoken here; field numbers are those of its `.proto` files.

mod control;
mod failure;
mod gateway;
mod status;

pub(crate) use control::{
    CacheEntry, Export, SolveRequest, UsageRecord, info, prune_request, solve_response, worker, workers,
};
pub(crate) use failure::{Place, failure, status_of};
pub(crate) use gateway::{FrontendRequest, Returned, pong, read_return, reference_of, solved};
pub(crate) use status::{Log, Report, StatusLine, Vertex, Warning};

use std::time::SystemTime;

use grpc::Message;

/// `google.protobuf.Timestamp`.
pub(crate) fn timestamp(time: SystemTime) -> Message {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Message::default().number(1, since.as_secs()).number(2, u64::from(since.subsec_nanos()))
}
