//! `POST /containers/NAME/wait`. The head of the answer comes at once: clients start the container only then.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Response, streamed};

/// Waits for an end.
pub(crate) async fn wait(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let condition = call.query("condition").unwrap_or("not-running").to_owned();
    let mut moments = container.moments.subscribe();
    let ends = moments.borrow_and_update().ends;
    let met = move |moment: &super::table::Moment| match condition.as_str() {
        "next-exit" => moment.ends > ends || moment.removed,
        "removed" => moment.removed,
        // One that a policy starts again has ended all the same.
        _ => !moment.running || moment.ends > ends,
    };
    match call.query("condition") {
        None | Some("not-running" | "next-exit" | "removed") => {}
        Some(other) => return Err(ApiError::bad(format!("invalid condition: {other:?}"))),
    }
    let end = async move {
        // The container lives as long as this future.
        let _container = container;
        // The sender is the container's own.
        let code = moments.wait_for(met).await.map_or(255, |moment| moment.exit_code);
        let answer = json!({"StatusCode": code});
        Ok(Bytes::from(format!("{answer}\n")))
    };
    Ok(streamed("application/json", futures::stream::once(end)))
}
