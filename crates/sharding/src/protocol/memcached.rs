//! memcached's text protocol, classic and meta (its `doc/protocol.txt`): requests, and where replies end.

use super::{Broken, Span};

/// Longest line of a request: as many keys as fit.
pub const LONGEST_LINE: usize = 1 << 20;
/// Longest value, the most that memcached can be told to hold.
pub const LONGEST_VALUE: usize = 1 << 30;
/// The most that memcached takes for the length of a value, held or not; beyond it the line itself is wrong.
const LONGEST_LENGTH: usize = i32::MAX as usize - 2;
/// Longest key.
pub const LONGEST_KEY: usize = 250;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `get`, `gets`, `gat`, `gats`: the words before the keys, and the keys in [`RequestParser::keys`].
    Retrieve {
        /// `get` or `gat 100`.
        prefix: Span,
        /// Whether it changes expiry times.
        touches: bool,
    },
    /// One key; goes to its shard as it is, without the `noreply` in `silenced`, whose answer is dropped here.
    Single {
        /// Whether it reads only.
        read: bool,
        /// The space and word `noreply`, if it is there.
        silenced: Option<Span>,
    },
    /// A meta command with the `q` flag: which answers it leaves out is for the server to know, so `mn` is sent behind it.
    Quiet {
        /// Whether it reads only.
        read: bool,
    },
    /// Has a value longer than [`RequestParser::longest_value`]: so many bytes that follow the line are its data and to be
    /// passed over. The line is what was read.
    TooLarge {
        /// The data with the end of its line.
        data: usize,
        /// Whether no answer is wanted.
        silent: bool,
        /// Whether the value that is there must go: `set` and `ms` leave no old one behind in memcached either.
        stale: bool,
    },
    /// Concerns no key: whichever shard is asked answers.
    Any,
    /// Is done by all shards, without the `noreply` in `silenced`.
    All {
        /// The space and word `noreply`, if it is there.
        silenced: Option<Span>,
    },
    /// Asks for numbers of the proxy's own.
    Stats,
    /// Is answered here with this line.
    Answered(&'static str),
    /// Is answered with this line, and the connection is closed: what follows cannot be told from data.
    Fatal(&'static str),
    /// `quit`.
    Quit,
}

/// A reader of requests that goes on where it stopped.
#[derive(Debug)]
pub struct RequestParser {
    /// Values beyond so many bytes are not waited for.
    pub longest_value: usize,
    /// The keys of the request just read.
    pub keys: Vec<Span>,
    /// Whether the key is base64 (meta flag `b`).
    pub base64: bool,
    /// Where the request's command line ends, before its CR LF.
    pub line_end: usize,
    searched: usize,
}

const BAD_LINE: &str = "CLIENT_ERROR bad command line format\r\n";

/// What memcached itself says of a value that it will not hold.
pub const TOO_LARGE: &str = "SERVER_ERROR object too large for cache\r\n";

impl Default for RequestParser {
    fn default() -> Self {
        Self { longest_value: LONGEST_VALUE, keys: Vec::new(), base64: false, line_end: 0, searched: 0 }
    }
}

impl RequestParser {
    /// Reads one request from the start of `buffer`; its length and what it asks for.
    ///
    /// # Errors
    /// When the line is too long to be a request.
    pub fn parse(&mut self, buffer: &[u8]) -> Result<Option<(usize, Request)>, Broken> {
        let searched = self.searched.min(buffer.len());
        let Some(end) = memchr::memchr(b'\n', &buffer[searched..]).map(|at| at + searched) else {
            self.searched = buffer.len();
            return if buffer.len() > LONGEST_LINE { Err(Broken("the line is too long")) } else { Ok(None) };
        };
        self.searched = end;
        self.keys.clear();
        self.base64 = false;
        let line_end = if end > 0 && buffer[end - 1] == b'\r' { end - 1 } else { end };
        self.line_end = line_end;
        let mut words = Words { line: &buffer[..line_end], at: 0 };
        let Some(command) = words.next() else {
            self.searched = 0;
            return Ok(Some((end + 1, Request::Answered("ERROR\r\n"))));
        };
        let request = match command.of(buffer) {
            b"get" | b"gets" => self.retrieve(words, Span { start: 0, end: command.end }, false),
            b"gat" | b"gats" => match words.next() {
                Some(expiry) => self.retrieve(words, Span { start: 0, end: expiry.end }, true),
                None => Request::Answered("ERROR\r\n"),
            },
            b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => {
                let cas = command.of(buffer) == b"cas";
                return self.store(buffer, words, end + 1, if cas { 5 } else { 4 });
            }
            b"delete" => self.single(buffer, words, 1),
            b"incr" | b"decr" | b"touch" => self.single(buffer, words, 2),
            b"mg" | b"me" => self.meta(buffer, words, true),
            b"md" | b"ma" => self.meta(buffer, words, false),
            b"ms" => return self.meta_set(buffer, words, end + 1),
            b"mn" => Request::Answered("MN\r\n"),
            // Clients go by the number in it, so it is a server's.
            b"version" => Request::Any,
            b"verbosity" => {
                let words: Vec<Span> = words.collect();
                Request::Answered(match words.as_slice() {
                    [] | [_, _, _, ..] => "ERROR\r\n",
                    some if noreply(buffer, some).is_some() => "",
                    [level, ..] if length(level.of(buffer), u32::MAX as usize).is_none() => BAD_LINE,
                    _ => "OK\r\n",
                })
            }
            b"flush_all" => {
                let words: Vec<Span> = words.collect();
                Request::All { silenced: noreply(buffer, &words) }
            }
            // Those of one server's insides have no meaning here, and whoever asks for numbers is answered: `noreply` is not
            // taken, as by memcached.
            b"stats" => {
                if words.next().is_none() {
                    Request::Stats
                } else {
                    Request::Answered("ERROR\r\n")
                }
            }
            b"quit" => Request::Quit,
            _ => Request::Answered("ERROR\r\n"),
        };
        self.searched = 0;
        Ok(Some((end + 1, request)))
    }

    fn retrieve(&mut self, words: Words<'_>, prefix: Span, touches: bool) -> Request {
        self.keys.extend(words);
        if self.keys.is_empty() {
            Request::Answered("ERROR\r\n")
        } else if self.keys.iter().any(too_long) {
            Request::Answered(BAD_LINE)
        } else {
            Request::Retrieve { prefix, touches }
        }
    }

    /// A command of a key and some more words, and perhaps `noreply`.
    fn single(&mut self, buffer: &[u8], words: Words<'_>, least: usize) -> Request {
        let words: Vec<Span> = words.collect();
        if words.len() < least || too_long(&words[0]) {
            return Request::Answered(if words.len() < least { "ERROR\r\n" } else { BAD_LINE });
        }
        self.keys.push(words[0]);
        Request::Single { read: false, silenced: noreply(buffer, &words[least..]) }
    }

    /// A storage command: key, flags, expiry, length, perhaps a unique number, perhaps `noreply`; then the data.
    fn store(
        &mut self,
        buffer: &[u8],
        words: Words<'_>,
        data: usize,
        least: usize,
    ) -> Result<Option<(usize, Request)>, Broken> {
        let words: Vec<Span> = words.collect();
        let length = words.get(3).and_then(|span| length(span.of(buffer), LONGEST_LENGTH));
        let (Some(length), true) = (length, words.len() >= least) else {
            self.searched = 0;
            return Ok(Some((data, Request::Fatal(if words.len() < least { "ERROR\r\n" } else { BAD_LINE }))));
        };
        if length > self.longest_value {
            let silent = noreply(buffer, &words[least..]).is_some();
            return Ok(Some((data, self.too_large(words[0], length, silent, buffer.starts_with(b"set ")))));
        }
        self.with_data(
            buffer,
            words[0],
            data,
            length,
            |silenced| Request::Single { read: false, silenced },
            || noreply(buffer, &words[least..]),
        )
    }

    fn meta_set(&mut self, buffer: &[u8], words: Words<'_>, data: usize) -> Result<Option<(usize, Request)>, Broken> {
        let words: Vec<Span> = words.collect();
        let Some(length) = words.get(1).and_then(|span| length(span.of(buffer), LONGEST_LENGTH)) else {
            self.searched = 0;
            return Ok(Some((data, Request::Fatal(BAD_LINE))));
        };
        let flags = &words[2..];
        self.base64 = has_flag(buffer, flags, b"b");
        if length > self.longest_value {
            // Not even the quiet flag leaves this error out.
            return Ok(Some((data, self.too_large(words[0], length, false, true))));
        }
        let quiet = has_flag(buffer, flags, b"q");
        let request =
            |silenced| if quiet { Request::Quiet { read: false } } else { Request::Single { read: false, silenced } };
        self.with_data(buffer, words[0], data, length, request, || None)
    }

    /// A value that is not waited for. A key that is none has no old value.
    fn too_large(&mut self, key: Span, length: usize, silent: bool, stale: bool) -> Request {
        self.searched = 0;
        let stale = stale && !too_long(&key);
        self.keys.push(key);
        Request::TooLarge { data: length + 2, silent, stale }
    }

    /// Waits for the data behind the line.
    fn with_data(
        &mut self,
        buffer: &[u8],
        key: Span,
        data: usize,
        length: usize,
        request: impl FnOnce(Option<Span>) -> Request,
        silenced: impl FnOnce() -> Option<Span>,
    ) -> Result<Option<(usize, Request)>, Broken> {
        let end = data + length;
        if buffer.len() < end + 2 {
            return Ok(None);
        }
        self.searched = 0;
        if &buffer[end..end + 2] != b"\r\n" {
            return Ok(Some((end, Request::Fatal("CLIENT_ERROR bad data chunk\r\n"))));
        }
        if too_long(&key) {
            return Ok(Some((end + 2, Request::Answered(BAD_LINE))));
        }
        self.keys.push(key);
        Ok(Some((end + 2, request(silenced()))))
    }

    fn meta(&mut self, buffer: &[u8], words: Words<'_>, read: bool) -> Request {
        let words: Vec<Span> = words.collect();
        match words.split_first() {
            None => Request::Answered("ERROR\r\n"),
            Some((key, _)) if too_long(key) => Request::Answered(BAD_LINE),
            Some((&key, flags)) => {
                self.keys.push(key);
                self.base64 = has_flag(buffer, flags, b"b");
                // A miss may store, a hit may touch.
                let read =
                    read && !flags.iter().any(|flag| matches!(flag.of(buffer).first(), Some(b'N' | b'T' | b'R')));
                if has_flag(buffer, flags, b"q") {
                    Request::Quiet { read }
                } else {
                    Request::Single { read, silenced: None }
                }
            }
        }
    }
}

/// Where a reply ends.
#[derive(Clone, Debug, Default)]
pub struct ReplyScanner {
    at: usize,
}

/// A reader of a reply whose bytes are passed on as they come: it needs none that it has seen.
#[derive(Clone, Debug)]
pub struct Passing {
    ends: Ends,
    /// Bytes of a value still to come, with the end of its line.
    value: usize,
    /// The reply ends with that value.
    last: bool,
}

/// How the end of a reply is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// By its own form.
    Itself,
    /// By the `MN` of the `mn` that was sent behind the request.
    AtNoop,
}

