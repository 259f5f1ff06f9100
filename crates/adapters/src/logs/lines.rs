//! Bytes become lines, and lines become records. Pure.

use regex_lite::Regex;

use super::config::{Kind, Multiline};

/// The longest line, and the longest record, in bytes; what is more is cut.
pub const LONGEST: usize = 1 << 20;

/// One record's text and where the next one begins in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text, without the last line feed.
    pub text: String,
    /// The place after it, in bytes.
    pub end: u64,
    /// It was longer than is taken.
    pub cut: bool,
}

/// Which lines belong together.
#[derive(Clone, Debug)]
enum Rule {
    Single,
    Starts(Regex),
    Continues(Regex),
    /// A line marked `P` goes on in the next of the same stream.
    Cri,
}

/// Makes records of the bytes of one file.
#[derive(Clone, Debug)]
pub struct Records {
    rule: Rule,
    most_lines: usize,
    /// A line whose end has not been seen.
    partial: Vec<u8>,
    cut: bool,
    /// Lines whose record may go on.
    open: Option<(Text, usize)>,
    /// Where the bytes that have been given end.
    at: u64,
    /// Where everything ends that has been handed out.
    done: u64,
}

impl Records {
    /// A file that is read from a place on.
    ///
    /// # Errors
    /// If an expression is none.
    pub fn new(kind: Kind, multiline: Option<&Multiline>, at: u64) -> Result<Self, String> {
        let expression = |text: &String| Regex::new(text).map_err(|error| error.to_string());
        let rule = match multiline {
            Some(Multiline { start: Some(start), .. }) => Rule::Starts(expression(start)?),
            Some(Multiline { continues: Some(continues), .. }) => Rule::Continues(expression(continues)?),
            _ if kind == Kind::Cri => Rule::Cri,
            _ => Rule::Single,
        };
        let most_lines = multiline.map_or(usize::MAX, |multiline| multiline.most_lines.max(1));
        Ok(Self { rule, most_lines, partial: Vec::new(), cut: false, open: None, at, done: at })
    }

    /// Where reading begins again after a restart: nothing that lies before was not handed out.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Where the next bytes come from.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The file begins anew.
    pub fn restart(&mut self) {
        self.partial.clear();
        self.cut = false;
        self.open = None;
        (self.at, self.done) = (0, 0);
    }

    /// Whether a record waits for whether it goes on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes bytes, hands out the records that are complete.
    pub fn push(&mut self, bytes: &[u8], records: &mut Vec<Text>) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.extend(&rest[..end]);
            self.at += end as u64 + 1;
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.partial);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            let text = Text {
                text: String::from_utf8_lossy(line).into_owned(),
                end: self.at,
                cut: std::mem::take(&mut self.cut),
            };
            self.line(text, records);
        }
        self.extend(rest);
        self.at += rest.len() as u64;
        if let Some(last) = records.last() {
            self.done = self.done.max(last.end);
        }
    }

    /// It has been silent for long enough, or there is no more: what is open is complete.
    pub fn flush(&mut self, records: &mut Vec<Text>) {
        if let Some((text, _)) = self.open.take() {
            self.done = self.done.max(text.end);
            records.push(text);
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LONGEST.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut |= bytes.len() > room;
    }

    fn line(&mut self, line: Text, records: &mut Vec<Text>) {
        let goes_on = match &self.rule {
            Rule::Single => {
                records.push(line);
                return;
            }
            Rule::Cri => {
                self.cri(line, records);
                return;
            }
            Rule::Starts(regex) => !regex.is_match(&line.text),
            Rule::Continues(regex) => regex.is_match(&line.text),
        };
        match &mut self.open {
            Some((open, lines)) if goes_on && *lines < self.most_lines => {
                *lines += 1;
                join(open, "\n", &line);
            }
            _ => {
                self.flush(records);
                self.open = Some((line, 1));
            }
        }
    }

    fn cri(&mut self, line: Text, records: &mut Vec<Text>) {
        let mut parts = line.text.splitn(4, ' ');
        let (_, stream, tag) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (is_partial, rest) = (tag.starts_with('P'), parts.next().unwrap_or_default().to_owned());
        match &mut self.open {
            Some((open, _)) if open.text.split(' ').nth(1) == Some(stream) => {
                join(open, "", &Text { text: rest, ..line });
            }
            _ => {
                // The other stream's record ends here: its rest would stand too far away to be waited for.
                self.flush(records);
                self.open = Some((line, 1));
            }
        }
        if !is_partial {
            self.flush(records);
        }
    }
}

fn join(open: &mut Text, between: &str, line: &Text) {
    open.end = line.end;
    open.cut |= line.cut;
    if open.text.len() + line.text.len() > LONGEST {
        open.cut = true;
    } else {
        open.text.push_str(between);
        open.text.push_str(&line.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: Kind, multiline: Option<&str>, bytes: &[u8], step: usize) -> Vec<String> {
        let multiline: Option<Multiline> = multiline.map(|text| serde_yaml_ng::from_str(text).unwrap());
        let mut records = Records::new(kind, multiline.as_ref(), 0).unwrap();
        let mut found = Vec::new();
        for piece in bytes.chunks(step) {
            records.push(piece, &mut found);
        }
        records.flush(&mut found);
        assert_eq!(records.done(), found.last().map_or(0, |last| last.end));
        found.into_iter().map(|text| text.text).collect()
    }

    #[test]
    fn records_are_the_same_however_the_bytes_arrive() {
        let trace = b"2026 one\n  at a\n  at b\r\n2026 two\nrest without end";
        for step in 1..=trace.len() {
            assert_eq!(
                run(Kind::Raw, Some("{start: '^\\d{4} '}"), trace, step),
                ["2026 one\n  at a\n  at b", "2026 two"]
            );
            assert_eq!(
                run(Kind::Raw, Some("{continues: '^ '}"), trace, step),
                ["2026 one\n  at a\n  at b", "2026 two"]
            );
            assert_eq!(run(Kind::Raw, None, trace, step).len(), 4);
        }
        assert_eq!(run(Kind::Raw, Some("{continues: '^ ', mostLines: 2}"), trace, 100).len(), 3);
        let cri = b"t stdout P ab\nt stdout F cd\nt stdout P x\nt stderr F y\n";
        assert_eq!(run(Kind::Cri, None, cri, 7), ["t stdout P abcd", "t stdout P x", "t stderr F y"]);
    }

    #[test]
    fn a_line_without_end_is_cut_and_not_kept() {
        let mut records = Records::new(Kind::Raw, None, 0).unwrap();
        let mut found = Vec::new();
        for _ in 0..40 {
            records.push(&vec![b'x'; 64 << 10], &mut found);
        }
        assert!(records.partial.len() <= LONGEST);
        records.push(b"\nnext\n", &mut found);
        assert_eq!((found[0].cut, found[0].text.len(), found[1].text.as_str()), (true, LONGEST, "next"));
        assert_eq!(found[0].end, 40 * (64 << 10) + 1);
    }

    #[test]
    fn what_is_open_is_read_again_after_a_restart() {
        let multiline: Multiline = serde_yaml_ng::from_str("{continues: '^ '}").unwrap();
        let mut records = Records::new(Kind::Raw, Some(&multiline), 100).unwrap();
        let mut found = Vec::new();
        records.push(b"a\n b\nc\n d", &mut found);
        assert_eq!((found.len(), records.done(), records.at()), (1, 105, 109));
    }
}
