//! What of a program's file is needed to run it. Read by the build, too, which embeds the small binary.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// The part of an ELF program that the kernel loads, which is its beginning, and its length: symbols and debug information
/// come after it. What is no such program is taken as it is.
///
/// # Errors
/// The disk's.
pub fn loaded_part<F: Read + Seek>(mut file: F) -> io::Result<(u64, impl Read)> {
    const HEADER: usize = 64;
    let whole = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut header = Vec::new();
    file.by_ref().take(HEADER as u64).read_to_end(&mut header)?;
    // 64-bit, little-endian.
    if header.len() < HEADER || header[..6] != [0x7f, b'E', b'L', b'F', 2, 1] {
        let rest = whole - header.len() as u64;
        return Ok((whole, Cursor::new(header).chain(file.take(rest))));
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let (table, entry, count) = (number(&header[32..40]), number(&header[54..56]), number(&header[56..58]));
    let mut programs = vec![0; usize::try_from(entry * count).map_err(io::Error::other)?];
    file.seek(SeekFrom::Start(table))?;
    file.read_exact(&mut programs)?;
    let ends = programs.chunks_exact(entry.max(56) as usize).map(|p| number(&p[8..16]) + number(&p[32..40]));
    let end = ends.chain([table + entry * count, HEADER as u64]).max().unwrap_or(whole).min(whole);
    // No table of sections any more: where it is, how many there are, which one has their names.
    header[40..48].fill(0);
    header[60..64].fill(0);
    file.seek(SeekFrom::Start(HEADER as u64))?;
    Ok((end, Cursor::new(header).chain(file.take(end - HEADER as u64))))
}
