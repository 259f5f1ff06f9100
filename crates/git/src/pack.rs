//! A pack: all objects of a commit in one file (gitformat-pack). The file stays on disk; of each object its place is kept.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::FileExt,
};

use flate2::{Decompress, FlushDecompress, Status};

use super::{
    delta::{DeltaError, apply},
    object::{Hash, Kind, Oid},
};

/// The largest object that is taken, in bytes.
const MOST: usize = 512 << 20;
/// The longest chain of deltas; git itself makes 50, at most 4095.
const LONGEST_CHAIN: usize = 4096;
/// Bytes of objects that are kept because others may be told as pieces of them.
const CACHE: usize = 16 << 20;

/// A pack that cannot be used. A retry may help if it came damaged.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The file cannot be read.
    #[error("the pack cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not a pack of version 2, or it is damaged.
    #[error("the pack is damaged: {0}")]
    Damaged(&'static str),
    /// A delta does not fit.
    #[error("the pack is damaged: {0}")]
    Delta(#[from] DeltaError),
    /// An object is larger than is taken.
    #[error("an object of {0} bytes is too large")]
    TooLarge(u64),
    /// An object that another names is not there.
    #[error("object {0} is missing from the pack")]
    Missing(Oid),
}

/// Where objects are had from.
pub trait Objects {
    /// An object of a kind that is expected.
    ///
    /// # Errors
    /// If it is not there, or something else.
    fn object(&mut self, oid: &Oid, expected: Kind) -> Result<Vec<u8>, PackError>;
}

impl Objects for Pack {
    fn object(&mut self, oid: &Oid, expected: Kind) -> Result<Vec<u8>, PackError> {
        Self::object(self, oid, expected)
    }
}

/// A pack's objects by identity.
pub struct Pack {
    file: File,
    places: HashMap<Oid, u64>,
    cache: HashMap<u64, (Kind, Vec<u8>)>,
    cached: usize,
}

enum Told {
    Whole(Kind),
    ByOffset(u64),
    ByOid(Oid),
}

struct Head {
    told: Told,
    size: u64,
    /// Where the compressed bytes begin.
    data: u64,
}

impl Pack {
    /// Reads a pack through: every object is unpacked once, and known by the identity of what it unpacked to.
    ///
    /// # Errors
    /// If the pack is damaged or not complete in itself.
    pub fn read(file: File) -> Result<Self, PackError> {
        let mut pack = Self { file, places: HashMap::new(), cache: HashMap::new(), cached: 0 };
        let waiting = pack.scan()?;
        pack.resolve(waiting)?;
        Ok(pack)
    }

    /// A pack whose index tells where its objects are: the index is believed, so the identity of what comes out must be
    /// judged.
    ///
    /// # Errors
    /// If the index is none of version 2.
    pub fn indexed(file: File, index: &[u8]) -> Result<Self, PackError> {
        let places = places(index).ok_or(PackError::Damaged("its index is damaged, or not of version 2"))?;
        Ok(Self { file, places, cache: HashMap::new(), cached: 0 })
    }

    /// Whether an object is there.
    #[must_use]
    pub fn has(&self, oid: &Oid) -> bool {
        self.places.contains_key(oid)
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// An object of a kind that is expected.
    ///
    /// # Errors
    /// If it is not there, or something else.
    pub fn object(&mut self, oid: &Oid, expected: Kind) -> Result<Vec<u8>, PackError> {
        let place = *self.places.get(oid).ok_or(PackError::Missing(*oid))?;
        let (kind, data) = self.at(place)?;
        if kind == expected {
            Ok(data)
        } else {
            Err(PackError::Damaged("an object is of another kind than its name says"))
        }
    }

    /// Goes through the file from front to back. Returns the places of the deltas.
    fn scan(&mut self) -> Result<Vec<(u64, Told)>, PackError> {
        let length = self.file.metadata()?.len();
        if length < 32 {
            return Err(PackError::Damaged("it is too short"));
        }
        self.check_trailer(length)?;
        let mut reader = Counted { inner: BufReader::with_capacity(64 << 10, &self.file), at: 0 };
        let mut header = [0; 12];
        io::Seek::rewind(&mut &self.file)?;
        reader.read_exact(&mut header)?;
        if &header[..8] != b"PACK\0\0\0\x02" {
            return Err(PackError::Damaged("it is not a pack of version 2"));
        }
        let count = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        let (mut waiting, mut places) = (Vec::new(), HashMap::new());
        let mut inflater = Decompress::new(true);
        for _ in 0..count {
            let place = reader.at;
            if place >= length - 20 {
                return Err(PackError::Damaged("it holds fewer objects than it says"));
            }
            let head = head(place, |buffer, _| reader.read_exact(buffer))?;
            let mut hash = if let Told::Whole(kind) = head.told { Some(Hash::begin(kind, head.size)) } else { None };
            inflater.reset(true);
            let size = inflate_through(&mut reader, &mut inflater, head.size, |piece| {
                if let Some(hash) = &mut hash {
                    hash.update(piece);
                }
            })?;
            if size != head.size {
                return Err(PackError::Damaged("an object has another size than it says"));
            }
            match hash {
                Some(hash) => {
                    places.insert(hash.finish(), place);
                }
                None => waiting.push((place, head.told)),
            }
        }
        if reader.at != length - 20 {
            return Err(PackError::Damaged("it goes on after its last object"));
        }
        self.places = places;
        Ok(waiting)
    }

    fn check_trailer(&self, length: u64) -> Result<(), PackError> {
        let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
        let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
        while at < length - 20 {
            let wanted = usize::try_from(length - 20 - at).unwrap_or(usize::MAX).min(buffer.len());
            self.file.read_exact_at(&mut buffer[..wanted], at)?;
            context.update(&buffer[..wanted]);
            at += wanted as u64;
        }
        let mut trailer = [0; 20];
        self.file.read_exact_at(&mut trailer, length - 20)?;
        if context.finish().as_ref() == trailer { Ok(()) } else { Err(PackError::Damaged("its checksum is wrong")) }
    }

    /// Finds the identities of the deltas, as their bases become known.
    fn resolve(&mut self, mut waiting: Vec<(u64, Told)>) -> Result<(), PackError> {
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut later = Vec::new();
            for (place, told) in waiting {
                let known = if let Told::ByOid(oid) = &told { self.places.contains_key(oid) } else { true };
                match known.then(|| self.at(place)) {
                    Some(Ok((kind, data))) => {
                        self.places.insert(Oid::of(kind, &data), place);
                    }
                    // Further down its chain a base is not known yet.
                    Some(Err(PackError::Missing(_))) | None => later.push((place, told)),
                    Some(Err(error)) => return Err(error),
                }
            }
            if later.len() == before {
                return Err(PackError::Damaged("a delta's base is missing"));
            }
            waiting = later;
        }
        Ok(())
    }

    /// The object at a place, put together from its chain of deltas.
    fn at(&mut self, place: u64) -> Result<(Kind, Vec<u8>), PackError> {
        let (mut place, mut deltas) = (place, Vec::new());
        let (kind, mut data) = loop {
            if let Some((kind, data)) = self.cache.get(&place) {
                break (*kind, data.clone());
            }
            let file = &self.file;
            let head = head(place, |buffer, at| file.read_exact_at(buffer, at))?;
            let data = self.inflate_at(&head)?;
            let base = match head.told {
                Told::Whole(kind) => {
                    self.keep(place, kind, &data);
                    break (kind, data);
                }
                Told::ByOffset(base) => base,
                Told::ByOid(oid) => *self.places.get(&oid).ok_or(PackError::Missing(oid))?,
            };
            deltas.push((place, data));
            if deltas.len() > LONGEST_CHAIN {
                return Err(PackError::Damaged("a chain of deltas has no end"));
            }
            place = base;
        };
        while let Some((place, delta)) = deltas.pop() {
            data = apply(&data, &delta, MOST)?;
            self.keep(place, kind, &data);
        }
        Ok((kind, data))
    }

    fn keep(&mut self, place: u64, kind: Kind, data: &[u8]) {
        if data.len() > CACHE / 4 {
            return;
        }
        if self.cached + data.len() > CACHE {
            self.cache.clear();
            self.cached = 0;
        }
        self.cached += data.len();
        self.cache.insert(place, (kind, data.to_vec()));
    }

    fn inflate_at(&self, head: &Head) -> Result<Vec<u8>, PackError> {
        let mut data = Vec::with_capacity(usize::try_from(head.size).unwrap_or(0).min(1 << 20));
        let mut reader = Counted { inner: BufReader::with_capacity(8 << 10, At(&self.file, head.data)), at: 0 };
        inflate_through(&mut reader, &mut Decompress::new(true), head.size, |piece| data.extend_from_slice(piece))?;
        Ok(data)
    }
}

/// The table of an index: a fan-out of 256 counts, then identities, checksums, places, and places beyond 2 GiB.
fn places(index: &[u8]) -> Option<HashMap<Oid, u64>> {
    let number = |at: usize| index.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    index.starts_with(b"\xfftOc\0\0\0\x02").then_some(())?;
    let count = number(8 + 255 * 4)? as usize;
    let oids: usize = 8 + 256 * 4;
    let small = oids.checked_add(count.checked_mul(24)?)?;
    let large = small.checked_add(count * 4)?;
    (index.len() >= large + 40).then_some(())?;
    let mut places = HashMap::with_capacity(count);
    for i in 0..count {
        let oid = Oid(index[oids + i * 20..][..20].try_into().ok()?);
        let place = match number(small + i * 4)? {
            place if place & 0x8000_0000 == 0 => u64::from(place),
            place => {
                let at = large + (place & 0x7fff_ffff) as usize * 8;
                u64::from_be_bytes(index.get(at..at + 8)?.try_into().ok()?)
            }
        };
        places.insert(oid, place);
    }
    Some(places)
}

/// Reads an object's head through something that reads so many bytes at a place.
fn head(place: u64, mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>) -> Result<Head, PackError> {
    let mut at = place;
    let mut byte = || {
        let mut one = [0];
        read(&mut one, at)?;
        at += 1;
        io::Result::Ok(one[0])
    };
    let first = byte()?;
    let kind = first >> 4 & 7;
    let (mut size, mut shift, mut more) = (u64::from(first & 0x0f), 4, first & 0x80 != 0);
    while more {
        let next = byte()?;
        if shift > 56 {
            return Err(PackError::Damaged("an object's size has no end"));
        }
        size |= u64::from(next & 0x7f) << shift;
        shift += 7;
        more = next & 0x80 != 0;
    }
    if size > MOST as u64 {
        return Err(PackError::TooLarge(size));
    }
    let told = match kind {
        1 => Told::Whole(Kind::Commit),
        2 => Told::Whole(Kind::Tree),
        3 => Told::Whole(Kind::Blob),
        4 => Told::Whole(Kind::Tag),
        6 => {
            // The highest seven bits first; each continuation adds one (gitformat-pack, "offset encoding").
            let mut next = byte()?;
            let mut back = u64::from(next & 0x7f);
            while next & 0x80 != 0 {
                next = byte()?;
                back = back.checked_add(1).and_then(|back| back.checked_mul(128)).unwrap_or(u64::MAX >> 1)
                    | u64::from(next & 0x7f);
                if back > place {
                    return Err(PackError::Damaged("a delta's base lies before the pack"));
                }
            }
            let base = place.checked_sub(back).filter(|_| back > 0);
            Told::ByOffset(base.ok_or(PackError::Damaged("a delta's base lies before the pack"))?)
        }
        7 => {
            let mut oid = [0; 20];
            for one in &mut oid {
                *one = byte()?;
            }
            Told::ByOid(Oid(oid))
        }
        _ => return Err(PackError::Damaged("an object of an unknown kind")),
    };
    Ok(Head { told, size, data: at })
}

/// Unpacks one object, handing out its pieces; returns its size. Never more than `most` bytes come out.
fn inflate_through(
    reader: &mut impl BufRead,
    inflater: &mut Decompress,
    most: u64,
    mut take: impl FnMut(&[u8]),
) -> Result<u64, PackError> {
    let mut piece = vec![0; 16 << 10];
    loop {
        let input = reader.fill_buf()?;
        let ended = input.is_empty();
        let (before_in, before_out) = (inflater.total_in(), inflater.total_out());
        let status = inflater
            .decompress(input, &mut piece, FlushDecompress::None)
            .map_err(|_| PackError::Damaged("an object cannot be unpacked"))?;
        let read = usize::try_from(inflater.total_in() - before_in).unwrap_or(0);
        let written = usize::try_from(inflater.total_out() - before_out).unwrap_or(0);
        reader.consume(read);
        if inflater.total_out() > most {
            return Err(PackError::Damaged("an object is larger than it says"));
        }
        take(&piece[..written]);
        match status {
            Status::StreamEnd => return Ok(inflater.total_out()),
            _ if ended && written == 0 => return Err(PackError::Damaged("an object is cut off")),
            _ => {}
        }
    }
}

/// A reader that knows how far it is.
struct Counted<R> {
    inner: BufReader<R>,
    at: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: Read> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount as u64;
        self.inner.consume(amount);
    }
}

/// A file read from a place on, without moving anyone else's.
struct At<'a>(&'a File, u64);

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(buffer, self.1)?;
        self.1 += read as u64;
        Ok(read)
    }
}
