//! When tokens of Secrets are used: the day of the last use is a label of the Secret, and a ConfigMap tells since when
//! that is noted (upstream's legacy token tracking). A controller withdraws what nobody uses.

use std::sync::{Arc, Weak};

use api::token_secret::{LAST_USED, TRACKING};
use http::Method;
use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{bootstrap, server::ApiServer};

/// Uses that wait to be noted; of more some are not, until the next.
const WAITING: usize = 64;

/// A Secret whose token was used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Use {
    namespace: String,
    name: String,
    uid: String,
}

pub(crate) fn channel() -> (mpsc::Sender<Use>, mpsc::Receiver<Use>) {
    mpsc::channel(WAITING)
}

/// The token that a Secret holds was good.
pub(crate) fn note(server: &ApiServer, secret: &Value) {
    let metadata = &secret["metadata"];
    if says(metadata["labels"][LAST_USED].as_str(), today()) {
        return;
    }
    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    // Full: the next use is noted.
    let _ = server.token_uses.try_send(Use { namespace: text("namespace"), name: text("name"), uid: text("uid") });
}

/// Whether that is the day; tomorrow is as good, for the clocks of other servers may be ahead.
fn says(label: Option<&str>, today: Date) -> bool {
    let tomorrow = today.checked_add(1.day()).unwrap_or(today);
    label.is_some_and(|label| label == today.to_string() || label == tomorrow.to_string())
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

/// Writes down what is used, until the server is gone.
pub(crate) async fn keep(server: Weak<ApiServer>, mut uses: mpsc::Receiver<Use>) {
    if let Some(server) = server.upgrade() {
        begin(&server).await;
    }
    while let Some(Use { namespace, name, uid }) = uses.recv().await {
        let Some(server) = server.upgrade() else { return };
        let day = today();
        let known = server.cache.kind("secrets").named(&namespace, &name).map(|secret| secret.parse());
        if known.is_none_or(|secret| says(secret["metadata"]["labels"][LAST_USED].as_str(), day)) {
            continue;
        }
        let patch = json!({"metadata": {"uid": uid, "labels": {LAST_USED: day.to_string()}}});
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        let (code, answer) = bootstrap::send(&server, Method::PATCH, &path, &patch).await;
        if code >= 300 && !matches!(code, 404 | 409) {
            tracing::warn!(namespace, name, answer, "when a token was used can't be noted");
        }
    }
}

/// Says since when uses are noted, unless that is said.
async fn begin(server: &Arc<ApiServer>) {
    let space = "/api/v1/namespaces/kube-system/configmaps";
    let data = json!({"since": today().to_string()});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": TRACKING}, "data": data});
    let (code, answer) = match server.cache.kind("configmaps").named("kube-system", TRACKING).map(|map| map.parse()) {
        None => bootstrap::send(server, Method::POST, space, &map).await,
        Some(map) if map["data"]["since"].as_str().is_some_and(|since| since.parse::<Date>().is_ok()) => return,
        Some(_) => bootstrap::send(server, Method::PATCH, &format!("{space}/{TRACKING}"), &json!({"data": data})).await,
    };
    if code >= 300 && code != 409 {
        tracing::warn!(answer, "since when uses of tokens are noted can't be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_noted_once() {
        let today: Date = "2026-01-31".parse().expect("a day");
        assert!(says(Some("2026-01-31"), today) && says(Some("2026-02-01"), today));
        for label in [None, Some("2026-01-30"), Some("2026-02-02"), Some("x")] {
            assert!(!says(label, today), "{label:?}");
        }
    }
}
