//! Replies: where they end, however they nest, and what is in them.

use super::{LONGEST_BULK, line_end, number};
use crate::protocol::{Broken, Span};

/// A reader of replies that goes on where it stopped, however they nest.
#[derive(Clone, Debug)]
pub struct ReplyScanner {
    /// Elements still to come before the reply is whole.
    missing: u64,
    at: usize,
}

impl Default for ReplyScanner {
    fn default() -> Self {
        ReplyScanner { missing: 1, at: 0 }
    }
}

impl ReplyScanner {
    /// Looks for the end of the reply at the start of `buffer`; its length once it is whole, and then begins anew.
    ///
    /// # Errors
    /// When the bytes are no reply.
    pub fn scan(&mut self, buffer: &[u8]) -> Result<Option<usize>, Broken> {
        while self.missing > 0 {
            let end = match Token::at(buffer, self.at)? {
                None => return Ok(None),
                Some(token @ (Token::Line(end) | Token::Many { start: end, .. })) => {
                    self.missing = token.missing(self.missing)?;
                    end
                }
                Some(token @ Token::Bulk { start, length }) => {
                    let end = start + length;
                    if buffer.len() < end {
                        return Ok(None);
                    }
                    if &buffer[end - 2..end] != b"\r\n" {
                        return Err(BULK_END);
                    }
                    self.missing = token.missing(self.missing)?;
                    end
                }
            };
            self.at = end;
        }
        let length = self.at;
        *self = ReplyScanner::default();
        Ok(Some(length))
    }

    /// Begins to pass on the reply that is being read: how many of its bytes are read, and who reads the others.
    pub fn pass(&mut self) -> (usize, Passing) {
        let ReplyScanner { missing, at } = std::mem::take(self);
        (at, Passing { missing, bulk: 0 })
    }
}

/// A reader of a reply whose bytes are passed on as they come: it needs none that it has seen.
#[derive(Clone, Debug)]
pub struct Passing {
    /// Elements still to come before the reply is whole.
    missing: u64,
    /// Bytes of a bulk string still to come, with the end of its line.
    bulk: usize,
}

impl Passing {
    /// How many bytes at the start of `buffer` can be passed on, and whether the reply ends with them.
    ///
    /// # Errors
    /// When the bytes are no reply.
    pub fn advance(&mut self, buffer: &[u8]) -> Result<(usize, bool), Broken> {
        let mut at = 0;
        loop {
            if self.bulk > 0 {
                let here = self.bulk.min(buffer.len() - at);
                let left = self.bulk - here;
                let ends = [(2, b'\r'), (1, b'\n')];
                let broken = |(place, byte): &(usize, u8)| {
                    (left < *place && *place <= self.bulk) && buffer[at + self.bulk - place] != *byte
                };
                if ends.iter().any(broken) {
                    return Err(BULK_END);
                }
                (at, self.bulk) = (at + here, left);
                if left > 0 {
                    return Ok((at, false));
                }
                self.missing -= 1;
            }
            if self.missing == 0 {
                return Ok((at, true));
            }
            match Token::at(buffer, at)? {
                None => return Ok((at, false)),
                Some(Token::Bulk { start, length }) => (at, self.bulk) = (start, length),
                Some(token @ (Token::Line(end) | Token::Many { start: end, .. })) => {
                    self.missing = token.missing(self.missing)?;
                    at = end;
                }
            }
        }
    }
}

const BULK_END: Broken = Broken("a bulk string of a reply does not end where it should");

/// What stands at a place in a reply.
#[derive(Clone, Copy, Debug)]
enum Token {
    /// An element of one line, up to here; a bulk string that is none, too.
    Line(usize),
    /// A bulk string: where its text begins, and how long that is with the end of its line.
    Bulk { start: usize, length: usize },
    /// The beginning of what has elements; whether it is an element itself: what an attribute describes still follows it.
    Many { start: usize, elements: u64, itself: bool },
}

impl Token {
    fn at(buffer: &[u8], at: usize) -> Result<Option<Self>, Broken> {
        let Some(&kind) = buffer.get(at) else { return Ok(None) };
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Ok(line_end(buffer, at + 1)?.map(Self::Line)),
            b'$' | b'=' | b'!' => {
                let Some((length, start)) = number(buffer, at + 1)? else { return Ok(None) };
                if length > LONGEST_BULK {
                    return Err(Broken("invalid bulk length in a reply"));
                }
                Ok(Some(match usize::try_from(length) {
                    Ok(length) => Self::Bulk { start, length: length + 2 },
                    Err(_) => Self::Line(start),
                }))
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let Some((count, start)) = number(buffer, at + 1)? else { return Ok(None) };
                let count = u64::try_from(count).unwrap_or(0);
                let elements = if matches!(kind, b'%' | b'|') { count.saturating_mul(2) } else { count };
                Ok(Some(Self::Many { start, elements, itself: kind != b'|' }))
            }
            _ => Err(Broken("a reply begins with an unknown byte")),
        }
    }

    /// How many elements are missing after it, when so many were before.
    fn missing(self, before: u64) -> Result<u64, Broken> {
        let Self::Many { elements, itself, .. } = self else { return Ok(before - 1) };
        (before - u64::from(itself))
            .checked_add(elements)
            .filter(|&missing| missing < u64::from(u32::MAX))
            .ok_or(Broken("too many elements in a reply"))
    }
}

/// The elements of an array reply, each whole; `None` when `reply` is not a whole array.
#[must_use]
pub fn elements(reply: &[u8]) -> Option<Vec<Span>> {
    if reply.first() != Some(&b'*') {
        return None;
    }
    let (count, mut start) = number(reply, 1).ok()??;
    let mut spans = Vec::new();
    for _ in 0..count {
        let length = ReplyScanner::default().scan(&reply[start..]).ok()??;
        spans.push(Span { start, end: start + length });
        start += length;
    }
    Some(spans)
}

/// The number of an integer reply.
#[must_use]
pub fn integer(reply: &[u8]) -> Option<i64> {
    (reply.first() == Some(&b':')).then(|| number(reply, 1).ok().flatten()).flatten().map(|(number, _)| number)
}
