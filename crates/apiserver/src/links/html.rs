//! HTML as it passes by: the values of link attributes change, every other byte stays.

use super::Prefix;

/// Bytes of a tag that are waited for; one that is longer is let through as it is.
const LONGEST: usize = 64 << 10;

/// Elements and those of their attributes that are links.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["formaction", "src", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose content is text up to their end tag.
const TEXT: &[&str] = &["script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp"];

/// Rewrites a page that comes in pieces.
pub(super) struct Rewriter {
    prefix: Prefix,
    /// The start of something whose end has not come yet.
    pending: Vec<u8>,
    /// The element in whose text we are.
    within: Option<&'static str>,
}

/// What begins at a `<`.
enum Piece {
    /// So many bytes that stay as they are.
    Plain(usize),
    /// A start tag of so many bytes.
    Tag(usize),
    /// Not to be told before more has come.
    Open,
}

impl Rewriter {
    pub fn new(prefix: Prefix) -> Self {
        Self { prefix, pending: Vec::new(), within: None }
    }

    /// What can be passed on once `chunk` has come.
    pub fn feed(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.pending);
        input.extend_from_slice(chunk);
        let mut out = Vec::with_capacity(input.len() + 256);
        let mut rest = &input[..];
        while let Some(at) = memchr::memchr(b'<', rest) {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            let length = match self.piece(rest) {
                Piece::Open if rest.len() < LONGEST => break,
                Piece::Open => 1,
                Piece::Plain(length) => {
                    out.extend_from_slice(&rest[..length]);
                    rest = &rest[length..];
                    continue;
                }
                Piece::Tag(length) => {
                    self.tag(&rest[..length], &mut out);
                    rest = &rest[length..];
                    continue;
                }
            };
            out.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
        }
        if memchr::memchr(b'<', rest).is_some() {
            self.pending = rest.to_vec();
        } else {
            out.extend_from_slice(rest);
        }
        out
    }

    /// What is left when nothing more comes.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    fn piece(&mut self, text: &[u8]) -> Piece {
        if let Some(element) = self.within {
            let end = element.len() + 2;
            let is_end = |text: &[u8]| text[1] == b'/' && text[2..end].eq_ignore_ascii_case(element.as_bytes());
            return match text.len() {
                n if n < end => Piece::Open,
                _ if is_end(text) => {
                    self.within = None;
                    Piece::Plain(end)
                }
                _ => Piece::Plain(1),
            };
        }
        match text.get(1) {
            None => Piece::Open,
            Some(b'!') if text.len() < 4 => Piece::Open,
            Some(b'!') if text.starts_with(b"<!--") => {
                memchr::memmem::find(&text[4..], b"-->").map_or(Piece::Open, |at| Piece::Plain(at + 7))
            }
            Some(c) if c.is_ascii_alphabetic() => end_of_tag(text).map_or(Piece::Open, Piece::Tag),
            Some(_) => Piece::Plain(1),
        }
    }

    /// Writes a start tag, its links changed.
    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let name_end = 1 + tag[1..].iter().position(|c| ends_name(*c)).unwrap_or(tag.len() - 1);
        let name = String::from_utf8_lossy(&tag[1..name_end]).to_ascii_lowercase();
        self.within = TEXT.iter().copied().find(|text| *text == name);
        let links = LINKS.iter().find(|(element, _)| *element == name).map_or(&[][..], |(_, links)| links);
        let mut written = 0;
        for attribute in attributes(tag, name_end) {
            let (label, value) = (&tag[attribute.0.clone()], &tag[attribute.1.clone()]);
            if !links.iter().any(|link| label.eq_ignore_ascii_case(link.as_bytes())) {
                continue;
            }
            let Some(link) = std::str::from_utf8(value).ok().and_then(|value| self.prefix.link(value)) else {
                continue;
            };
            out.extend_from_slice(&tag[written..attribute.1.start]);
            out.extend_from_slice(link.as_bytes());
            written = attribute.1.end;
        }
        out.extend_from_slice(&tag[written..]);
    }
}

fn ends_name(c: u8) -> bool {
    c.is_ascii_whitespace() || c == b'/' || c == b'>'
}