impl ReplyScanner {
    /// Looks for the end of the reply at the start of `buffer`; its length once it is whole, and then begins anew.
    ///
    /// # Errors
    /// When the bytes are no reply.
    pub fn scan(&mut self, buffer: &[u8], ends: Ends) -> Result<Option<usize>, Broken> {
        loop {
            let Some((end, line)) = Line::at(buffer, self.at, ends)? else { return Ok(None) };
            let (mut next, mut whole) = (end, line == Line::Last);
            if let Line::Value { length, last } = line {
                next += length;
                whole = last;
                if buffer.len() < next {
                    return Ok(None);
                }
                if &buffer[next - 2..next] != b"\r\n" {
                    return Err(VALUE_END);
                }
            }
            self.at = next;
            if whole {
                self.at = 0;
                return Ok(Some(next));
            }
        }
    }

    /// Begins to pass on the reply that is being read, from its start.
    pub fn pass(&mut self, ends: Ends) -> Passing {
        self.at = 0;
        Passing { ends, value: 0, last: false }
    }
}

impl Passing {
    /// How many bytes at the start of `buffer` can be passed on, and whether the reply ends with them. Its last line is
    /// among the last bytes as a whole.
    ///
    /// # Errors
    /// When the bytes are no reply.
    pub fn advance(&mut self, buffer: &[u8]) -> Result<(usize, bool), Broken> {
        let mut at = 0;
        loop {
            while self.value > 0 {
                let Some(byte) = buffer.get(at) else { return Ok((at, false)) };
                match self.value {
                    2 if *byte != b'\r' => return Err(VALUE_END),
                    1 if *byte != b'\n' => return Err(VALUE_END),
                    _ => {}
                }
                let step = if self.value > 2 { (self.value - 2).min(buffer.len() - at) } else { 1 };
                (at, self.value) = (at + step, self.value - step);
            }
            if self.last {
                return Ok((at, true));
            }
            let Some((end, line)) = Line::at(buffer, at, self.ends)? else { return Ok((at, false)) };
            at = end;
            match line {
                Line::Value { length, last } => (self.value, self.last) = (length, last),
                Line::Last => return Ok((at, true)),
                Line::Other => {}
            }
        }
    }
}

