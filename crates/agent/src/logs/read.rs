//! Reads a log file line by line and passes on what the options let through.

use std::{fs::File, io};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use tokio::{io::AsyncReadExt, sync::mpsc};

use super::{Options, Stream, line, tail};

/// Bytes read at a time, and sent at a time.
const BLOCK: usize = 32 << 10;

/// One file.
pub struct Reader {
    inode: u64,
    file: tokio::fs::File,
    rest: BytesMut,
}

impl Reader {
    /// From where the file stands.
    pub fn new(file: File) -> Self {
        Self { inode: tail::inode(&file), file: tokio::fs::File::from_std(file), rest: BytesMut::new() }
    }

    /// Which file it is, whatever its name has become.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Reads all that is there; false once no more is wanted. A line that is not whole yet stays for the next time.
    pub async fn drain(&mut self, out: &mut Output) -> io::Result<bool> {
        loop {
            self.rest.reserve(BLOCK);
            let count = self.file.read_buf(&mut self.rest).await?;
            let mut from = 0;
            while let Some(end) = self.rest[from..].iter().position(|b| *b == b'\n') {
                if !out.line(&self.rest[from..=from + end]).await {
                    return Ok(false);
                }
                from += end + 1;
            }
            let _ = self.rest.split_to(from);
            if count == 0 {
                return Ok(out.flush().await);
            }
        }
    }
}

/// The way to the client.
pub struct Output {
    options: Options,
    sink: mpsc::Sender<Bytes>,
    buffer: BytesMut,
    left: Option<u64>,
    skipping: bool,
    continued: bool,
}

impl Output {
    /// Nothing sent yet.
    pub fn new(options: Options, sink: mpsc::Sender<Bytes>) -> Self {
        Self {
            left: options.limit,
            skipping: options.since.is_some(),
            options,
            sink,
            buffer: BytesMut::new(),
            continued: false,
        }
    }

    /// Resolves when the client is gone.
    pub async fn closed(&self) {
        self.sink.closed().await;
    }

    /// One raw line; false once no more is wanted.
    async fn line(&mut self, raw: &[u8]) -> bool {
        let Some(line) = line::parse(raw) else { return true };
        let wanted = match self.options.stream {
            Stream::All => true,
            Stream::Stdout => line.stream == "stdout",
            Stream::Stderr => line.stream == "stderr",
        };
        if !wanted {
            return true;
        }
        if self.skipping {
            // Lines are in order: the first one that is late enough ends the skipping.
            let late = |time: Timestamp| self.options.since.is_none_or(|since| time >= since);
            if !line.timestamp().is_some_and(late) {
                return true;
            }
            self.skipping = false;
        }
        let mut text = BytesMut::with_capacity(line.text.len() + 40);
        // A line that was cut into parts carries one time.
        if self.options.timestamps && !self.continued {
            text.extend_from_slice(line.time.as_bytes());
            text.extend_from_slice(b" ");
        }
        text.extend_from_slice(line.text);
        if !line.partial {
            text.extend_from_slice(b"\n");
        }
        self.continued = line.partial;
        if let Some(left) = &mut self.left {
            let fits = usize::try_from(*left).unwrap_or(usize::MAX).min(text.len());
            text.truncate(fits);
            *left -= fits as u64;
        }
        self.buffer.extend_from_slice(&text);
        if self.left == Some(0) {
            self.flush().await;
            return false;
        }
        if self.buffer.len() >= BLOCK { self.flush().await } else { true }
    }

    async fn flush(&mut self) -> bool {
        if self.buffer.is_empty() {
            return !self.sink.is_closed();
        }
        self.sink.send(self.buffer.split().freeze()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(options: Options) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        let log = "2024-01-01T00:00:01Z stdout F one\n2024-01-01T00:00:02Z stderr P tw\n2024-01-01T00:00:02Z stderr F o\nbroken\n\
                   2024-01-01T00:00:03Z stdout F three\n2024-01-01T00:00:04Z stdout F unfinis";
        std::fs::write(&path, log).expect("written");
        let (sender, mut receiver) = mpsc::channel(16);
        let mut out = Output::new(options, sender);
        Reader::new(File::open(&path).expect("open")).drain(&mut out).await.expect("read");
        drop(out);
        let mut text = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text).expect("text")
    }

    #[tokio::test]
    async fn options_choose_what_is_read() {
        let base = Options::default();
        assert_eq!(read(base.clone()).await, "one\ntwo\nthree\n");
        assert_eq!(read(Options { stream: Stream::Stderr, ..base.clone() }).await, "two\n");
        let since = "2024-01-01T00:00:02Z".parse().ok();
        assert_eq!(read(Options { since, ..base.clone() }).await, "two\nthree\n");
        let stamped = "2024-01-01T00:00:01Z one\n2024-01-01T00:00:02Z two\n2024-01-01T00:00:03Z three\n";
        assert_eq!(read(Options { timestamps: true, ..base.clone() }).await, stamped);
        assert_eq!(read(Options { limit: Some(6), ..base }).await, "one\ntw");
    }
}
