//! Looking at a source out of turn, because somebody asks for it.

use std::sync::Arc;

use http::{Method, StatusCode};
use serving::Serving;
use tokio::sync::Notify;

/// Notifies `look` at each `POST` of the path on the admin port, and at each reload.
pub(crate) fn when_asked(serving: &Serving, path: &'static str, look: &Arc<Notify>) {
    let asked = look.clone();
    serving.admin().route(Method::POST, path, move |_| {
        asked.notify_one();
        async { http_ends::json(StatusCode::ACCEPTED, r#"{"kind":"Accepted","apiVersion":"v1"}"#) }
    });
    let asked = look.clone();
    serving.admin().on_reload(move || {
        asked.notify_one();
        Ok(false)
    });
}