const VALUE_END: Broken = Broken("a value of a reply does not end where it should");

/// A line of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// A value follows, of so many bytes with the end of its line; whether the reply ends with it.
    Value { length: usize, last: bool },
    /// The reply ends with it.
    Last,
    /// More follows.
    Other,
}

impl Line {
    /// The line at a place and where it ends, if it is whole.
    fn at(buffer: &[u8], at: usize, ends: Ends) -> Result<Option<(usize, Self)>, Broken> {
        let rest = &buffer[at..];
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return if rest.len() > LONGEST_LINE { Err(Broken("a line of a reply is too long")) } else { Ok(None) };
        };
        if end == 0 || rest[end - 1] != b'\r' {
            return Err(Broken("a line of a reply does not end in CR LF"));
        }
        let line = &rest[..end - 1];
        let (value, classic) = if let Some(words) = line.strip_prefix(b"VALUE ") {
            (words.split(|&byte| byte == b' ').nth(2), true)
        } else if let Some(words) = line.strip_prefix(b"VA ") {
            (words.split(|&byte| byte == b' ').next(), false)
        } else {
            let last = ends == Ends::Itself || line == b"MN";
            return Ok(Some((at + end + 1, if last { Self::Last } else { Self::Other })));
        };
        let length =
            value.and_then(|digits| length(digits, LONGEST_VALUE)).ok_or(Broken("a value of a reply has no length"))?
                + 2;
        // A meta command's own value is its whole answer.
        let last = !classic && ends == Ends::Itself;
        Ok(Some((at + end + 1, Self::Value { length, last })))
    }
}

