//! Name/value blocks: one zlib stream in each direction for the whole connection.

use flate2::{Decompress, FlushDecompress, Status};

use super::dictionary;

/// Names in lower case with their values, in order.
pub type Headers = Vec<(String, String)>;

/// The value of a name.
pub fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

/// A decompressed block may be this long.
const LIMIT: usize = 64 << 10;

/// Reads blocks. The stream's own header is taken off and the dictionary put in its window by a stored block, so
/// that a plain inflater serves.
pub struct Decoder {
    inflate: Decompress,
    begun: bool,
}

impl Decoder {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self { inflate: Decompress::new(false), begun: false }
    }

    /// The headers of one block.
    pub fn decode(&mut self, block: &[u8]) -> Result<Headers, &'static str> {
        let mut input = block;
        if !self.begun {
            let [_, flags, a, b, c, d, rest @ ..] = input else { return Err("a header block without a zlib header") };
            if flags & 0x20 == 0 || u32::from_be_bytes([*a, *b, *c, *d]) != dictionary::ID {
                return Err("a header block compressed with another dictionary");
            }
            input = rest;
            self.begun = true;
            self.inflate(&stored(&dictionary::bytes()))?;
        }
        parse(&self.inflate(input)?)
    }

    fn inflate(&mut self, input: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::with_capacity(input.len() * 4 + 1024);
        let mut rest = input;
        loop {
            if out.len() == out.capacity() {
                out.reserve(4096);
            }
            let (read, wrote) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress_vec(rest, &mut out, FlushDecompress::Sync)
                .map_err(|_| "a damaged header block")?;
            let read = usize::try_from(self.inflate.total_in() - read).unwrap_or(rest.len());
            rest = &rest[read..];
            if out.len() > LIMIT {
                return Err("a header block that is too long");
            }
            let stuck = read == 0 && self.inflate.total_out() == wrote;
            if status == Status::StreamEnd || stuck || (rest.is_empty() && out.len() < out.capacity()) {
                return Ok(out);
            }
        }
    }
}

/// Writes blocks, stored rather than compressed: they are few and short.
#[derive(Default)]
pub struct Encoder {
    begun: bool,
}

impl Encoder {
    /// One block.
    pub fn encode(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = Vec::new();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
        plain.extend_from_slice(&number(headers.len()));
        for (name, value) in headers {
            for text in [name.to_ascii_lowercase().as_bytes(), value.as_bytes()] {
                plain.extend_from_slice(&number(text.len()));
                plain.extend_from_slice(text);
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 16);
        if !std::mem::replace(&mut self.begun, true) {
            // Deflate with a 32 KiB window, a preset dictionary, and the check bits that make it divisible by 31.
            out.extend_from_slice(&[0x78, 0x20 + check(0x78, 0x20)]);
            out.extend_from_slice(&dictionary::ID.to_be_bytes());
        }
        out.extend_from_slice(&stored(&plain));
        // An empty block at the end: inflaters hand out what they have when they see it (zlib's sync flush).
        out.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        out
    }
}

fn check(method: u8, flags: u8) -> u8 {
    let rest = (u16::from(method) * 256 + u16::from(flags)) % 31;
    u8::try_from((31 - rest) % 31).unwrap_or_default()
}

/// Stored blocks of deflate (RFC 1951, 3.2.4), not the last ones.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 5);
    for chunk in bytes.chunks(usize::from(u16::MAX)) {
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    out
}

fn parse(mut plain: &[u8]) -> Result<Headers, &'static str> {
    let short = "a header block that ends early";
    let number = |plain: &mut &[u8]| -> Result<usize, &'static str> {
        let (head, rest) = plain.split_at_checked(4).ok_or(short)?;
        *plain = rest;
        Ok(u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize)
    };
    let count = number(&mut plain)?;
    let mut out = Headers::new();
    for _ in 0..count {
        let mut text = || -> Result<String, &'static str> {
            let length = number(&mut plain)?;
            let (head, rest) = plain.split_at_checked(length).ok_or(short)?;
            plain = rest;
            Ok(String::from_utf8_lossy(head).into_owned())
        };
        out.push((text()?, text()?));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_over_several_blocks() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new());
        for round in 0..3 {
            let headers =
                vec![("streamtype".to_owned(), format!("stdin{round}")), ("port".to_owned(), "80".to_owned())];
            assert_eq!(decoder.decode(&encoder.encode(&headers)), Ok(headers));
        }
    }

    #[test]
    fn a_compressor_that_refers_to_the_dictionary_is_understood() {
        // Written by zlib's compressor with the dictionary (two blocks of one stream, each flushed).
        let blocks = ZLIB_BLOCKS.map(unhex);
        let mut decoder = Decoder::new();
        let first = decoder.decode(&blocks[0]).expect("headers");
        assert_eq!(
            first,
            [("content-type", "text/html,image/png"), ("streamtype", "error")]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
        );
        let second = decoder.decode(&blocks[1]).expect("headers");
        assert_eq!(value(&second, "StreamType"), Some("stdout"));
    }

    #[test]
    fn a_small_block_that_grows_without_end_is_refused() {
        let mut deflate = flate2::Compress::new(flate2::Compression::best(), false);
        let mut small = Vec::with_capacity(64 << 10);
        let plain = vec![0; 16 << 20];
        deflate.compress_vec(&plain, &mut small, flate2::FlushCompress::Sync).expect("compressed");
        assert!(small.len() < 32 << 10);
        let mut decoder = Decoder::new();
        decoder.decode(&Encoder::default().encode(&Headers::new())).expect("begun");
        assert_eq!(decoder.decode(&small), Err("a header block that is too long"));
    }

    #[test]
    fn damaged_blocks_are_refused() {
        assert!(Decoder::new().decode(b"").is_err());
        assert!(Decoder::new().decode(&[0x78, 0x9c, 0, 0, 0, 0, 1]).is_err());
        let mut cut = Encoder::default().encode(&vec![("a".to_owned(), "b".to_owned())]);
        cut.truncate(cut.len() - 7);
        assert!(Decoder::new().decode(&cut).is_err());
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
    }

    const ZLIB_BLOCKS: [&str; 2] = [
        "78bbe3c6a7c202e50e2c858930163f81936349516a622e54116b2a283e00000000ffff",
        "02321831a480693e25bfb404000000ffff",
    ];
}
