//! Failures of requests are [`Status`] objects; here is what the store's errors become.

use api::status::Status;

/// What most of the server returns.
pub(crate) type Outcome<T> = Result<T, Status>;

/// The status that a client gets for an error of the store.
pub(crate) fn of_store(error: store::Error) -> Status {
    match error {
        store::Error::Compacted { .. } => Status::list_expired(),
        store::Error::Future { asked, current } => Status::too_large_resource_version(asked, current),
        store::Error::Closed => Status::service_unavailable("the server is shutting down"),
        other => Status::internal_error(other),
    }
}