/// The length of the tag that begins here, its `>` included: one within quotes does not count.
fn end_of_tag(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    // A quote opens a value only behind `=`.
    let mut value_begins = false;
    for (index, c) in text.iter().enumerate().skip(1) {
        match (quote, c) {
            (Some(open), c) if *c == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') if value_begins => {
                quote = Some(*c);
                value_begins = false;
            }
            (None, b'>') => return Some(index + 1),
            (None, b'=') => value_begins = true,
            (None, c) if c.is_ascii_whitespace() => {}
            (None, _) => value_begins = false,
        }
    }
    None
}

type Span = std::ops::Range<usize>;

/// Names and values of a whole tag's attributes that have a value, without quotes.
fn attributes(tag: &[u8], from: usize) -> Vec<(Span, Span)> {
    let mut found = Vec::new();
    let end = tag.len() - 1;
    let skip = |mut at: usize, wanted: fn(u8) -> bool| {
        while at < end && wanted(tag[at]) {
            at += 1;
        }
        at
    };
    let mut at = from;
    loop {
        at = skip(at, |c| c.is_ascii_whitespace() || c == b'/');
        if at >= end {
            return found;
        }
        let name_end = skip(at + 1, |c| !ends_name(c) && c != b'=');
        let name = at..name_end;
        at = skip(name_end, |c| c.is_ascii_whitespace());
        if tag[at] != b'=' {
            continue;
        }
        at = skip(at + 1, |c| c.is_ascii_whitespace());
        let value = match tag[at] {
            quote @ (b'"' | b'\'') => {
                let length = memchr::memchr(quote, &tag[at + 1..]).unwrap_or(end.saturating_sub(at + 1));
                at + 1..at + 1 + length
            }
            _ => at..skip(at, |c| !c.is_ascii_whitespace()),
        };
        at = if tag[at] == b'"' || tag[at] == b'\'' { (value.end + 1).min(end) } else { value.end };
        found.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(pieces: &[&str]) -> String {
        let mut rewriter = Rewriter::new(Prefix { path: "/p".into(), host: "h".into() });
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| rewriter.feed(piece.as_bytes())).collect();
        out.extend(rewriter.finish());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_links_of_elements_change_and_nothing_else() {
        for (page, becomes) in [
            ("<a href=\"/x\">/x</a>", "<a href=\"/p/x\">/x</a>"),
            ("<A class=\"/c\" HREF = '/x' >", "<A class=\"/c\" HREF = '/p/x' >"),
            ("<img src=/x/y.png alt=/z/>", "<img src=/p/x/y.png alt=/z/>"),
            ("<img alt=\"a > b\" src=\"/x\"/>", "<img alt=\"a > b\" src=\"/p/x\"/>"),
            ("<form method=post action='/f?a=1&amp;b=2'>", "<form method=post action='/p/f?a=1&amp;b=2'>"),
            (
                "<script src=\"/s.js\">'<a href=\"/x\">'</script><a href='/x'>",
                "<script src=\"/p/s.js\">'<a href=\"/x\">'</script><a href='/p/x'>",
            ),
            ("<!-- <a href=\"/x\"> --><a href=\"/x\">", "<!-- <a href=\"/x\"> --><a href=\"/p/x\">"),
            ("<!DOCTYPE html><html manifest=/m>", "<!DOCTYPE html><html manifest=/p/m>"),
            ("a < b <3 </a> <a href> <a href=>", "a < b <3 </a> <a href> <a href=>"),
            ("<p href=\"/x\"><div src=/x>", "<p href=\"/x\"><div src=/x>"),
            ("an open <a href=\"/x", "an open <a href=\"/x"),
        ] {
            assert_eq!(rewritten(&[page]), becomes, "in one piece");
            let bytes: Vec<String> = page.chars().map(String::from).collect();
            let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
            assert_eq!(rewritten(&bytes), becomes, "byte by byte");
        }
    }

    #[test]
    fn a_tag_without_end_does_not_grow_without_end() {
        let endless = format!("<a href=\"{}", "x".repeat(3 * LONGEST));
        assert_eq!(rewritten(&[&endless, "\"><a href=\"/x\">"]), format!("{endless}\"><a href=\"/p/x\">"));
    }
}
