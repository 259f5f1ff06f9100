//! Archives that nobody means well with: a corpus kept in the repository (`tests/corpus/layers`), and mutations of it.
//!
//! `UPDATE_CORPUS=1 cargo nextest run -p engine -E 'test(corpus)'` writes the corpus anew from the descriptions below.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::*;

/// Small enough for many rounds; what honest layers may take is in [`Limits::default`].
fn limits() -> Limits {
    Limits { entries: 1_000, bytes: 1 << 20, file: 4 << 20, headers: 64 << 10, reserve: 1 << 20, reserve_share: 0 }
}

/// An archive in the making.
#[derive(Default)]
struct Maker(Vec<u8>);

impl Maker {
    fn header(kind: EntryType, name: &[u8], link: &[u8], size: u64) -> Header {
        let mut header = Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        gnu.linkname[..link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(size);
        header
    }

    fn raw(mut self, mut header: Header, body: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn add(self, kind: EntryType, name: &str, text: &str) -> Self {
        let link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let (target, body) = if link { (text, "") } else { ("", text) };
        self.raw(Self::header(kind, name.as_bytes(), target.as_bytes(), body.len() as u64), body.as_bytes())
    }

    fn file(self, name: &str, text: &str) -> Self {
        self.add(EntryType::Regular, name, text)
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, target)
    }

    fn device(self, kind: EntryType, name: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind, name.as_bytes(), b"", 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.raw(header, b"")
    }

    /// PAX records for the entry that follows.
    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + rest.to_string().len();
            if length.to_string().len() != rest.to_string().len() {
                length += 1;
            }
            body.extend(format!("{length} {key}=").bytes());
            body.extend(*value);
            body.push(b'\n');
        }
        let header = Self::header(EntryType::XHeader, b"pax", b"", body.len() as u64);
        self.raw(header, &body)
    }

    fn long(self, kind: EntryType, name: &[u8]) -> Self {
        let header = Self::header(kind, b"././@LongLink", b"", name.len() as u64);
        self.raw(header, name)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// What is to become of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Unpacked,
    Refused,
}

