//! Buffers, taken from and given back to a shelf each thread has.

use std::cell::RefCell;
use std::io;

use super::Stream;

/// A buffer's usual size.
const SIZE: usize = 16 << 10;
/// Buffers that a thread keeps on its shelf.
const KEPT: usize = 64;

thread_local! {
    static SHELF: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub fn take() -> Vec<u8> {
    SHELF.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(SIZE))
}

/// Gives a buffer back.
pub fn give(mut buffer: Vec<u8>) {
    if buffer.capacity() >= SIZE && buffer.capacity() <= 4 * SIZE {
        buffer.clear();
        // A thread that ends has no shelf any more.
        let _ = SHELF.try_with(|shelf| {
            let mut shelf = shelf.borrow_mut();
            if shelf.len() < KEPT {
                shelf.push(buffer);
            }
        });
    }
}

/// Bytes that were read and not yet used.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    at: usize,
}

impl Input {
    /// What there is.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// So many bytes were used.
    pub fn consume(&mut self, bytes: usize) {
        self.at += bytes;
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
    }

    /// Reads more behind what there is. 0 is the end.
    pub async fn fill(&mut self, stream: &Stream) -> io::Result<usize> {
        if self.bytes.capacity() == 0 {
            self.bytes = take();
        }
        if self.at > 0 && (self.at == self.bytes.len() || self.bytes.capacity() - self.bytes.len() < SIZE / 4) {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.reserve(SIZE);
        }
        stream.read(&mut self.bytes).await
    }

    /// Moves everything to an empty buffer of someone else; that one's memory becomes this one's.
    pub fn move_into(&mut self, text: &mut Vec<u8>) {
        debug_assert!(text.is_empty(), "nothing is lost");
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        std::mem::swap(&mut self.bytes, text);
    }

    /// Puts bytes back that came too much.
    pub fn put_back(&mut self, bytes: &[u8]) {
        debug_assert!(self.rest().is_empty(), "order is kept");
        if !bytes.is_empty() {
            if self.bytes.capacity() == 0 {
                self.bytes = take();
            }
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Gives the memory back if nothing is in it.
    pub fn rest_if_empty(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > 0 {
            give(std::mem::take(&mut self.bytes));
            self.at = 0;
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.bytes));
    }
}
