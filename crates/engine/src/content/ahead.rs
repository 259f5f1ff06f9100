//! A reader that is read ahead of its user by a thread of its own, so that two cores share the work: one decompresses while
//! the other writes files.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes of one piece.
const PIECE: usize = 1 << 18;
/// Pieces ahead.
const AHEAD: usize = 4;

/// What the thread has read.
pub(super) struct Ahead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// Pieces that were used go back to be filled again.
    used: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    over: bool,
}

impl Ahead {
    /// Begins to read. The thread ends with the reader, with its first error, or soon after this was dropped.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn of(reader: impl Read + Send + 'static) -> io::Result<Self> {
        let (filled, pieces) = sync_channel(AHEAD);
        let (used, empty) = channel();
        std::thread::Builder::new().name("read-ahead".into()).spawn(move || fill(reader, &filled, &empty))?;
        Ok(Self { pieces, used, piece: Vec::new(), at: 0, over: false })
    }
}

fn fill(mut reader: impl Read, filled: &SyncSender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut length = 0;
        let mut failure = None;
        while length < PIECE {
            match reader.read(&mut piece[length..]) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let last = length < PIECE;
        piece.truncate(length);
        if length > 0 && filled.send(Ok(piece)).is_err() {
            return;
        }
        if let Some(error) = failure {
            let _ = filled.send(Err(error));
            return;
        }
        if last {
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.over {
            match self.pieces.recv() {
                Ok(Ok(piece)) => {
                    let used = std::mem::replace(&mut self.piece, piece);
                    let _ = self.used.send(used);
                    self.at = 0;
                }
                Ok(Err(error)) => {
                    self.over = true;
                    return Err(error);
                }
                Err(_) => self.over = true,
            }
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_is_the_same_to_the_last_byte() {
        let bytes: Vec<u8> = (0..3 * PIECE + 17).map(|n| (n % 251) as u8).collect();
        let mut read = Vec::new();
        Ahead::of(io::Cursor::new(bytes.clone())).expect("a thread").read_to_end(&mut read).expect("read");
        assert!(read == bytes);
    }

    #[test]
    fn an_error_comes_after_what_was_read_before_it() {
        struct Breaks(usize);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = self.0.min(buffer.len());
                self.0 -= length;
                if length == 0 { Err(io::Error::other("broken")) } else { Ok(length) }
            }
        }
        let mut read = Vec::new();
        let error = Ahead::of(Breaks(PIECE + 5)).expect("a thread").read_to_end(&mut read).expect_err("an error");
        assert_eq!((read.len(), error.to_string().as_str()), (PIECE + 5, "broken"));
    }

    #[test]
    fn a_user_that_leaves_ends_the_thread() {
        struct Endless(#[expect(dead_code, reason = "its end is what shows")] std::sync::Arc<()>);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                Ok(buffer.len())
            }
        }
        let alive = std::sync::Arc::new(());
        drop(Ahead::of(Endless(alive.clone())).expect("a thread"));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while std::sync::Arc::strong_count(&alive) > 1 {
            assert!(std::time::Instant::now() < deadline, "the thread still reads");
            std::thread::yield_now();
        }
    }
}
