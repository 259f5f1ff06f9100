//! A body whose messages come from elsewhere, as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use crate::{Status, frame::frame};

/// What a sender has: messages, and at the end of an answer its status.
pub(crate) enum Piece {
    Message(Bytes),
    End(Status),
}

/// Messages from a channel; it ends with it.
pub(crate) struct Pieces(pub mpsc::Receiver<Piece>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| {
            Some(Ok(match piece? {
                Piece::Message(message) => Frame::data(frame(&message)),
                Piece::End(status) => Frame::trailers(status.trailers()),
            }))
        })
    }
}
