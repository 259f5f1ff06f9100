//! One line of a log in the CRI format: `TIME STREAM TAG TEXT`. Pure.

use jiff::Timestamp;

/// A parsed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// RFC 3339 with nanoseconds, as written.
    pub time: &'a str,
    /// `stdout` or `stderr`.
    pub stream: &'a str,
    /// The text goes on in the next line, or ended without a line's end.
    pub partial: bool,
    /// Without the line's end.
    pub text: &'a [u8],
}

impl Line<'_> {
    /// Its time; `None` if it can't be read.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// Parses a line with or without its end; `None` if it is damaged.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tag = parts.next()?;
    let text = parts.next()?;
    if stream != "stdout" && stream != "stderr" {
        return None;
    }
    let partial = tag.split(|b| *b == b':').any(|tag| tag == b"P" || tag == b"E");
    Some(Line { time, stream, partial, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_as_the_runtime_writes_them() {
        let line = parse(b"2024-01-02T03:04:05.123456789Z stderr P some text \n").expect("a line");
        assert_eq!((line.stream, line.partial, line.text), ("stderr", true, &b"some text "[..]));
        assert_eq!(line.timestamp().map(|t| t.subsec_nanosecond()), Some(123_456_789));
        assert_eq!(parse(b"2024-01-02T03:04:05Z stdout F ").map(|l| l.text), Some(&b""[..]));
        assert_eq!(
            parse(b"2024-01-02T03:04:05Z stdout F:E last").map(|l| (l.partial, l.text)),
            Some((true, &b"last"[..]))
        );
        for damaged in ["", "x", "2024 stdout F", "2024-01-02T03:04:05Z other F text"] {
            assert_eq!(parse(damaged.as_bytes()), None, "{damaged}");
        }
    }
}
