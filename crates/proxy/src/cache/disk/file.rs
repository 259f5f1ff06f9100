//! A stored response as a file. Whatever is not exactly what was written is not read: a file that was torn by a crash, or
//! that rotted, has another length or another checksum.
//!
//! `MAGIC`, the lengths of head and body, the checksums of both, the head, the body; numbers are little-endian.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::cache::freshness::Lifetime;
use crate::cache::{Entry, Key};
use crate::http1::Response;

const MAGIC: &[u8; 8] = b"HYTHEC01";
const PREAMBLE: usize = 8 + 4 + 8 + 4 + 4;
/// No head is longer: the proxy refuses such.
const HEAD: usize = 4 << 20;

/// Why a file is no stored response.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It is gone, or the disk fails.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("it is torn, or of another version")]
    Torn,
}

/// How long the file of an entry is.
pub(super) fn length(key: &[u8], entry: &Entry) -> u64 {
    (PREAMBLE + head_length(key, entry) + entry.body.len()) as u64
}

/// Writes an entry into a new file.
pub(super) fn write(path: &Path, key: &[u8], entry: &Entry) -> io::Result<()> {
    let mut head = Vec::with_capacity(head_length(key, entry));
    encode(&mut head, key, entry);
    let mut preamble = Vec::with_capacity(PREAMBLE);
    preamble.extend_from_slice(MAGIC);
    preamble.extend_from_slice(&(head.len() as u32).to_le_bytes());
    preamble.extend_from_slice(&(entry.body.len() as u64).to_le_bytes());
    preamble.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    preamble.extend_from_slice(&crc32fast::hash(&entry.body).to_le_bytes());
    let mut file = File::create_new(path)?;
    let mut parts = [IoSlice::new(&preamble), IoSlice::new(&head), IoSlice::new(&entry.body)];
    let mut rest = &mut parts[..];
    while !rest.is_empty() {
        let written = file.write_vectored(rest)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// Reads an entry, checked as a whole.
pub(super) fn read(path: &Path) -> Result<(Key, Entry), ReadError> {
    let bytes = Bytes::from(std::fs::read(path)?);
    let lengths = Lengths::of(bytes.get(..PREAMBLE).ok_or(ReadError::Torn)?).ok_or(ReadError::Torn)?;
    if bytes.len() as u64 != lengths.file() {
        return Err(ReadError::Torn);
    }
    let body = bytes.slice(PREAMBLE + lengths.head..);
    let head = &bytes[PREAMBLE..PREAMBLE + lengths.head];
    if crc32fast::hash(head) != lengths.head_sum || crc32fast::hash(&body) != lengths.body_sum {
        return Err(ReadError::Torn);
    }
    let (key, mut entry) = decode(head).ok_or(ReadError::Torn)?;
    entry.body = body;
    Ok((key, entry))
}

/// Reads the head alone, and looks whether the file is as long as it says. Returns its length too.
pub(super) fn read_head(path: &Path) -> Result<(Key, Entry, u64), ReadError> {
    let mut file = File::open(path)?;
    let mut preamble = [0; PREAMBLE];
    let whole = |result: io::Result<()>| {
        result.map_err(|e| if e.kind() == io::ErrorKind::UnexpectedEof { ReadError::Torn } else { ReadError::Io(e) })
    };
    whole(file.read_exact(&mut preamble))?;
    let lengths = Lengths::of(&preamble).ok_or(ReadError::Torn)?;
    let length = file.metadata()?.len();
    if length != lengths.file() {
        return Err(ReadError::Torn);
    }
    let mut head = vec![0; lengths.head];
    whole(file.read_exact(&mut head))?;
    if crc32fast::hash(&head) != lengths.head_sum {
        return Err(ReadError::Torn);
    }
    let (key, entry) = decode(&head).ok_or(ReadError::Torn)?;
    Ok((key, entry, length))
}

struct Lengths {
    head: usize,
    body: u64,
    head_sum: u32,
    body_sum: u32,
}

impl Lengths {
    fn of(preamble: &[u8]) -> Option<Self> {
        let mut input = Input(preamble.strip_prefix(MAGIC)?);
        let (head, body) = (input.u32()? as usize, input.u64()?);
        (head <= HEAD).then_some(())?;
        Some(Self { head, body, head_sum: input.u32()?, body_sum: input.u32()? })
    }

    fn file(&self) -> u64 {
        (PREAMBLE as u64 + self.head as u64).saturating_add(self.body)
    }
}

fn head_length(key: &[u8], entry: &Entry) -> usize {
    let mut length = 4 + key.len() + 2 + 8 + 8 * 4 + 1 + 4 * 3;
    length += entry.vary.iter().map(|(n, v)| 4 + n.len() + 1 + v.as_ref().map_or(0, |v| 4 + v.len())).sum::<usize>();
    length += entry.tags.iter().map(|t| 4 + t.len()).sum::<usize>();
    length +=
        entry.fields.iter().map(|f| 8 + f.name.of(&entry.text).len() + f.value.of(&entry.text).len()).sum::<usize>();
    length
}

fn encode(out: &mut Vec<u8>, key: &[u8], entry: &Entry) {
    let Lifetime { initial_age, fresh, stale_while_revalidate, stale_if_error, always, must_revalidate } =
        entry.lifetime;
    put(out, key);
    out.extend_from_slice(&entry.status.to_le_bytes());
    for number in [entry.stored, initial_age, fresh, stale_while_revalidate, stale_if_error] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.push(u8::from(always) | u8::from(must_revalidate) << 1);
    count(out, entry.vary.len());
    for (name, value) in &entry.vary {
        put(out, name.as_bytes());
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put(out, value);
        }
    }
    count(out, entry.tags.len());
    for tag in &entry.tags {
        put(out, tag.as_bytes());
    }
    count(out, entry.fields.len());
    for field in &entry.fields {
        put(out, field.name.of(&entry.text));
        put(out, field.value.of(&entry.text));
    }
}

fn count(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&(number as u32).to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    count(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn decode(head: &[u8]) -> Option<(Key, Entry)> {
    let mut input = Input(head);
    let key: Key = Arc::from(input.bytes()?);
    let status = input.u16()?;
    let stored = input.u64()?;
    let mut lifetime = Lifetime {
        initial_age: input.u64()?,
        fresh: input.u64()?,
        stale_while_revalidate: input.u64()?,
        stale_if_error: input.u64()?,
        ..Lifetime::default()
    };
    let flags = input.take(1)?[0];
    (lifetime.always, lifetime.must_revalidate) = (flags & 1 != 0, flags & 2 != 0);
    let mut vary = Vec::new();
    for _ in 0..input.u32()? {
        let name = String::from_utf8(input.bytes()?.to_vec()).ok()?;
        let value = if input.take(1)?[0] == 1 { Some(input.bytes()?.to_vec()) } else { None };
        vary.push((name, value));
    }
    let mut tags = Vec::new();
    for _ in 0..input.u32()? {
        tags.push(String::from_utf8(input.bytes()?.to_vec()).ok()?);
    }
    let mut fields = Response::default();
    for _ in 0..input.u32()? {
        let name = input.bytes()?;
        fields.push_field(name, input.bytes()?);
    }
    let entry =
        Entry { status, text: fields.text, fields: fields.fields, body: Bytes::new(), lifetime, stored, vary, tags };
    input.0.is_empty().then_some((key, entry))
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Key, Entry) {
        let mut fields = Response::default();
        fields.push_field(b"ETag", b"\"v1\"");
        fields.push_field(b"x-empty", b"");
        let entry = Entry {
            status: 203,
            text: fields.text,
            fields: fields.fields,
            body: Bytes::from_static(b"a body of some bytes"),
            lifetime: Lifetime { initial_age: 1, fresh: 2, always: true, stale_if_error: 3, ..Default::default() },
            stored: 1_700_000_000_000,
            vary: vec![("accept".into(), Some(b"a,b".to_vec())), ("x".into(), None)],
            tags: vec!["red".into()],
        };
        (Arc::from(&b"phost /path"[..]), entry)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1");
        let (key, entry) = sample();
        write(&path, &key, &entry).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length(&key, &entry));
        let (read_key, read_entry) = read(&path).unwrap();
        assert_eq!((&read_key, format!("{read_entry:?}")), (&key, format!("{entry:?}")));
        let (read_key, head, size) = read_head(&path).unwrap();
        assert_eq!((read_key, head.tags, size), (key.clone(), entry.tags.clone(), length(&key, &entry)));
        assert!(write(&path, &key, &entry).is_err(), "no file is written twice");
    }

    #[test]
    fn no_file_with_any_byte_missing_or_changed_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1");
        let (key, entry) = sample();
        write(&path, &key, &entry).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path).is_err() && read_head(&path).is_err(), "torn at {length}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            std::fs::write(&path, &changed).unwrap();
            assert!(read(&path).is_err(), "changed at {at}");
        }
        std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(read(&path).is_err() && read_head(&path).is_err(), "too long");
        // As a file system leaves it whose journal had the length but not the data.
        std::fs::write(&path, vec![0; whole.len()]).unwrap();
        assert!(read(&path).is_err() && read_head(&path).is_err());
    }
}
