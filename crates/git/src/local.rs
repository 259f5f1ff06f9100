//! A repository on this machine's disk, read as it lies there: references, loose objects, packs by their indices
//! (gitrepository-layout, gitformat-pack). Nothing is written to it, and no program is run.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::ZlibDecoder;

use super::{
    object::{Kind, Oid},
    pack::{Objects, Pack, PackError},
    remote::{Found, RemoteError, wanted},
};

/// A loose object has so many bytes at most.
const MOST: u64 = 512 << 20;
/// A symbolic reference may lead to another so often.
const HOPS: usize = 5;

/// A repository's directory: a bare one, or the `.git` of a working copy.
#[derive(Clone, Debug)]
pub struct Local {
    directory: PathBuf,
}

impl Local {
    /// A repository in a directory.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(path: &Path) -> Result<Self, RemoteError> {
        let told = |reason: &str| RemoteError::Local(path.to_owned(), reason.to_owned());
        let candidates = [path.join(".git"), path.to_owned()];
        let found = candidates.into_iter().find(|d| d.join("objects").is_dir() && d.join("HEAD").is_file());
        let directory = found.ok_or_else(|| told("there is no repository"))?;
        let config = fs::read_to_string(directory.join("config")).unwrap_or_default().to_ascii_lowercase();
        let compact: String = config.chars().filter(|c| !c.is_whitespace()).collect();
        if compact.contains("objectformat=sha256") {
            return Err(told("its objects are named by SHA-256"));
        }
        if compact.contains("refstorage=reftable") {
            return Err(told("its references are in a reftable"));
        }
        Ok(Self { directory })
    }

    /// What a branch, a tag, a whole reference, `HEAD` or an identity stands for.
    ///
    /// # Errors
    /// If the repository does not know it.
    pub fn find(&self, reference: &str) -> Result<Found, RemoteError> {
        if let Ok(commit) = reference.parse() {
            return Ok(Found { commit, name: None, tag: None });
        }
        // As on a server: the first of these that is there.
        let names = wanted(reference);
        let mut found = names.iter().filter(|name| is_reference(name)).map(|name| (name, self.reference(name, 0)));
        let (name, (oid, target)) = found
            .find_map(|(name, found)| Some((name, found?)))
            .ok_or_else(|| RemoteError::NoReference(reference.to_owned()))?;
        let name = target.unwrap_or_else(|| name.clone());
        // An annotated tag stands for the commit that it was put on.
        let mut objects = self.objects()?;
        let mut commit = oid;
        while let Ok(tag) = objects.object(&commit, Kind::Tag) {
            let target = tag.strip_prefix(b"object ").and_then(|rest| std::str::from_utf8(rest.get(..40)?).ok());
            commit = target.and_then(|t| t.parse().ok()).ok_or(PackError::Damaged("a tag names nothing"))?;
        }
        Ok(Found { commit, name: Some(name), tag: Some(oid).filter(|tag| *tag != commit) })
    }

    /// The object, and the reference that a symbolic one leads to.
    fn reference(&self, name: &str, hops: usize) -> Option<(Oid, Option<String>)> {
        if hops > HOPS {
            return None;
        }
        if let Ok(text) = fs::read_to_string(self.directory.join(name)) {
            let text = text.trim_end();
            return match text.strip_prefix("ref: ") {
                Some(other) if is_reference(other) => {
                    let (oid, further) = self.reference(other, hops + 1)?;
                    Some((oid, further.or_else(|| Some(other.to_owned()))))
                }
                Some(_) => None,
                None => Some((text.parse().ok()?, None)),
            };
        }
        let packed = fs::read_to_string(self.directory.join("packed-refs")).ok()?;
        let oid = packed.lines().find_map(|line| line.split_once(' ').filter(|(_, n)| *n == name)?.0.parse().ok())?;
        Some((oid, None))
    }

    /// Its objects, as they are now.
    ///
    /// # Errors
    /// If its packs cannot be read.
    pub fn objects(&self) -> Result<LocalObjects, RemoteError> {
        let mut directories = vec![self.directory.join("objects")];
        // Other repositories whose objects count as its own; theirs do not lead further.
        let alternates = fs::read_to_string(directories[0].join("info/alternates")).unwrap_or_default();
        let others = alternates.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        directories.extend(others.map(|other| self.directory.join("objects").join(other)).collect::<Vec<_>>());
        let mut packs = Vec::new();
        for directory in &directories {
            for file in fs::read_dir(directory.join("pack")).into_iter().flatten().flatten() {
                let index = file.path();
                if index.extension().is_some_and(|extension| extension == "idx") {
                    let bytes = fs::read(&index)?;
                    packs.push(Pack::indexed(File::open(index.with_extension("pack"))?, &bytes)?);
                }
            }
        }
        Ok(LocalObjects { directories, packs })
    }
}

/// A name that leads nowhere else than below the repository.
pub(crate) fn is_reference(name: &str) -> bool {
    !name.starts_with('/') && !name.split('/').any(|part| part.is_empty() || part.starts_with('.'))
}

/// Objects of a repository.
pub struct LocalObjects {
    directories: Vec<PathBuf>,
    packs: Vec<Pack>,
}

impl Objects for LocalObjects {
    fn object(&mut self, oid: &Oid, expected: Kind) -> Result<Vec<u8>, PackError> {
        let name = oid.to_string();
        for directory in &self.directories {
            if let Ok(file) = File::open(directory.join(&name[..2]).join(&name[2..])) {
                return loose(file, oid, expected);
            }
        }
        let pack = self.packs.iter_mut().find(|pack| pack.has(oid)).ok_or(PackError::Missing(*oid))?;
        let data = pack.object(oid, expected)?;
        judge(oid, expected, data)
    }
}

fn loose(file: File, oid: &Oid, expected: Kind) -> Result<Vec<u8>, PackError> {
    let mut data = Vec::new();
    ZlibDecoder::new(file).take(MOST + 64).read_to_end(&mut data)?;
    let end =
        data.iter().take(64).position(|byte| *byte == 0).ok_or(PackError::Damaged("a loose object has no head"))?;
    if data.len() as u64 > MOST {
        return Err(PackError::TooLarge(data.len() as u64));
    }
    let head = String::from_utf8_lossy(&data[..end]).into_owned();
    data.drain(..=end);
    if head != format!("{} {}", expected.name(), data.len()) {
        return Err(PackError::Damaged("an object is of another kind or size than is said"));
    }
    judge(oid, expected, data)
}

/// What is on a disk may have rotted.
fn judge(oid: &Oid, kind: Kind, data: Vec<u8>) -> Result<Vec<u8>, PackError> {
    if Oid::of(kind, &data) == *oid { Ok(data) } else { Err(PackError::Damaged("an object is not what its name says")) }
}
