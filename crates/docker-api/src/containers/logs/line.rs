//! Lines of a log file: `TIME STREAM TAG TEXT`, tag `P` for a part whose line goes on, `F:E` for a last line without end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;

/// One line, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub at: Timestamp,
    /// 1 stdout, 2 stderr.
    pub stream: u8,
    /// With its newline, if it has one.
    pub text: Vec<u8>,
}

impl Line {
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let at = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let stream = if parts.next()? == b"stderr" { 2 } else { 1 };
        let whole = parts.next()? == b"F";
        let mut text = parts.next()?.to_vec();
        if whole {
            text.push(b'\n');
        }
        Some(Self { at, stream, text })
    }
}

/// The lines of a file that may still grow.
pub(super) struct Lines {
    reader: BufReader<File>,
    /// A line whose end has not been written yet.
    partial: Vec<u8>,
}

impl Lines {
    pub fn new(reader: BufReader<File>) -> Self {
        Self { reader, partial: Vec::new() }
    }

    /// The next whole line; `None` at the end, for now.
    pub fn next(&mut self) -> Option<Line> {
        loop {
            self.reader.read_until(b'\n', &mut self.partial).ok()?;
            if self.partial.last() != Some(&b'\n') {
                return None;
            }
            self.partial.pop();
            let line = Line::parse(&self.partial);
            self.partial.clear();
            if line.is_some() {
                return line;
            }
        }
    }

    /// Whether the path leads to another file by now, or this one was cut.
    pub fn is_rotated(&mut self, path: &Path) -> bool {
        let Ok(mine) = self.reader.get_ref().metadata() else { return true };
        let Ok(theirs) = std::fs::metadata(path) else { return false };
        if mine.ino() != theirs.ino() {
            return true;
        }
        let at = std::io::Seek::stream_position(&mut self.reader).unwrap_or(0);
        at > theirs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_no_newline() {
        let line = |text: &str| Line::parse(text.as_bytes()).unwrap();
        assert_eq!(line("2024-01-01T00:00:00.5Z stdout F a b").text, b"a b\n");
        let part = line("2024-01-01T00:00:00.5Z stderr P long");
        assert_eq!((part.stream, part.text.as_slice()), (2, &b"long"[..]));
        assert_eq!(line("2024-01-01T00:00:00.5Z stdout F:E last").text, b"last");
        assert_eq!(Line::parse(b"rubbish"), None);
    }
}
