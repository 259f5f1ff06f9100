//! Chunked bodies (RFC 9112 section 7.1), decoded as they pass.

use super::head::{Broken, Field, parse_trailers};

/// Longest line of a chunk: its size and extensions, which are read over.
const LINE: usize = 256;
/// Trailers together.
const TRAILERS: usize = 8 << 10;

/// Where in a chunked body the reader is.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// What stands at the beginning of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be said before more input is there.
    More,
    /// Framing of so many bytes, which are of no further interest.
    Skip(usize),
    /// So many bytes of the body; tell by `took` how many were consumed.
    Data(usize),
    /// The end: so many bytes, which hold the trailers.
    End(usize),
}

impl Chunked {
    /// Looks at the input. Steps are repeated until `End`.
    ///
    /// # Errors
    /// When the framing is broken: then nothing on the connection can be trusted any more.
    pub fn step(&mut self, input: &[u8], trailers: &mut Vec<Field>) -> Result<Step, Broken> {
        match self.state {
            State::Size => {
                let Some(end) = memchr::memchr(b'\n', input) else {
                    return if input.len() > LINE {
                        Err(Broken::Malformed("a chunk's size line is too long"))
                    } else {
                        Ok(Step::More)
                    };
                };
                if end > LINE {
                    return Err(Broken::Malformed("a chunk's size line is too long"));
                }
                let size = read_size(&input[..end])?;
                self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                Ok(Step::Skip(end + 1))
            }
            State::Data(_) if input.is_empty() => Ok(Step::More),
            State::Data(left) => Ok(Step::Data(usize::try_from(left).unwrap_or(usize::MAX).min(input.len()))),
            State::DataEnd => match input {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(Step::Skip(2))
                }
                [] | [b'\r'] => Ok(Step::More),
                _ => Err(Broken::Malformed("a chunk is longer than its size")),
            },
            State::Trailers => match parse_trailers(input, trailers, TRAILERS)? {
                Some(end) => {
                    self.state = State::Done;
                    Ok(Step::End(end))
                }
                None if input.len() > TRAILERS => Err(Broken::TooLarge),
                None => Ok(Step::More),
            },
            State::Done => Ok(Step::End(0)),
        }
    }

    /// So many bytes of the data that `step` offered were consumed.
    pub fn took(&mut self, bytes: usize) {
        if let State::Data(left) = &mut self.state {
            *left -= bytes as u64;
            if *left == 0 {
                self.state = State::DataEnd;
            }
        }
    }
}

/// `SIZE [; extensions] CR`.
fn read_size(line: &[u8]) -> Result<u64, Broken> {
    let bad = Broken::Malformed("a chunk's size is broken");
    let line = line.strip_suffix(b"\r").ok_or(bad)?;
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits == 0 || digits > 15 {
        return Err(bad);
    }
    match &line[digits..] {
        [] => {}
        // Extensions have no meaning here; whatever could be taken for a line's end is refused.
        [b';' | b' ' | b'\t', rest @ ..] if rest.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f)) => {
            let first = line[digits..].iter().find(|b| !matches!(b, b' ' | b'\t'));
            if first != Some(&b';') {
                return Err(bad);
            }
        }
        _ => return Err(bad),
    }
    Ok(line[..digits]
        .iter()
        .fold(0u64, |size, digit| size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes input that arrives in pieces of one size.
    fn decode(input: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, Broken> {
        let (mut decoder, mut trailers) = (Chunked::default(), Vec::new());
        let (mut at, mut visible, mut out) = (0, 0, Vec::new());
        loop {
            match decoder.step(&input[at..visible], &mut trailers)? {
                Step::More if visible == input.len() => return Ok(None),
                Step::More => visible = (visible + piece).min(input.len()),
                Step::Skip(n) => at += n,
                Step::Data(n) => {
                    out.extend_from_slice(&input[at..at + n]);
                    decoder.took(n);
                    at += n;
                }
                Step::End(n) => return Ok(Some((out, at + n))),
            }
        }
    }

    #[test]
    fn chunks_are_the_same_however_they_arrive() {
        let input = b"5\r\nhello\r\n1;name=\"v\"\r\n,\r\n006 ; x\r\n world\r\n0\r\nDigest: x\r\n\r\nGET /";
        for piece in 1..input.len() {
            assert_eq!(decode(input, piece).unwrap().unwrap(), (b"hello, world".to_vec(), input.len() - 5), "{piece}");
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for input in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"5\r\nhelloX\n0\r\n\r\n",
            b"-5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5 5\r\nhello\r\n",
            b"\r\n",
            b"fffffffffffffffff\r\n",
            b"5;a\rb\r\nhello\r\n",
            b"0\r\nbad trailer\r\n\r\n",
            b"0\r\n folded: x\r\n\r\n",
        ] {
            assert!(decode(input, 1).is_err(), "{:?}", String::from_utf8_lossy(input));
        }
    }
}