/// `VFS_CAP_REVISION_2` with CAP_NET_RAW permitted and effective (capabilities(7)).
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn corpus() -> Vec<(&'static str, Fate, Vec<u8>)> {
    use EntryType as T;
    use Fate::{Refused, Unpacked};
    let new = Maker::default;
    let deep = "a/".repeat(40);
    let mut sparse = Maker::header(T::GNUSparse, b"sparse", b"", 512);
    {
        let gnu = sparse.as_gnu_mut().unwrap();
        gnu.sparse[0].offset.copy_from_slice(b"00004000000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
        gnu.realsize.copy_from_slice(b"00004001000\0");
    }
    let mut endless = Maker::header(T::GNUSparse, b"endless", b"", 0);
    {
        // All of it one hole.
        let gnu = endless.as_gnu_mut().unwrap();
        gnu.sparse[0].offset.copy_from_slice(b"77777777777\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
        gnu.realsize.copy_from_slice(b"77777777777\0");
    }
    let mut tall = new();
    for level in 0..12 {
        // Each link leads to the end of the one before, so that names stay short while directories go deep.
        let at = if level == 0 { String::new() } else { format!("l{}/", level - 1) };
        tall = tall.file(&format!("{at}{deep}f"), "x").link(&format!("l{level}"), &format!("{at}{}", &deep[..79]));
    }
    let whole = new().add(T::Directory, "d", "").file("d/f", &"x".repeat(3000)).end();
    let mut flipped = whole.clone();
    flipped[600] ^= 0xff;
    vec![
        ("absolute-path", Unpacked, new().file("/hythe-escaped", "x").end()),
        ("parent-path", Refused, new().file("../victim/file", "x").end()),
        ("parent-in-the-middle", Refused, new().file("a/../../victim/file", "x").end()),
        ("parent-in-pax", Refused, new().pax(&[("path", b"../victim/file")]).file("f", "x").end()),
        ("parent-in-long-name", Refused, new().long(T::GNULongName, b"../victim/file\0").file("f", "x").end()),
        ("parent-in-sparse-name", Refused, new().pax(&[("GNU.sparse.name", b"../victim/file")]).file("f", "x").end()),
        ("link-up-then-through", Refused, new().link("up", "../../../victim").file("up/file", "x").end()),
        ("link-absolute-then-through", Refused, new().link("out", "/proc/self/cwd").file("out/file", "x").end()),
        ("link-replaced-by-file", Unpacked, new().link("f", "../victim/file").file("f", "x").end()),
        ("link-to-itself", Refused, new().link("l", "l").file("l/f", "x").end()),
        ("link-dangling-parent", Refused, new().link("d", "nowhere").file("d/f", "x").end()),
        ("link-as-directory", Unpacked, new().link("d", "../victim").add(T::Directory, "d", "").file("d/f", "x").end()),
        ("hardlink-up", Refused, new().add(T::Link, "l", "../victim/file").end()),
        ("hardlink-through-link", Refused, new().link("v", "../victim").add(T::Link, "l", "v/file").end()),
        (
            "hardlink-to-link-then-write",
            Unpacked,
            new().link("s", "../victim/file").add(T::Link, "l", "s").file("l", "x").end(),
        ),
        ("hardlink-to-root", Refused, new().add(T::Link, "l", "/").end()),
        ("hardlink-to-itself", Refused, new().file("f", "x").add(T::Link, "f", "f").end()),
        ("hardlink-kept", Unpacked, new().file("f", "x").add(T::Link, "g", "f").end()),
        (
            "devices",
            Unpacked,
            new().device(T::Char, "null", 1, 3).device(T::Block, "disk", 8, 0).add(T::Fifo, "pipe", "").end(),
        ),
        ("device-as-parent", Refused, new().device(T::Char, "d", 1, 3).file("d/f", "x").end()),
        ("fifo-replaced", Unpacked, new().add(T::Fifo, "f", "").file("f", "x").end()),
        ("whiteout", Unpacked, new().file("gone", "x").file(".wh.gone", "").end()),
        ("whiteout-of-parent", Refused, new().file(".wh...", "").end()),
        ("whiteout-of-nothing", Refused, new().file(".wh.", "").end()),
        ("whiteout-through-link", Refused, new().link("v", "../victim").file("v/.wh.file", "").end()),
        ("whiteout-as-hardlink", Unpacked, new().add(T::Link, ".wh.x", "../victim/file").end()),
        ("whiteout-of-a-tree", Unpacked, new().file("t/a/b", "x").file(".wh.t", "").end()),
        ("opaque-through-link", Refused, new().link("v", "../victim").file("v/.wh..wh..opq", "").end()),
        (
            "opaque-by-attribute",
            Unpacked,
            new().pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")]).add(T::Directory, "d", "").end(),
        ),
        (
            "redirect-by-attribute",
            Unpacked,
            new().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/victim")]).add(T::Directory, "d", "").end(),
        ),
        ("aufs-bookkeeping", Unpacked, new().file(".wh..wh.plnk/1.2", "x").file(".wh..wh.aufs", "").end()),
        ("capability", Unpacked, new().pax(&[("SCHILY.xattr.security.capability", &NET_RAW)]).file("ping", "x").end()),
        ("attribute-without-name", Refused, new().pax(&[("SCHILY.xattr.", b"x")]).file("f", "x").end()),
        ("attribute-too-long", Refused, new().pax(&[("SCHILY.xattr.user.a", &[b'x'; 70_000])]).file("f", "x").end()),
        ("name-too-long", Refused, new().long(T::GNULongName, &[b'n'; 5_000]).file("f", "x").end()),
        ("name-endless", Refused, new().long(T::GNULongName, &[b'n'; 100_000]).file("f", "x").end()),
        ("name-with-nul", Refused, new().pax(&[("path", b"a\0b")]).file("f", "x").end()),
        ("name-of-bytes", Unpacked, new().pax(&[("path", b"\xff\xfe")]).file("f", "x").end()),
        ("name-empty", Unpacked, new().pax(&[("path", b"")]).file("", "").end()),
        ("nested-too-deeply", Refused, new().long(T::GNULongName, "d/".repeat(1_500).as_bytes()).file("f", "x").end()),
        ("nested-too-deeply-by-links", Refused, tall.end()),
        ("owner-huge", Refused, new().pax(&[("uid", b"99999999999")]).file("f", "x").end()),
        ("size-lies-in-pax", Refused, new().pax(&[("size", b"99999999")]).file("f", "x").end()),
        ("size-overflows", Refused, new().pax(&[("size", b"18446744073709551615")]).file("f", "x").end()),
        (
            "pax-garbled",
            Refused,
            new().raw(Maker::header(T::XHeader, b"p", b"", 9), b"99 a=b\n\xff\n").file("f", "x").end(),
        ),
        ("pax-twice", Refused, new().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("f", "x").end()),
        ("pax-for-nothing", Refused, new().pax(&[("path", b"a")]).end()),
        (
            "pax-global",
            Unpacked,
            new().raw(Maker::header(T::XGlobalHeader, b"g", b"", 12), b"12 path=/a\n\n").file("f", "x").end(),
        ),
        ("sparse-old", Unpacked, new().raw(sparse, &[b'x'; 512]).end()),
        ("sparse-endless", Refused, new().raw(endless, b"").end()),
        (
            "sparse-pax",
            Unpacked,
            new()
                .pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.name", b"real"),
                    ("GNU.sparse.realsize", b"1048580"),
                ])
                .file("GNUSparseFile.0/made-up", &format!("{:\0<512}data", "1\n1048576\n4\n"))
                .end(),
        ),
        (
            "sparse-pax-overlaps",
            Refused,
            new()
                .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"100")])
                .file("f", &format!("{:\0<512}dataxx", "2\n8\n4\n0\n2\n"))
                .end(),
        ),
        (
            "sparse-pax-endless",
            Refused,
            new()
                .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9223372036854775807")])
                .file("f", &format!("{:\0<512}", "0\n"))
                .end(),
        ),
        (
            "sparse-pax-count",
            Refused,
            new()
                .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"1")])
                .file("f", &format!("{:\0<512}", "18446744073709551615\n"))
                .end(),
        ),
        ("body-in-a-directory", Unpacked, new().add(T::Directory, "d", "not headers").file("d/f", "x").end()),
        ("type-unknown", Refused, new().add(T::new(b'Z'), "f", "x").end()),
        (
            "times-before-and-after-all",
            Unpacked,
            new().pax(&[("mtime", b"-1.5")]).file("f", "x").pax(&[("mtime", b"1700000000.25")]).file("g", "x").end(),
        ),
        ("truncated-header", Refused, whole[..700].to_vec()),
        ("truncated-body", Refused, whole[..2000].to_vec()),
        ("checksum-wrong", Refused, flipped),
        ("no-archive", Refused, b"no archive at all, but long enough to be taken for the header of one".repeat(10)),
        ("empty", Unpacked, Vec::new()),
    ]
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/layers")
}

