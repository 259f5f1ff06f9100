//! RESP2 and RESP3 (the Redis serialization protocol): where a request ends and where its arguments are, where a reply ends.

mod replies;

use super::{Broken, Span};

pub use replies::{Passing, ReplyScanner, elements, integer};

/// Most arguments of a request, as in Redis.
pub const MOST_ARGUMENTS: i64 = 1024 * 1024;
/// Longest bulk string, as Redis' default `proto-max-bulk-len`.
pub const LONGEST_BULK: i64 = 512 * 1024 * 1024;
/// Longest inline request, as in Redis.
pub const LONGEST_INLINE: usize = 64 * 1024;
/// Longest line that announces a number.
const LONGEST_NUMBER: usize = 32;
/// Longest request as a whole.
const LONGEST_REQUEST: usize = 1 << 30;

/// How large a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most arguments.
    pub arguments: i64,
    /// Longest argument.
    pub bulk: i64,
}

impl Limits {
    /// Redis' own.
    pub const USUAL: Limits = Limits { arguments: MOST_ARGUMENTS, bulk: LONGEST_BULK };
    /// Redis' own for clients that have not given their password yet.
    pub const UNAUTHENTICATED: Limits = Limits { arguments: 10, bulk: 16 * 1024 };
}

/// A reader of requests that goes on where it stopped.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// The arguments read so far, the command first.
    pub arguments: Vec<Span>,
    wanted: usize,
    at: usize,
    inside: bool,
    /// Whether the request was a line of words rather than an array.
    pub inline: bool,
}

impl RequestParser {
    /// Whether a request has begun.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.inside
    }

    /// Reads one request from the start of `buffer`, which holds all bytes since the last request. Returns its length; then
    /// [`arguments`](Self::arguments) are its parts until [`next`](Self::next) is called. A request may have none.
    ///
    /// # Errors
    /// When the bytes are no request or one larger than `limits`.
    pub fn parse(&mut self, buffer: &[u8], limits: Limits) -> Result<Option<usize>, Broken> {
        if !self.inside {
            match buffer.first() {
                None => return Ok(None),
                Some(b'*') => {}
                Some(_) => return self.parse_inline(buffer),
            }
            let Some((count, at)) = number(buffer, 1)? else { return Ok(None) };
            if count > limits.arguments {
                return Err(Broken("invalid multibulk length"));
            }
            self.inside = true;
            self.wanted = usize::try_from(count).unwrap_or(0);
            self.at = at;
        }
        while self.arguments.len() < self.wanted {
            match buffer.get(self.at) {
                None => return Ok(None),
                Some(b'$') => {}
                Some(_) => return Err(Broken("expected '$'")),
            }
            let Some((length, start)) = number(buffer, self.at + 1)? else { return Ok(None) };
            if !(0..=limits.bulk).contains(&length) {
                return Err(Broken("invalid bulk length"));
            }
            let end = start + usize::try_from(length).map_err(|_| Broken("invalid bulk length"))?;
            if end > LONGEST_REQUEST {
                return Err(Broken("the request is too long"));
            }
            if buffer.len() < end + 2 {
                return Ok(None);
            }
            if &buffer[end..end + 2] != b"\r\n" {
                return Err(Broken("a bulk string does not end where it should"));
            }
            self.arguments.push(Span { start, end });
            self.at = end + 2;
        }
        Ok(Some(self.at))
    }

    fn parse_inline(&mut self, buffer: &[u8]) -> Result<Option<usize>, Broken> {
        let Some(end) = memchr::memchr(b'\n', &buffer[..buffer.len().min(LONGEST_INLINE)]) else {
            return if buffer.len() >= LONGEST_INLINE { Err(Broken("too big inline request")) } else { Ok(None) };
        };
        let mut start = None;
        for (at, byte) in buffer[..=end].iter().enumerate() {
            if byte.is_ascii_whitespace() {
                if let Some(start) = start.take() {
                    self.arguments.push(Span { start, end: at });
                }
            } else {
                start.get_or_insert(at);
            }
        }
        self.inside = true;
        self.inline = true;
        Ok(Some(end + 1))
    }

    /// Stops in the middle of a request whose rest others read: how many bytes of it are read, and how it goes on.
    pub fn give_up(&mut self) -> Option<(usize, Rest)> {
        let arguments = self.wanted.checked_sub(self.arguments.len()).filter(|_| self.inside && !self.inline)?;
        let read = self.at;
        self.next();
        Some((read, Rest { arguments, bulk: 0 }))
    }

    /// Forgets the request that was read, for the one after it.
    pub fn next(&mut self) {
        self.arguments.clear();
        self.inside = false;
        self.inline = false;
    }
}

/// What is still to come of a request, read without keeping any of it.
#[derive(Debug)]
pub struct Rest {
    /// Arguments that are not whole yet.
    arguments: usize,
    /// Bytes of the one that has begun, with the CR LF after it.
    bulk: usize,
}

