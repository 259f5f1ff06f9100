//! A blob that is read while it arrives: what comes from the network is unpacked from the file that it is written to.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::blobs::Ingest;

/// The end that knows how far the blob is. Dropped before [`Arrival::finish`], it fails the follower.
pub(super) struct Arrival(Arc<Shared>);

/// The end that reads, blocking until there is more.
pub(super) struct Follower {
    shared: Arc<Shared>,
    at: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    file: Option<Arc<File>>,
    length: u64,
    ended: bool,
    whole: bool,
}

/// Both ends of a blob's arrival.
pub(super) fn arrival() -> (Arrival, Follower) {
    let shared = Arc::<Shared>::default();
    (Arrival(shared.clone()), Follower { shared, at: 0 })
}

impl Arrival {
    /// Shows how far the download is. It may shrink, when a server makes it begin anew: the bytes are the same again, or
    /// their digest tells.
    pub fn show(&self, ingest: &Ingest) {
        self.0.change(|state| {
            state.length = ingest.length();
            if state.file.is_none() {
                state.file = ingest.reader().ok().map(Arc::new);
            }
        });
    }

    /// The blob is whole, and this is it.
    pub fn finish(&self, blob: File) {
        self.0.change(|state| {
            state.file = Some(Arc::new(blob));
            state.whole = true;
        });
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.change(|state| state.ended = true);
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.shared.state.lock();
        loop {
            let there = if state.whole { u64::MAX } else { state.length }.saturating_sub(self.at);
            if let (Some(file), 1..) = (&state.file, there) {
                let (file, whole) = (file.clone(), state.whole);
                drop(state);
                let length = buffer.len().min(usize::try_from(there).unwrap_or(usize::MAX));
                let read = file.read_at(&mut buffer[..length], self.at)?;
                if read > 0 || whole || length == 0 {
                    self.at += read as u64;
                    return Ok(read);
                }
                // It was cut between the look and the reading.
                state = self.shared.state.lock();
                if state.length > self.at && !state.whole {
                    self.shared.changed.wait(&mut state);
                }
                continue;
            }
            if state.ended {
                return Err(io::Error::other("the download broke off"));
            }
            self.shared.changed.wait(&mut state);
        }
    }
}
