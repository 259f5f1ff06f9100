//! `COPY` and `ADD`: what their sources stand for, the sum of it, and the layer it becomes. No container is started.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use engine::content::Layer;
use rustix::fs::{self as rfs, FileType, Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};

use crate::dockerfile::Copying;
use crate::error::Kind;
use crate::extract::{Extraction, decompressed, extract, is_archive};
use crate::owner::{Chmod, Owner};
use crate::pattern::{Ignore, clean};
use crate::place::{self, Placing};
use crate::tree::{Root, Tree};
use crate::view::{self, Upper};
use crate::work::{Origin, Work};

/// One `COPY` or `ADD` whose texts are expanded.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    /// `COPY` or `ADD`.
    pub name: &'static str,
    pub copying: Copying,
    /// The destination, absolute; a slash at its end counts.
    pub destination: String,
    /// What `--from` names.
    pub from: Option<Origin>,
    /// Files that were fetched: their names, and where they are.
    pub fetched: Vec<(String, PathBuf, Option<i64>)>,
    /// Directories of repositories' files.
    pub repositories: Vec<PathBuf>,
}

/// One thing to be copied.
enum Source {
    Tree(Tree),
    /// Contents from the Dockerfile.
    Inline {
        name: String,
        data: Vec<u8>,
    },
    /// A file from a URL.
    Fetched {
        name: String,
        file: OwnedFd,
        modified: Option<i64>,
    },
}

/// The sources, found and summed up.
pub(crate) struct Gathered {
    sources: Vec<Source>,
    /// `file:…`, `dir:…` or `multi:…`, as Docker's history names them.
    pub sum: String,
    /// Keeps `--from`'s tree open.
    _root: Option<Root>,
}

impl Copy {
    fn failed(&self, message: impl std::fmt::Display) -> Kind {
        Kind::invalid(format!("{} failed: {message}", self.name))
    }

    /// Finds the sources.
    pub fn gather(&self, work: &Work) -> Result<Gathered, Kind> {
        let root = self.from.as_ref().map(|origin| origin.root(work)).transpose()?;
        let exclude = Ignore::of(self.copying.exclude.iter().map(String::as_str))?;
        let mut sources = Vec::new();
        for source in &self.copying.sources {
            let from = match (&root, &work.context) {
                (Some(root), _) => root,
                (None, Some(context)) => context,
                (None, None) => {
                    return Err(self.failed(format!("no build context for {source}")));
                }
            };
            let plain = source.replace("/./", "/");
            let matches = from.expand(if self.copying.parents { &plain } else { source });
            let matches = matches.map_err(|error| self.unfound(source, root.is_some(), &error))?;
            for path in matches {
                let tree = from.tree(&path, &exclude);
                sources.push(Source::Tree(tree.map_err(|error| self.failed(format!("{path}: {error}")))?));
            }
        }
        for (name, path, modified) in &self.fetched {
            let file = File::open(path).map_err(|e| Kind::io("open", path, e))?.into();
            sources.push(Source::Fetched { name: name.clone(), file, modified: *modified });
        }
        for path in &self.repositories {
            let files = Origin::Directory(path.clone()).root(work)?;
            sources.push(Source::Tree(files.tree("", &exclude).map_err(|error| self.failed(error))?));
        }
        for inline in &self.copying.inline {
            sources.push(Source::Inline { name: inline.name.clone(), data: inline.data.clone().into_bytes() });
        }
        // A pattern that nothing fits is nothing; the classic builder wants something from one of them.
        if sources.is_empty() && work.settings.classic {
            return Err(self.failed("no source files were specified"));
        }
        let sum = self.sum(&sources).map_err(|error| self.failed(error))?;
        Ok(Gathered { sources, sum, _root: root })
    }

