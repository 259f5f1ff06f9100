//! Bodies of files. Holes stay holes, in whichever of tar's ways they are written, and so do runs of zeros.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::invalid;

/// What PAX records of GNU tar say about a sparse file ("Storing Sparse Files", GNU tar manual, D.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    /// Its real name: the entry's is made up.
    pub name: Option<Vec<u8>>,
    /// Its length with holes.
    pub length: Option<u64>,
    /// Where pieces of data belong (offset, length): format 0.1 in the record, 1.0 at the beginning of the body.
    pub map: Option<Vec<(u64, u64)>>,
    /// Format 1.0.
    pub map_in_body: bool,
}

/// A map has no more pieces than this.
const MAX_PIECES: u64 = 1 << 20;

impl Sparse {
    /// Takes in one record; `false` if it is about something else.
    pub fn record(&mut self, key: &str, value: &[u8]) -> io::Result<bool> {
        let Some(key) = key.strip_prefix("GNU.sparse.") else { return Ok(false) };
        let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        match key {
            "name" => self.name = Some(value.to_vec()),
            "size" | "realsize" => {
                self.length = Some(number().ok_or_else(|| invalid("a sparse file's length is no number"))?);
            }
            "major" => self.map_in_body = value == b"1",
            "map" => {
                let text = std::str::from_utf8(value).map_err(|_| invalid("a sparse file's map is no text"))?;
                let numbers = text.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>();
                let numbers = numbers.map_err(|_| invalid("a sparse file's map has what is no number"))?;
                self.map = Some(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
            }
            // Format 0.0, which repeats these, was tar 1.14's alone.
            "offset" | "numbytes" => return Err(invalid("a sparse file in a format of 2004")),
            _ => {}
        }
        Ok(true)
    }

    /// Whether the body is one of pieces.
    pub fn is_sparse(&self) -> bool {
        self.map_in_body || self.map.is_some()
    }
}

/// Copies a body that is a file's content, zeros as holes; no longer than `most` (tar's own sparse entries have their
/// holes filled in by now).
pub(super) fn copy(body: &mut impl Read, file: &File, most: u64, buffer: &mut [u8]) -> io::Result<()> {
    let copied = copy_at(body, file, 0, most, buffer)?;
    // A hole at the end has to be made.
    if copied.written < copied.end { file.set_len(copied.end) } else { Ok(()) }
}

/// Copies a body that is a sparse file's pieces.
pub(super) fn copy_pieces(
    body: &mut impl Read,
    file: &File,
    sparse: &Sparse,
    most: u64,
    buffer: &mut [u8],
) -> io::Result<()> {
    let map = match &sparse.map {
        Some(map) if !sparse.map_in_body => map.clone(),
        _ => read_map(body)?,
    };
    let length = sparse.length.ok_or_else(|| invalid("a sparse file without a length"))?;
    if length > most {
        return Err(too_long());
    }
    let mut end = 0;
    for (offset, size) in map {
        let next = offset.checked_add(size).filter(|next| offset >= end && *next <= length);
        end = next.ok_or_else(|| invalid("a sparse file's pieces overlap or go beyond its end"))?;
        if copy_at(&mut body.take(size), file, offset, u64::MAX, buffer)?.end != end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    file.set_len(length)
}

/// How far a body went, as offsets of its file.
struct Copied {
    end: u64,
    /// Of the last byte that is not of a hole.
    written: u64,
}

/// Copies to an offset.
fn copy_at(body: &mut impl Read, file: &File, mut offset: u64, most: u64, buffer: &mut [u8]) -> io::Result<Copied> {
    let mut written = 0;
    loop {
        let n = body.read(buffer)?;
        if n == 0 {
            return Ok(Copied { end: offset, written });
        }
        if offset + n as u64 > most {
            return Err(too_long());
        }
        if buffer[..n].iter().any(|byte| *byte != 0) {
            file.write_all_at(&buffer[..n], offset)?;
            written = offset + n as u64;
        }
        offset += n as u64;
    }
}

/// The map of format 1.0: numbers, a line each, filled up to a block.
fn read_map(body: &mut impl Read) -> io::Result<Vec<(u64, u64)>> {
    let mut read = 0u64;
    let mut number = |body: &mut dyn Read| -> io::Result<u64> {
        let mut value: Option<u64> = None;
        loop {
            let mut byte = [0];
            body.read_exact(&mut byte)?;
            read += 1;
            match byte[0] {
                b'\n' => return value.ok_or_else(|| invalid("a sparse file's map has an empty line")),
                digit @ b'0'..=b'9' => {
                    let more = value.unwrap_or(0).checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0')));
                    value = Some(more.ok_or_else(|| invalid("a sparse file's map has too great a number"))?);
                }
                _ => return Err(invalid("a sparse file's map has what is no number")),
            }
        }
    };
    let count = number(body)?;
    if count > MAX_PIECES {
        return Err(invalid("a sparse file has too many pieces"));
    }
    let mut map = Vec::new();
    for _ in 0..count {
        map.push((number(body)?, number(body)?));
    }
    let padding = (512 - read % 512) % 512;
    io::copy(&mut body.take(padding), &mut io::sink())?;
    Ok(map)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "a file is larger than files may be")
}
