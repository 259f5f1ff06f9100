//! A defect that one request brings to light must not take the platform down: its answer is a `Status` of 500.

use std::panic::AssertUnwindSafe;

use api::status::Status;
use futures::FutureExt;
use http::Response;

use crate::{body::Body, negotiate::Accept, respond};

tokio::task_local! {
    static ANSWERING: ();
}

/// Whether the code that runs now answers a request, so that a panic in it is caught here. The program's panic hook
/// asks: a panic anywhere else leaves something undone for good, and should end the process.
#[must_use]
pub fn is_answering() -> bool {
    ANSWERING.try_with(|()| ()).is_ok()
}

/// Lets a request be answered; if that panics, says so to the client.
pub(crate) fn guarded(answer: impl Future<Output = Response<Body>>) -> impl Future<Output = Response<Body>> {
    // Boxed before anything is put around it: it is large, and every layer would move it once more.
    let answer = AssertUnwindSafe(ANSWERING.scope((), Box::pin(answer))).catch_unwind();
    answer.map(|answered| {
        answered.unwrap_or_else(|_| {
            let status =
                Status::internal_error("this request has shown a defect of the server, which its log describes");
            respond::failure(&status, Accept::JSON)
        })
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_answer_and_is_told_apart_from_others() {
        let answer = guarded(async {
            assert!(is_answering());
            tokio::task::yield_now().await;
            panic!("on purpose");
        });
        assert_eq!(answer.await.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!is_answering());
    }
}
