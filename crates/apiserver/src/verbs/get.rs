//! GET of one object.

use api::status::Status;

use crate::{
    call::{Call, Reply},
    failure::Outcome,
};

/// The object named in the path. `resourceVersion=0` takes what is at hand, a number waits for it, and
/// nothing means all that was committed before.
pub(crate) async fn get(call: &Call<'_>) -> Outcome<Reply> {
    match call.query.text("resourceVersion") {
        "" => call.server.cache.fresh().await,
        "0" => {}
        text => {
            let asked = text.parse().map_err(|_| {
                Status::bad_request(format!(
                    "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
                ))
            })?;
            let reached = call.server.cache.reach(asked).await;
            reached.map_err(|e| Status::too_large_resource_version(asked, e.current))?;
        }
    }
    let object = call.kind.get(&call.key()).ok_or_else(|| call.not_found())?;
    Ok(Reply::Stored { code: 200, bytes: object.bytes.clone() })
}
