//! Bytes in both directions: upgraded connections (WebSocket) and TCP. An idle tunnel holds no buffers.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use super::connection::Open;
use crate::io::{Deadline, Input, Stream, give, take};
use crate::pool::Idle;
use crate::site::Listener;

/// Carries an upgraded connection to its end.
pub(super) async fn serve(stream: Stream, input: Input, other: Idle, listener: Arc<Listener>, open: Open) {
    let patience = listener.config.limits.tunnel_timeout.0;
    drop(listener);
    let _ = carry(&stream, input, &other.stream, other.input, patience, |_, _| {}).await;
    drop(open);
}

/// Carries bytes until both directions have ended, one failed, or nothing moved for too long. Returns how many went from the
/// first to the second, and back. `count` is told as they go: how many more, and whether to the second.
pub(super) async fn carry(
    first: &Stream,
    from_first: Input,
    second: &Stream,
    from_second: Input,
    patience: std::time::Duration,
    count: impl Fn(usize, bool),
) -> (u64, u64) {
    let deadline = Deadline::new(patience);
    let (there, back) = (Cell::new(0), Cell::new(0));
    let both = async {
        let moved = |sum: &Cell<u64>, bytes: usize, forth: bool| {
            sum.set(sum.get() + bytes as u64);
            count(bytes, forth);
            deadline.set(patience);
        };
        tokio::try_join!(
            one_way(first, from_first, second, |n| moved(&there, n, true)),
            one_way(second, from_second, first, |n| moved(&back, n, false))
        )
    };
    let _ = deadline.guard(both).await;
    (there.get(), back.get())
}

async fn one_way(from: &Stream, begun: Input, to: &Stream, moved: impl Fn(usize)) -> io::Result<()> {
    if !begun.rest().is_empty() {
        to.write_all(begun.rest(), &[]).await?;
        moved(begun.rest().len());
    }
    drop(begun);
    let mut own = Vec::new();
    loop {
        // TLS must be given a buffer to find out whether it has anything.
        if own.capacity() == 0 && from.is_plain() {
            from.readable().await?;
        }
        if own.capacity() == 0 {
            own = take();
        }
        let read = from.read(&mut own).await?;
        if read == 0 {
            give(own);
            return to.shutdown().await;
        }
        to.write_all(&own, &[]).await?;
        own.clear();
        moved(read);
        // What comes at once is read without a detour.
        if from.is_plain() && !from.has_more() {
            give(std::mem::take(&mut own));
        }
    }
}