    fn unfound(&self, source: &str, image: bool, error: &io::Error) -> Kind {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Kind::Missing { instruction: self.name, path: source.to_owned(), image }
            }
            _ => self.failed(format!("{source}: {error}")),
        }
    }

    fn sum(&self, sources: &[Source]) -> io::Result<String> {
        // Without --chown, what comes from the context is root's, and what comes from an image keeps its owners.
        let owners = self.from.is_some() && self.copying.chown.is_none();
        let mut kind = "multi";
        let mut all = Sha256::new();
        for source in sources {
            let mut one = Sha256::new();
            let (name, own) = match source {
                Source::Tree(tree) => {
                    tree.sum(owners, &mut one)?;
                    (tree.path.as_str(), if tree.is_directory() { "dir" } else { "file" })
                }
                Source::Inline { name, data } => {
                    one.update(data);
                    (name.as_str(), "file")
                }
                Source::Fetched { name, file, .. } => {
                    io::copy(&mut File::from(file.try_clone()?), &mut Summing(&mut one))?;
                    io::Seek::rewind(&mut File::from(file.try_clone()?))?;
                    (name.as_str(), "file")
                }
            };
            if sources.len() == 1 {
                kind = own;
            }
            all.update((name.len() as u64).to_le_bytes());
            all.update(name.as_bytes());
            all.update(one.finalize());
        }
        Ok(format!("{kind}:{}", hex::encode(all.finalize())))
    }

    /// Makes the layer.
    pub fn layer(&self, work: &Work, layers: &[Layer], gathered: &Gathered) -> Result<Layer, Kind> {
        let directory = work.scratch("copy");
        let (upper, scratch) = (directory.join("upper"), directory.join("work"));
        std::fs::create_dir_all(&upper).map_err(|e| Kind::io("create", &upper, e))?;
        // A linked layer must not depend on what lies below it: it is made on nothing.
        let below = if self.copying.link { Vec::new() } else { work.lower(layers)? };
        let mount = |e| Kind::io("mount", &directory, e);
        let root = view::open(&below, Some(Upper { upper: &upper, work: &scratch }), &work.empty()).map_err(mount)?;
        let placing = self.placing(work, layers)?;
        self.place_all(work, &root, gathered, &placing)?;
        drop(root);
        let layer = work.content.commit_upper(&upper, work.settings.clamp)?;
        let _ = std::fs::remove_dir_all(&directory);
        Ok(layer)
    }

    fn placing(&self, work: &Work, layers: &[Layer]) -> Result<Placing, Kind> {
        let owner = match (&self.copying.chown, &self.from) {
            (Some(chown), _) => Some(Owner::resolve(chown, &work.view(layers)?)?),
            (None, Some(_)) => None,
            (None, None) => Some(Owner::default()),
        };
        Ok(Placing { owner, chmod: self.copying.chmod.as_deref().map(Chmod::parse).transpose()? })
    }

    fn place_all(&self, work: &Work, root: &OwnedFd, gathered: &Gathered, placing: &Placing) -> Result<(), Kind> {
        let slash = self.destination.ends_with('/') || self.destination.ends_with("/.");
        if gathered.sources.len() > 1 && !slash {
            return Err(Kind::invalid(format!(
                "When using {} with more than one source file, the destination must be a directory and end with a /",
                self.name
            )));
        }
        let destination = clean(&self.destination);
        let parents_owner = placing.owner.unwrap_or_default();
        let into = |path: &str| place::directory(root, path, parents_owner).map_err(|e| self.failed(e));
        if gathered.sources.is_empty() && slash {
            into(&destination)?;
        }
        // The directory that a single file goes to, and its name there.
        let file_target = |name: &str| -> Result<(OwnedFd, String), Kind> {
            let exists = Root::new(root.try_clone().map_err(|e| self.failed(e))?, Ignore::default())
                .open(&destination, OFlags::PATH | OFlags::DIRECTORY)
                .is_ok();
            if slash || exists || destination.is_empty() {
                return Ok((into(&destination)?.0, name.to_owned()));
            }
            let (above, own) = destination.rsplit_once('/').unwrap_or(("", &destination));
            Ok((into(above)?.0, own.to_owned()))
        };
        for source in &gathered.sources {
            match source {
                Source::Tree(tree) if self.copying.parents => {
                    let kept = self.kept_parents(&tree.path);
                    let (above, name) = kept.rsplit_once('/').unwrap_or(("", &kept));
                    let join = |below: &str| clean(&format!("{destination}/{below}"));
                    if tree.is_directory() {
                        let (target, new) = into(&join(&kept))?;
                        place::contents(tree, &target, new, placing).map_err(|e| self.failed(e))?;
                    } else {
                        let (parent, _) = into(&join(above))?;
                        self.place_file(work, tree, &parent, name, placing)?;
                    }
                }
                Source::Tree(tree) if tree.is_directory() => {
                    let (target, new) = into(&destination)?;
                    place::contents(tree, &target, new, placing).map_err(|e| self.failed(e))?;
                }
                Source::Tree(tree) => {
                    if self.unpacks(&tree.fd, true)? {
                        let (target, _) = into(&destination)?;
                        self.unpack(work, &tree.fd, &target, placing)?;
                        continue;
                    }
                    let (parent, name) = file_target(tree.name())?;
                    self.place_file(work, tree, &parent, &name, placing)?;
                }
                Source::Inline { name, data } => {
                    let (parent, name) = file_target(name)?;
                    let stat = blank(data.len() as i64, 0o644, None);
                    place::bytes(data, &stat, &parent, OsStr::new(&name), placing).map_err(|e| self.failed(e))?;
                }
                Source::Fetched { name, file, modified } => {
                    if self.unpacks(file, false)? {
                        let (target, _) = into(&destination)?;
                        self.unpack(work, file, &target, placing)?;
                        continue;
                    }
                    let (parent, name) = file_target(name)?;
                    let size = rfs::fstat(file).map_err(|e| self.failed(io::Error::from(e)))?.st_size;
                    let stat = blank(size, 0o600, *modified);
                    place::file(file, &stat, &parent, OsStr::new(&name), placing).map_err(|e| self.failed(e))?;
                }
            }
        }
        Ok(())
    }

    /// What `--parents` keeps of a source's path: what stands behind `/./`, or all of it.
    fn kept_parents(&self, path: &str) -> String {
        let pivot =
            self.copying.sources.iter().filter_map(|source| source.split_once("/./")).find_map(|(before, _)| {
                let before = clean(before);
                path.strip_prefix(&format!("{before}/")).map(str::to_owned)
            });
        pivot.unwrap_or_else(|| path.to_owned())
    }

    fn place_file(&self, _: &Work, tree: &Tree, parent: &OwnedFd, name: &str, placing: &Placing) -> Result<(), Kind> {
        place::file(&tree.fd, &tree.stat, parent, OsStr::new(name), placing).map_err(|e| self.failed(e))
    }

    /// Whether `ADD` unpacks a file: by default archives of the context, not those that were fetched.
    fn unpacks(&self, file: &OwnedFd, local: bool) -> Result<bool, Kind> {
        if self.name != "ADD" || !self.copying.unpack.unwrap_or(local) {
            return Ok(false);
        }
        is_archive(file).map_err(|e| self.failed(e))
    }

    fn unpack(&self, work: &Work, file: &OwnedFd, target: &OwnedFd, placing: &Placing) -> Result<(), Kind> {
        let extraction = Extraction {
            // The archive's own owners stay unless --chown says otherwise.
            owner: self.copying.chown.as_ref().and(placing.owner),
            chmod: placing.chmod.clone(),
            devices: true,
            max_bytes: work.settings.max_bytes,
            max_entries: 5_000_000,
        };
        let unpack = || -> io::Result<()> {
            let mut file = File::from(file.try_clone()?);
            io::Seek::rewind(&mut file)?;
            extract(decompressed(file)?, target, &extraction)
        };
        unpack().map_err(|e| self.failed(e))
    }
}