/// A place to unpack in, beside what must not change.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("victim")).unwrap();
        fs::write(directory.path().join("victim/file"), "untouched").unwrap();
        Self(directory)
    }

    fn unpack(&self, archive: &[u8], limits: &Limits) -> Result<PathBuf, ContentError> {
        let root = self.0.path().join("root");
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        fs::create_dir(&root).unwrap();
        let before = self.outside();
        let result = unpack(archive, &root, limits);
        assert_eq!(self.outside(), before, "something outside of the root changed");
        result.map(|()| root)
    }

    /// Everything beside the root: names, modes, owners, times of change, contents.
    fn outside(&self) -> BTreeMap<PathBuf, (u32, u32, i64, i64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let victim = self.0.path().join("victim");
        let entries = fs::read_dir(&victim).unwrap().flatten().map(|entry| entry.path());
        let beside = fs::read_dir(self.0.path()).unwrap().flatten().map(|entry| entry.path());
        for path in entries.chain(beside).filter(|path| !path.ends_with("root")) {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = fs::read(&path).unwrap_or_default();
            let seen = (metadata.mode(), metadata.uid(), metadata.ctime(), metadata.ctime_nsec(), content);
            found.insert(path, seen);
        }
        assert!(!Path::new("/hythe-escaped").exists() && !Path::new("/victim").exists());
        found
    }
}

