//! A repository of one commit beside its files: what `git fetch --depth=1` and `git checkout FETCH_HEAD` leave
//! (gitrepository-layout, gitformat-index). Its bytes follow from the commit alone.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{
    checkout::{CheckoutError, DEEPEST, make},
    local::is_reference,
    object::{Entry, Kind, Mode, Oid, commit_tree, entries, has_parent},
    pack::Objects,
    remote::Found,
    write_pack::{PackWriter, write_with_checksum},
};

/// A path longer than this has no length in an index.
const LONGEST_TOLD: usize = 0xfff;

/// Writes `.git` into a directory that holds the commit's files: detached at the commit, which is all of history that it
/// knows, with the reference that it was found by and `url` as where it comes from.
///
/// # Errors
/// If an object cannot be had or a file not written; what was written stays.
pub fn keep(objects: &mut dyn Objects, found: &Found, url: &str, directory: &Path) -> Result<(), CheckoutError> {
    let own = directory.join(".git");
    for below in ["", "objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags"] {
        make(&own.join(below))?;
    }
    let packs = own.join("objects/pack");
    let (unnamed, index) = (packs.join("pack"), packs.join("idx"));
    let told = |path: &Path| {
        let path = path.to_owned();
        move |error| CheckoutError::Io(path, error)
    };
    let pack = PackWriter::create(&unnamed).map_err(told(&unnamed))?;
    let mut walk = Walk { objects, pack, path: unnamed.clone(), seen: HashSet::new(), files: Vec::new() };
    let commit = walk.take(&found.commit, Kind::Commit)?;
    if let Some(tag) = found.tag.filter(|tag| *tag != found.commit) {
        walk.take(&tag, Kind::Tag)?;
    }
    walk.tree(&commit_tree(&commit)?, &[], 0)?;
    let Walk { pack, files, .. } = walk;
    let sum = pack.finish(&index).map_err(told(&index))?;
    for (from, end) in [(&unnamed, "pack"), (&index, "idx")] {
        let to = packs.join(format!("pack-{sum}.{end}"));
        std::fs::rename(from, &to).map_err(told(&to))?;
    }
    let path = own.join("index");
    write_with_checksum(&path, index_of(files), 0o644).map_err(told(&path))?;
    let commit_line = format!("{}\n", found.commit);
    let mut texts = vec![("HEAD".to_owned(), commit_line.clone()), ("config".to_owned(), config(url))];
    if has_parent(&commit) {
        texts.push(("shallow".to_owned(), commit_line));
    }
    if let Some(name) = found.name.as_ref().filter(|name| name.starts_with("refs/") && is_reference(name)) {
        texts.push((name.clone(), format!("{}\n", found.tag.unwrap_or(found.commit))));
    }
    for (name, text) in texts {
        let path = own.join(name);
        write(&path, &text).map_err(told(&path))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?.write_all(text.as_bytes())
}

/// As `git init` and `git remote add origin` write it.
fn config(url: &str) -> String {
    let url = url.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
         [remote \"origin\"]\n\turl = \"{url}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    )
}

/// Every object that a commit leads to, once, and its files by path.
struct Walk<'a> {
    objects: &'a mut dyn Objects,
    pack: PackWriter,
    path: PathBuf,
    seen: HashSet<Oid>,
    files: Vec<(Vec<u8>, Entry, u64)>,
}

impl Walk<'_> {
    fn take(&mut self, oid: &Oid, kind: Kind) -> Result<Vec<u8>, CheckoutError> {
        let data = self.objects.object(oid, kind)?;
        if self.seen.insert(*oid) {
            self.pack.add(*oid, kind, &data).map_err(|error| CheckoutError::Io(self.path.clone(), error))?;
        }
        Ok(data)
    }

    fn tree(&mut self, tree: &Oid, below: &[u8], depth: usize) -> Result<(), CheckoutError> {
        if depth > DEEPEST {
            return Err(CheckoutError::TooDeep);
        }
        for entry in entries(&self.take(tree, Kind::Tree)?)? {
            let mut path = below.to_vec();
            path.extend(&entry.name);
            match entry.mode {
                Mode::Tree => {
                    path.push(b'/');
                    self.tree(&entry.oid, &path, depth + 1)?;
                }
                Mode::Submodule => self.files.push((path, entry, 0)),
                Mode::File | Mode::Executable | Mode::Link => {
                    let size = self.take(&entry.oid, Kind::Blob)?.len() as u64;
                    self.files.push((path, entry, size));
                }
            }
        }
        Ok(())
    }
}

/// An index of version 2. It knows no times, so that git looks at each file once and then remembers them.
fn index_of(mut files: Vec<(Vec<u8>, Entry, u64)>) -> Vec<u8> {
    files.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
    let mut bytes = b"DIRC\0\0\0\x02".to_vec();
    bytes.extend((files.len() as u32).to_be_bytes());
    for (path, entry, size) in files {
        let begin = bytes.len();
        let mode: u32 = match entry.mode {
            Mode::File => 0o100_644,
            Mode::Executable => 0o100_755,
            Mode::Link => 0o120_000,
            Mode::Tree | Mode::Submodule => 0o160_000,
        };
        // Two times of two words each, device and inode; then mode, user, group and size.
        bytes.extend([0; 24]);
        for word in [mode, 0, 0, size as u32] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(entry.oid.0);
        bytes.extend((path.len().min(LONGEST_TOLD) as u16).to_be_bytes());
        bytes.extend(path);
        // One to eight zeros, up to a multiple of eight.
        bytes.resize(begin + (bytes.len() - begin) / 8 * 8 + 8, 0);
    }
    bytes
}