/// The values of a retrieval's reply, without its `END`; `None` when it is an error.
#[must_use]
pub fn values(reply: &[u8]) -> Option<&[u8]> {
    reply.strip_suffix(b"END\r\n").filter(|values| values.is_empty() || values.starts_with(b"VALUE "))
}

fn too_long(key: &Span) -> bool {
    key.end - key.start > LONGEST_KEY
}

/// A length in decimal digits, and no more than so much.
fn length(digits: &[u8], most: usize) -> Option<usize> {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|&length| length <= most)
}

/// The word `noreply`, with the space before it, when it comes last.
fn noreply(buffer: &[u8], words: &[Span]) -> Option<Span> {
    words.last().filter(|span| span.of(buffer) == b"noreply").map(|span| Span { start: span.start - 1, end: span.end })
}

fn has_flag(buffer: &[u8], flags: &[Span], flag: &[u8]) -> bool {
    flags.iter().any(|span| span.of(buffer) == flag)
}

/// Words between spaces.
struct Words<'b> {
    line: &'b [u8],
    at: usize,
}

impl Iterator for Words<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let start = self.at + self.line[self.at..].iter().position(|&byte| byte != b' ')?;
        let end = memchr::memchr(b' ', &self.line[start..]).map_or(self.line.len(), |length| start + length);
        self.at = end;
        Some(Span { start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(usize, Request, Vec<&str>)> {
        let mut parser = RequestParser::default();
        let (length, request) = parser.parse(text.as_bytes()).unwrap()?;
        Some((length, request, parser.keys.iter().map(|span| &text[span.start..span.end]).collect()))
    }

    #[test]
    fn requests_are_told_apart() {
        let single = |silenced| Request::Single { read: false, silenced };
        for (text, request, keys) in [
            ("get a\r\n", Request::Retrieve { prefix: Span { start: 0, end: 3 }, touches: false }, vec!["a"]),
            (
                "gets a  b c\r\n",
                Request::Retrieve { prefix: Span { start: 0, end: 4 }, touches: false },
                vec!["a", "b", "c"],
            ),
            ("gat 10 a b\r\n", Request::Retrieve { prefix: Span { start: 0, end: 6 }, touches: true }, vec!["a", "b"]),
            ("set a 0 0 5\r\nhe\r\no\r\n", single(None), vec!["a"]),
            ("set a 0 0 1 noreply\r\nx\r\n", single(Some(Span { start: 11, end: 19 })), vec!["a"]),
            ("cas a 0 0 1 77 noreply\r\nx\r\n", single(Some(Span { start: 14, end: 22 })), vec!["a"]),
            ("delete a\r\n", single(None), vec!["a"]),
            ("delete a noreply\r\n", single(Some(Span { start: 8, end: 16 })), vec!["a"]),
            ("incr a 2\n", single(None), vec!["a"]),
            ("mg a v t\r\n", Request::Single { read: true, silenced: None }, vec!["a"]),
            ("mg a q v\r\n", Request::Quiet { read: true }, vec!["a"]),
            ("mg a T30\r\n", Request::Single { read: false, silenced: None }, vec!["a"]),
            ("ms a 2 c\r\nxx\r\n", single(None), vec!["a"]),
            ("ms a 2 q\r\nxx\r\n", Request::Quiet { read: false }, vec!["a"]),
            ("mn\r\n", Request::Answered("MN\r\n"), vec![]),
            ("quit\r\n", Request::Quit, vec![]),
            ("version\r\n", Request::Any, vec![]),
            ("verbosity 1\r\n", Request::Answered("OK\r\n"), vec![]),
            ("verbosity\r\n", Request::Answered("ERROR\r\n"), vec![]),
            ("stats noreply\r\n", Request::Answered("ERROR\r\n"), vec![]),
            ("verbosity 1 noreply\r\n", Request::Answered(""), vec![]),
            ("verbosity noreply\r\n", Request::Answered(""), vec![]),
            ("verbosity 1 2\r\n", Request::Answered("OK\r\n"), vec![]),
            ("verbosity 1 2 3\r\n", Request::Answered("ERROR\r\n"), vec![]),
            ("verbosity loud\r\n", Request::Answered(BAD_LINE), vec![]),
            ("verbosity 4294967296\r\n", Request::Answered(BAD_LINE), vec![]),
            ("flush_all\r\n", Request::All { silenced: None }, vec![]),
            ("flush_all 5 noreply\r\n", Request::All { silenced: Some(Span { start: 11, end: 19 }) }, vec![]),
            ("stats\r\n", Request::Stats, vec![]),
            ("stats slabs\r\n", Request::Answered("ERROR\r\n"), vec![]),
            ("\r\n", Request::Answered("ERROR\r\n"), vec![]),
            ("get\r\n", Request::Answered("ERROR\r\n"), vec![]),
        ] {
            assert_eq!(read(text), Some((text.len(), request, keys)), "{text:?}");
            assert_eq!(read(&text[..text.len() - 1]), None, "{text:?} cut short");
        }
    }

    #[test]
    fn what_cannot_be_told_from_data_ends_the_connection() {
        for text in [
            "set a 0 0 -1\r\n",
            "set a 0 0\r\n",
            "ms a S2\r\nxx\r\n",
            "set a 0 0 2\r\nxxx\r\n",
            "set a 0 0 9999999999\r\n",
        ] {
            assert!(matches!(read(text), Some((_, Request::Fatal(_), _))), "{text:?}");
        }
        let long = format!("set {} 0 0 1\r\nx\r\n", "k".repeat(251));
        assert_eq!(read(&long), Some((long.len(), Request::Answered(BAD_LINE), vec![])));
        assert!(RequestParser::default().parse(&vec![b'a'; LONGEST_LINE + 1]).is_err());
    }

    #[test]
    fn a_value_beyond_the_limit_is_told_by_its_line_alone() {
        let mut parser = RequestParser { longest_value: 3, ..RequestParser::default() };
        for (text, data, silent, stale) in [
            ("set a 0 0 4\r\n", 6, false, true),
            ("set a 0 0 2147483645 noreply\r\n", 2_147_483_647, true, true),
            ("add a 0 0 4\r\n", 6, false, false),
            ("cas a 0 0 4 9 noreply\r\n", 6, true, false),
            ("ms a 4 q\r\n", 6, false, true),
        ] {
            let request = Request::TooLarge { data, silent, stale };
            assert_eq!(parser.parse(text.as_bytes()).unwrap(), Some((text.len(), request)), "{text:?}");
            assert_eq!(parser.keys[0].of(text.as_bytes()), b"a");
        }
        let fits = "set a 0 0 3\r\nabc\r\n";
        assert!(matches!(parser.parse(fits.as_bytes()).unwrap(), Some((_, Request::Single { .. }))));
    }

    #[test]
    fn a_reply_ends_by_its_own_form_or_at_the_noop() {
        for (reply, ends) in [
            ("END\r\n", Ends::Itself),
            ("VALUE a 0 3\r\nx\r\n\r\nVALUE b 0 5 77\r\nEND\r\n\r\nEND\r\n", Ends::Itself),
            ("STORED\r\n", Ends::Itself),
            ("SERVER_ERROR out of memory\r\n", Ends::Itself),
            ("VA 2 t-1\r\nHD\r\n", Ends::Itself),
            ("MN\r\n", Ends::AtNoop),
            ("VA 4\r\nMN\r\n\r\nMN\r\n", Ends::AtNoop),
            ("NS\r\nMN\r\n", Ends::AtNoop),
        ] {
            let bytes = format!("{reply}STORED\r\n").into_bytes();
            for first in 0..bytes.len() {
                let mut scanner = ReplyScanner::default();
                let length = match scanner.scan(&bytes[..first], ends).unwrap() {
                    Some(length) => length,
                    None => scanner.scan(&bytes, ends).unwrap().unwrap(),
                };
                assert_eq!(length, reply.len(), "{reply:?} cut at {first}");
            }
        }
        for broken in ["STORED\n", "VALUE a 0\r\n", "VA x\r\n", "VALUE a 0 2\r\nabc\r\n"] {
            assert!(ReplyScanner::default().scan(broken.as_bytes(), Ends::Itself).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_reply_that_is_passed_on_ends_where_it_ends_however_it_comes() {
        for (reply, ends) in [
            ("VALUE a 0 3\r\nx\r\n\r\nVALUE b 0 5 77\r\nEND\r\n\r\nEND\r\n", Ends::Itself),
            ("VA 2 t-1\r\nHD\r\n", Ends::Itself),
            ("VA 4\r\nMN\r\n\r\nMN\r\n", Ends::AtNoop),
            ("SERVER_ERROR out of memory\r\n", Ends::Itself),
        ] {
            let bytes = format!("{reply}STORED\r\n").into_bytes();
            for size in 1..=bytes.len() {
                let mut passing = ReplyScanner::default().pass(ends);
                let (mut passed, mut input, mut last) = (0, Vec::new(), Vec::new());
                for chunk in bytes.chunks(size) {
                    input.extend_from_slice(chunk);
                    let (length, whole) = passing.advance(&input).unwrap();
                    passed += length;
                    last = input.drain(..length).collect();
                    if whole {
                        break;
                    }
                }
                assert_eq!(passed, reply.len(), "{reply:?} in pieces of {size}");
                assert!(ends == Ends::Itself || last.ends_with(b"MN\r\n"), "its last line is whole");
            }
        }
        let broken = |text: &str| ReplyScanner::default().pass(Ends::Itself).advance(text.as_bytes()).is_err();
        assert!(broken("VALUE a 0 1\r\nxyz") && broken("VALUE a 0 1\r\nx\rz") && broken("STORED\n"));
    }

    #[test]
    fn values_are_what_comes_before_the_end() {
        assert_eq!(values(b"VALUE a 0 1\r\nx\r\nEND\r\n"), Some(b"VALUE a 0 1\r\nx\r\n".as_slice()));
        assert_eq!(values(b"END\r\n"), Some(b"".as_slice()));
        assert_eq!(values(b"SERVER_ERROR x\r\n"), None);
    }
}
