//! Writing a pack and its index (gitformat-pack, versions 2 of both). Every object is whole: one commit's files have
//! little in common.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use flate2::{Compression, Crc, write::ZlibEncoder};

use super::object::{Kind, Oid};

/// The first offset that an index's table of four bytes an object cannot hold.
const FAR: u64 = 1 << 31;

/// A pack that is being written.
pub(crate) struct PackWriter {
    file: Counted,
    /// Identity, checksum of what is written, place.
    places: Vec<(Oid, u32, u64)>,
}

impl PackWriter {
    /// Begins one in a new file.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o444).open(path)?;
        let mut file = Counted { file: BufWriter::new(file), written: 0, crc: Crc::new() };
        // How many there are is not known yet.
        file.write_all(b"PACK\0\0\0\x02\0\0\0\0")?;
        Ok(Self { file, places: Vec::new() })
    }

    /// Adds an object, which must not be there already.
    pub fn add(&mut self, oid: Oid, kind: Kind, data: &[u8]) -> io::Result<()> {
        let place = self.file.written;
        self.file.crc.reset();
        let kind = match kind {
            Kind::Commit => 1,
            Kind::Tree => 2,
            Kind::Blob => 3,
            Kind::Tag => 4,
        };
        let (mut rest, mut head) = (data.len() >> 4, vec![kind << 4 | (data.len() & 0xf) as u8]);
        while rest > 0 {
            *head.last_mut().expect("a first byte") |= 0x80;
            head.push((rest & 0x7f) as u8);
            rest >>= 7;
        }
        self.file.write_all(&head)?;
        let mut encoder = ZlibEncoder::new(&mut self.file, Compression::default());
        encoder.write_all(data)?;
        encoder.finish()?;
        self.places.push((oid, self.file.crc.sum(), place));
        Ok(())
    }

    /// Ends it, and writes its index. Answers the pack's checksum, which names both.
    pub fn finish(mut self, index: &Path) -> io::Result<Oid> {
        self.file.flush()?;
        let mut file = self.file.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(8))?;
        let count = u32::try_from(self.places.len()).map_err(io::Error::other)?;
        file.write_all(&count.to_be_bytes())?;
        let sum = checksum_of(&mut file)?;
        file.write_all(&sum.0)?;
        self.places.sort_unstable();
        write_index(&self.places, &sum, index)?;
        Ok(sum)
    }
}

/// Everything that is in a file; it stands at its end afterwards.
fn checksum_of(file: &mut File) -> io::Result<Oid> {
    file.rewind()?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest(context)),
            read => context.update(&buffer[..read]),
        }
    }
}

fn digest(context: ring::digest::Context) -> Oid {
    let mut oid = [0; 20];
    oid.copy_from_slice(context.finish().as_ref());
    Oid(oid)
}

fn write_index(places: &[(Oid, u32, u64)], pack: &Oid, path: &Path) -> io::Result<()> {
    let mut bytes = b"\xfftOc\0\0\0\x02".to_vec();
    for first in 0..=u8::MAX {
        let so_far = places.partition_point(|(oid, ..)| oid.0[0] <= first);
        bytes.extend((so_far as u32).to_be_bytes());
    }
    bytes.extend(places.iter().flat_map(|(oid, ..)| oid.0));
    bytes.extend(places.iter().flat_map(|(_, crc, _)| crc.to_be_bytes()));
    let mut far: Vec<u64> = Vec::new();
    for (.., place) in places {
        let told = match *place < FAR {
            true => *place as u32,
            false => {
                far.push(*place);
                (far.len() as u32 - 1) | FAR as u32
            }
        };
        bytes.extend(told.to_be_bytes());
    }
    bytes.extend(far.into_iter().flat_map(u64::to_be_bytes));
    bytes.extend(pack.0);
    write_with_checksum(path, bytes, 0o444)
}

/// Writes a new file that ends with the checksum of what stands before, as an index of either kind does.
pub(crate) fn write_with_checksum(path: &Path, mut bytes: Vec<u8>, mode: u32) -> io::Result<()> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(&bytes);
    bytes.extend(digest(context).0);
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(&bytes))
}

/// A file that knows how much was written, and the checksum of the last piece.
struct Counted {
    file: BufWriter<File>,
    written: u64,
    crc: Crc,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.crc.update(&bytes[..written]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