/// The most memory this process has had since it was asked to start counting anew, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn the_corpus_is_kept_as_described() {
    let directory = kept();
    for (name, _, archive) in corpus() {
        let path = directory.join(format!("{name}.tar"));
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            fs::write(&path, &archive).unwrap();
        }
        assert!(fs::read(&path).is_ok_and(|kept| kept == archive), "{} is not what it should be", path.display());
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), corpus().len(), "the corpus has what nobody describes");
}

#[test]
fn every_archive_of_the_corpus_stays_inside_and_meets_its_fate() {
    let place = Place::new();
    for (name, fate, archive) in corpus() {
        let result = place.unpack(&archive, &limits());
        let met = if result.is_ok() { Fate::Unpacked } else { Fate::Refused };
        assert_eq!(met, fate, "{name}: {result:?}");
    }
}

#[test]
fn attributes_holes_links_and_times_are_kept() {
    let place = Place::new();
    let of = |wanted: &str| corpus().into_iter().find(|(name, ..)| *name == wanted).unwrap().2;
    let unpacked = |name: &str| place.unpack(&of(name), &limits()).unwrap();
    let attribute = |path: &Path, name: &str| {
        let mut value = [0; 64];
        rustix::fs::getxattr(path, name, &mut value).map(|length| value[..length].to_vec())
    };
    let ping = unpacked("capability").join("ping");
    assert_eq!(attribute(&ping, "security.capability").unwrap(), NET_RAW);
    for name in ["opaque-by-attribute", "redirect-by-attribute"] {
        let directory = unpacked(name).join("d");
        assert!(attribute(&directory, "trusted.overlay.opaque").is_err(), "{name}");
        assert!(attribute(&directory, "trusted.overlay.redirect").is_err(), "{name}");
    }
    let old = fs::metadata(unpacked("sparse-old").join("sparse")).unwrap();
    assert_eq!(old.len(), 0o4_001_000);
    assert!(old.blocks() * 512 < 64 << 10, "{} blocks for a hole", old.blocks());
    let real = unpacked("sparse-pax").join("real");
    let metadata = fs::metadata(&real).unwrap();
    assert_eq!((metadata.len(), metadata.blocks() * 512 < 64 << 10), (1_048_580, true));
    assert_eq!(&fs::read(&real).unwrap()[1_048_576..], b"data");
    let root = unpacked("hardlink-kept");
    assert_eq!(fs::metadata(root.join("f")).unwrap().ino(), fs::metadata(root.join("g")).unwrap().ino());
    let root = unpacked("devices");
    assert_eq!(fs::metadata(root.join("null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
    let stamp = fs::metadata(unpacked("times-before-and-after-all").join("g")).unwrap();
    assert_eq!((stamp.mtime(), stamp.mtime_nsec()), (1_700_000_000, 250_000_000));
}

#[test]
fn bombs_are_errors_and_fill_neither_disk_nor_memory() {
    let place = Place::new();
    let said = |archive: &[u8], limits: &Limits| place.unpack(archive, limits).unwrap_err().to_string();
    // Many entries, much data, much after the archive's end.
    let mut many = Maker::default();
    for number in 0..20 {
        many = many.file(&number.to_string(), "");
    }
    let many = many.end();
    let text = said(&many, &Limits { entries: 19, ..limits() });
    assert!(text.contains("too many entries"), "{text}");
    let large = Maker::default().file("f", &"x".repeat(2 << 20)).end();
    assert!(said(&large, &limits()).contains("larger than layers may be"));
    let mut trailing = Maker::default().file("f", "x").end();
    trailing.resize(3 << 20, b'x');
    assert!(said(&trailing, &limits()).contains("larger than layers may be"));
    // A disk with less left than is to stay free.
    assert!(said(&many, &Limits { reserve: u64::MAX, ..limits() }).contains("no space left on device"));
    // Zeros without end, as a small compressed file: they take no blocks while they last.
    let zeros = Maker::default().raw(Maker::header(EntryType::Regular, b"z", b"", 1 << 30), b"").0;
    let endless = zeros.as_slice().chain(std::io::repeat(0));
    let root = place.0.path().join("endless");
    fs::create_dir(&root).unwrap();
    unpack(endless, &root, &Limits { bytes: 64 << 20, file: 1 << 40, ..limits() }).unwrap_err();
    assert!(fs::metadata(root.join("z")).unwrap().blocks() * 512 < 64 << 10);
    fs::remove_dir_all(&root).unwrap();
}

/// A generator of numbers that are the same every time (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Changes an archive where it hurts: fields of headers (with a checksum that fits again, mostly), blocks, bytes, ends.
fn mutate(archive: &mut Vec<u8>, others: &[Vec<u8>], numbers: &mut Numbers) {
    const FIELDS: [(usize, usize); 10] =
        [(0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (329, 8), (337, 8)];
    const WORDS: [&[u8]; 14] = [
        b"../victim/file",
        b"/",
        b"..",
        b".wh...",
        b".wh..wh..opq",
        b"77777777777",
        b"00000000000",
        b"-1",
        b"\x80\xff\xff\xff\xff\xff\xff\xff",
        b"d/f",
        b"l",
        b"\0",
        b"00000001000",
        b"\xff\xff",
    ];
    let blocks = archive.len() / 512;
    let block = numbers.below(blocks) * 512;
    match numbers.below(10) {
        0..=5 if blocks > 0 => {
            let (at, length) = FIELDS[numbers.below(FIELDS.len())];
            let field = &mut archive[block + at..block + at + length];
            match numbers.below(3) {
                0 => {
                    let word = WORDS[numbers.below(WORDS.len())];
                    field.fill(0);
                    let length = word.len().min(field.len());
                    field[..length].copy_from_slice(&word[..length]);
                }
                1 => field[0] = b"0123456789LKxgSDZ"[numbers.below(17)],
                _ => field[numbers.below(length)] = numbers.next() as u8,
            }
            let header = &mut archive[block..block + 512];
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        6 => archive.truncate(numbers.below(archive.len() + 1)),
        7 if blocks > 0 => {
            let copy = archive[block..block + 512].to_vec();
            let to = numbers.below(blocks + 1) * 512;
            archive.splice(to..to, copy);
        }
        8 => {
            let other = &others[numbers.below(others.len())];
            let from = numbers.below(other.len() / 512 + 1) * 512;
            let to = numbers.below(blocks + 1) * 512;
            archive.splice(to..to, other[from..].iter().copied());
        }
        _ if !archive.is_empty() => {
            let at = numbers.below(archive.len());
            archive[at] = numbers.next() as u8;
        }
        _ => {}
    }
}

#[test]
fn no_mutation_of_the_corpus_gets_out_or_takes_much_memory() {
    const ROUNDS: usize = 3_000;
    let place = Place::new();
    let all: Vec<Vec<u8>> = corpus().into_iter().map(|(_, _, archive)| archive).collect();
    // Counting begins anew (proc(5), clear_refs).
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = peak();
    let mut numbers = Numbers(0x0068_7974_6865);
    let mut unpacked = 0;
    for round in 0..ROUNDS {
        let mut archive = all[round % all.len()].clone();
        for _ in 0..=numbers.below(4) {
            mutate(&mut archive, &all, &mut numbers);
        }
        unpacked += usize::from(place.unpack(&archive, &limits()).is_ok());
    }
    // Else the mutations would show nothing.
    assert!(unpacked > ROUNDS / 20 && unpacked < ROUNDS * 19 / 20, "{unpacked} of {ROUNDS} were unpacked");
    let grown = peak().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes of memory");
    let permissions = fs::metadata(place.0.path().join("victim")).unwrap().permissions();
    assert_ne!(permissions.mode() & 0o700, 0);
}