/// The state of a file that is not one yet.
fn blank(size: i64, mode: u32, modified: Option<i64>) -> Stat {
    let null = rfs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let mut stat = null.and_then(rfs::fstat).expect("every system has /dev/null");
    stat.st_mode = FileType::RegularFile.as_raw_mode() | mode;
    (stat.st_uid, stat.st_gid, stat.st_size, stat.st_nlink) = (0, 0, size, 1);
    stat.st_blocks = i64::MAX / 512;
    // Without a time of its own a file is from 1970, so that equal contents give equal layers.
    (stat.st_mtime, stat.st_mtime_nsec) = (modified.unwrap_or(0), 0);
    stat
}

struct Summing<'a>(&'a mut Sha256);

impl io::Write for Summing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a directory of an image (`WORKDIR`); returns the layer, or `None` if it was there.
pub(crate) fn make_directory(work: &Work, layers: &[Layer], path: &str, user: &str) -> Result<Option<Layer>, Kind> {
    let view = work.view(layers)?;
    let root = Root::new(view.try_clone().map_err(|e| Kind::io("open", Path::new(path), e))?, Ignore::default());
    match root.open(&clean(path), OFlags::PATH | OFlags::DIRECTORY) {
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Kind::invalid(format!("cannot mkdir: {path} is not a directory")));
        }
        Err(_) => {}
    }
    let owner = if user.is_empty() { Owner::default() } else { Owner::resolve(user, &view)? };
    let directory = work.scratch("workdir");
    let (upper, scratch) = (directory.join("upper"), directory.join("work"));
    let fail = |e| Kind::io("create", Path::new(path), e);
    let below = work.lower(layers)?;
    let tree = view::open(&below, Some(Upper { upper: &upper, work: &scratch }), &work.empty()).map_err(fail)?;
    place::directory(&tree, &clean(path), owner).map_err(fail)?;
    drop(tree);
    if place::is_empty(&upper).map_err(fail)? {
        return Ok(None);
    }
    let layer = work.content.commit_upper(&upper, work.settings.clamp)?;
    let _ = std::fs::remove_dir_all(&directory);
    Ok(Some(layer))
}