impl Rest {
    /// Goes on reading: how many bytes of `buffer` belong to the request, and whether it is whole with them. The next call
    /// gets the others again, with those behind them.
    ///
    /// # Errors
    /// When the bytes are no request, or one with an argument larger than Redis takes.
    pub fn advance(&mut self, buffer: &[u8]) -> Result<(usize, bool), Broken> {
        let mut at = 0;
        while self.arguments > 0 {
            if self.bulk == 0 {
                match buffer.get(at) {
                    None => break,
                    Some(b'$') => {}
                    Some(_) => return Err(Broken("expected '$'")),
                }
                let Some((length, start)) = number(buffer, at + 1)? else { break };
                if !(0..=LONGEST_BULK).contains(&length) {
                    return Err(Broken("invalid bulk length"));
                }
                self.bulk = usize::try_from(length).map_err(|_| Broken("invalid bulk length"))? + 2;
                at = start;
            }
            let here = &buffer[at..buffer.len().min(at + self.bulk)];
            for (left, end) in [(2, b'\r'), (1, b'\n')] {
                if self.bulk.checked_sub(left).and_then(|before| here.get(before)).is_some_and(|&byte| byte != end) {
                    return Err(Broken("a bulk string does not end where it should"));
                }
            }
            at += here.len();
            self.bulk -= here.len();
            if self.bulk > 0 {
                break;
            }
            self.arguments -= 1;
        }
        Ok((at, self.arguments == 0))
    }
}

/// Appends a bulk string.
pub fn write_bulk(out: &mut Vec<u8>, text: &[u8]) {
    write_header(out, b'$', text.len());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// Appends `kind`, a number and the end of the line.
pub fn write_header(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The number that stands from `at` to the end of the line, and where the next line begins.
fn number(buffer: &[u8], at: usize) -> Result<Option<(i64, usize)>, Broken> {
    let rest = buffer.get(at..).unwrap_or_default();
    let (negative, digits) = match rest.first() {
        Some(b'-') => (true, &rest[1..]),
        _ => (false, rest),
    };
    let mut value = 0i64;
    for (index, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                let digit = i64::from(byte - b'0');
                value = value
                    .checked_mul(10)
                    .and_then(|value| value.checked_add(digit))
                    .ok_or(Broken("a number is too large"))?;
            }
            b'\r' if index > 0 => {
                let end = at + usize::from(negative) + index;
                return match buffer.get(end + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((if negative { -value } else { value }, end + 2))),
                    Some(_) => Err(Broken("a line does not end in CR LF")),
                };
            }
            _ => return Err(Broken("a number was expected")),
        }
        if index > LONGEST_NUMBER {
            return Err(Broken("a number is too long"));
        }
    }
    Ok(None)
}

