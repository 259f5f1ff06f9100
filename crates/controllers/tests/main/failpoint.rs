//! Ends a client's writes at the n-th: what comes after it never reaches the API, and nobody is told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Method;
use kube::Client;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::world::{Answer, Service};

/// On which side of the write the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The write does not happen.
    Before,
    /// It takes effect, but its answer is not heard.
    After,
    /// It takes effect, but its answer is lost on the way: no end at all, but a failure that is none.
    Lost,
}

/// Counts the writes to a namespace (and to volumes and the node of its name, which have none) once it is armed.
pub struct Failpoint {
    namespace: String,
    node: String,
    /// From 1.
    at: usize,
    side: Side,
    writes: AtomicUsize,
    armed: watch::Sender<bool>,
    tripped: watch::Sender<bool>,
    /// Writes that the API is at.
    under_way: watch::Sender<usize>,
}

impl Failpoint {
    pub fn new(namespace: &str, at: usize, side: Side) -> Arc<Self> {
        Arc::new(Self {
            namespace: format!("/namespaces/{namespace}"),
            node: format!("/nodes/{namespace}"),
            at,
            side,
            writes: AtomicUsize::new(0),
            armed: watch::Sender::new(false),
            tripped: watch::Sender::new(false),
            under_way: watch::Sender::new(0),
        })
    }

    /// Whether its client has ended when it has tripped.
    pub fn is_end(&self) -> bool {
        self.side != Side::Lost
    }

    /// A client that ends there.
    pub fn client(self: &Arc<Self>, api: impl Service) -> Client {
        let failpoint = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (api, failpoint) = (api.clone(), failpoint.clone());
            async move {
                if !failpoint.counts(request.method(), request.uri().path()) {
                    return api.oneshot(request).await;
                }
                let number = failpoint.writes.fetch_add(1, Ordering::AcqRel) + 1;
                let last = number == failpoint.at;
                if last && failpoint.side == Side::Before {
                    failpoint.tripped.send_replace(true);
                }
                if *failpoint.tripped.borrow() && failpoint.side != Side::Lost {
                    return std::future::pending().await;
                }
                // What has begun goes on, whatever becomes of who asked for it.
                failpoint.under_way.send_modify(|count| *count += 1);
                let over = failpoint.clone();
                let answer = tokio::spawn(async move {
                    let answer = api.oneshot(request).await;
                    over.under_way.send_modify(|count| *count -= 1);
                    answer
                });
                let answer = answer.await.expect("the API does not panic");
                if last && failpoint.side == Side::Lost {
                    failpoint.tripped.send_replace(true);
                    return Ok(lost());
                }
                if last {
                    failpoint.tripped.send_replace(true);
                    return std::future::pending().await;
                }
                answer
            }
        });
        Client::new(service, "default")
    }

    /// Counts from here on.
    pub fn arm(&self) {
        self.armed.send_replace(true);
    }

    /// Returns once the end has come.
    pub async fn tripped(&self) {
        // The sender lives as long as this.
        let _ = self.tripped.subscribe().wait_for(|tripped| *tripped).await;
    }

    /// Returns once no write is under way any more.
    pub async fn quiet(&self) {
        let _ = self.under_way.subscribe().wait_for(|count| *count == 0).await;
    }

    /// How many writes there were.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::Acquire)
    }

    fn counts(&self, method: &Method, path: &str) -> bool {
        // Events tell of what happens and change nothing.
        *method != Method::GET
            && *self.armed.borrow()
            && !path.contains("/events")
            && (path.contains(&self.namespace) || path.contains("/persistentvolumes") || path.contains(&self.node))
    }
}

/// What a proxy says that has lost its upstream.
pub fn lost() -> Answer {
    let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 504,
        "reason": "Timeout", "message": "the answer was lost"});
    let body = http_body_util::Full::new(bytes::Bytes::from(status.to_string()));
    let mut answer = http::Response::new(http_body_util::Either::Right(body));
    *answer.status_mut() = http::StatusCode::GATEWAY_TIMEOUT;
    answer
}