/// Where the line from `at` on ends, past its CR LF.
fn line_end(buffer: &[u8], at: usize) -> Result<Option<usize>, Broken> {
    match memchr::memchr(b'\n', &buffer[at..]) {
        Some(length) if length > 0 && buffer[at + length - 1] == b'\r' => Ok(Some(at + length + 1)),
        Some(_) => Err(Broken("a line does not end in CR LF")),
        None if buffer.len() - at > LONGEST_INLINE => Err(Broken("a line of a reply is too long")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Vec<String>>, Broken> {
        let mut parser = RequestParser::default();
        Ok(parser.parse(bytes, Limits::USUAL)?.map(|_| {
            parser.arguments.iter().map(|span| String::from_utf8_lossy(span.of(bytes)).into_owned()).collect()
        }))
    }

    #[test]
    fn a_request_is_read_however_it_arrives_in_pieces() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n*1\r\n$4\r\nPING\r\n";
        for first in 0..bytes.len() {
            let mut parser = RequestParser::default();
            let length = match parser.parse(&bytes[..first], Limits::USUAL).unwrap() {
                Some(length) => length,
                None => parser.parse(bytes, Limits::USUAL).unwrap().unwrap(),
            };
            assert_eq!(length, 30);
            let arguments: Vec<_> = parser.arguments.iter().map(|span| span.of(bytes)).collect();
            assert_eq!(arguments, [b"SET".as_slice(), b"k", b"\r\n\r\n"]);
            parser.next();
            assert_eq!(parser.parse(&bytes[30..], Limits::USUAL).unwrap(), Some(14));
        }
    }

    #[test]
    fn the_rest_of_a_request_is_read_without_keeping_it_however_it_arrives_in_pieces() {
        let bytes = b"*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n$0\r\n\r\n$2\r\nab\r\n*1\r\n$4\r\nPING\r\n";
        let whole = bytes.len() - 14;
        for first in 21..whole {
            for step in 1..whole {
                let mut parser = RequestParser::default();
                assert_eq!(parser.parse(&bytes[..first], Limits::USUAL).unwrap(), None);
                let (mut read, mut rest) = parser.give_up().unwrap();
                let mut end = first;
                loop {
                    let (taken, over) = rest.advance(&bytes[read..end]).unwrap();
                    read += taken;
                    if over {
                        break;
                    }
                    assert!(end < bytes.len(), "cut at {first} by {step}");
                    end = bytes.len().min(end + step);
                }
                assert_eq!(read, whole, "cut at {first} by {step}");
            }
        }
        let rest = || Rest { arguments: 2, bulk: 0 };
        for broken in [":1\r\n", "$-1\r\n", "$536870913\r\n", "$1\r\nab\n", "$1\r\na\rb", "$1\r\na\r\n:", "$\r\n"] {
            assert!(rest().advance(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn lines_of_words_are_requests_too() {
        assert_eq!(read(b"SET  key value\r\n").unwrap().unwrap(), ["SET", "key", "value"]);
        assert_eq!(read(b"\r\n").unwrap().unwrap(), Vec::<String>::new());
        assert_eq!(read(b"PING").unwrap(), None);
        assert!(read(&vec![b'a'; LONGEST_INLINE]).is_err());
    }

    #[test]
    fn what_is_no_request_is_refused_before_anything_is_reserved_for_it() {
        for broken in [
            b"*1048577\r\n".as_slice(),
            b"*99999999999999999999999\r\n",
            b"*x\r\n",
            b"*1\r\n:5\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$536870913\r\n",
            b"*1\r\n$4\r\nPINGxx",
            b"*1\r\n*1\r\n",
            b"*1\rx",
            b"*\r\n",
        ] {
            assert!(read(broken).is_err(), "{}", String::from_utf8_lossy(broken));
        }
        // Announced, not sent: waited for in the little memory that has arrived.
        assert_eq!(read(b"*1048576\r\n$536870912\r\nabc").unwrap(), None);
        let mut parser = RequestParser::default();
        assert!(parser.parse(b"*2\r\n$3\r\nSET\r\n$20000\r\n", Limits::UNAUTHENTICATED).is_err());
    }

    #[test]
    fn a_reply_ends_where_its_last_element_ends() {
        for reply in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":12\r\n",
            "$5\r\nhello\r\n",
            "$-1\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*2\r\n$1\r\na\r\n*2\r\n:1\r\n*1\r\n$-1\r\n",
            "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n",
            "|1\r\n+ttl\r\n:3600\r\n*1\r\n#t\r\n",
            "~2\r\n,1.5\r\n(123456789012345678901234567890\r\n",
            "=7\r\ntxt:abc\r\n",
            "!5\r\nERR x\r\n",
            ">2\r\n+message\r\n+x\r\n",
        ] {
            let bytes = format!("{reply}+NEXT\r\n").into_bytes();
            for first in 0..bytes.len() {
                let mut scanner = ReplyScanner::default();
                let length = match scanner.scan(&bytes[..first]).unwrap() {
                    Some(length) => length,
                    None => scanner.scan(&bytes).unwrap().unwrap(),
                };
                assert_eq!(length, reply.len(), "{reply:?} cut at {first}");
                let mut scanner = ReplyScanner::default();
                if scanner.scan(&bytes[..first]).unwrap().is_some() {
                    continue;
                }
                let (mut passed, mut passing) = scanner.pass();
                for end in first..=bytes.len() {
                    let (length, whole) = passing.advance(&bytes[passed..end]).unwrap();
                    passed += length;
                    if whole {
                        break;
                    }
                }
                assert_eq!(passed, reply.len(), "{reply:?} passed on from {first}");
            }
        }
        let mut passing = ReplyScanner::default().pass().1;
        assert_eq!(passing.advance(b"$3\r\nab").unwrap(), (6, false));
        assert!(passing.advance(b"cde\r\n").is_err(), "its end is looked at, too");
        for broken in ["hello\r\n", "$3\r\nabcde\r\n", "*4294967296\r\n", "+OK\n", ":\r\r\n\n"] {
            let said = ReplyScanner::default().scan(broken.as_bytes());
            assert!(said.is_err() || broken.starts_with(':'), "{broken:?}: {said:?}");
        }
    }

    #[test]
    fn nesting_costs_no_memory() {
        let deep = b"*1\r\n".repeat(1_000_000);
        let mut scanner = ReplyScanner::default();
        assert_eq!(scanner.scan(&deep).unwrap(), None);
        let mut whole = deep;
        whole.extend(b":1\r\n");
        assert_eq!(scanner.scan(&whole).unwrap(), Some(whole.len()));
    }

    #[test]
    fn the_elements_of_an_array_are_cut_out_whole() {
        let reply = b"*3\r\n$1\r\na\r\n$-1\r\n*1\r\n:1\r\n";
        let cut: Vec<_> = elements(reply).unwrap().iter().map(|span| span.of(reply)).collect();
        assert_eq!(cut, [b"$1\r\na\r\n".as_slice(), b"$-1\r\n", b"*1\r\n:1\r\n"]);
        assert_eq!(elements(b"+OK\r\n"), None);
        assert_eq!(integer(b":-42\r\n"), Some(-42));
        assert_eq!(integer(b"+OK\r\n"), None);
    }
}
