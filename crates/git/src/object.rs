//! Objects: identities, commits and trees. Pure (gitformat-commit, git-mktree).

use std::{collections::HashSet, fmt, str::FromStr};

/// An object's SHA-1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid(pub [u8; 20]);

impl Oid {
    /// The identity of an object with this content.
    #[must_use]
    pub fn of(kind: Kind, data: &[u8]) -> Self {
        let mut hash = Hash::begin(kind, data.len() as u64);
        hash.update(data);
        hash.finish()
    }
}

/// An identity that is computed piece by piece.
pub(crate) struct Hash(ring::digest::Context);

impl Hash {
    pub(crate) fn begin(kind: Kind, size: u64) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(format!("{} {size}\0", kind.name()).as_bytes());
        Self(context)
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    pub(crate) fn finish(self) -> Oid {
        let mut oid = [0; 20];
        oid.copy_from_slice(self.0.finish().as_ref());
        Oid(oid)
    }
}

impl FromStr for Oid {
    type Err = ObjectError;

    fn from_str(text: &str) -> Result<Self, ObjectError> {
        let mut oid = [0; 20];
        hex::decode_to_slice(text, &mut oid).map_err(|_| ObjectError::Identity)?;
        Ok(Self(oid))
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A commit.
    Commit,
    /// A directory.
    Tree,
    /// A file's content.
    Blob,
    /// An annotated tag.
    Tag,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

/// What a name in a tree stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link, whose target is the blob.
    Link,
    /// A directory.
    Tree,
    /// A commit of another repository.
    Submodule,
}

/// A name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it stands for.
    pub mode: Mode,
    /// The name: one path component, as bytes.
    pub name: Vec<u8>,
    /// The object.
    pub oid: Oid,
}

/// An object that is not what it should be. A retry does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Not 40 hexadecimal digits.
    #[error("not an object's identity")]
    Identity,
    /// A commit without a tree.
    #[error("a commit without a tree")]
    Commit,
    /// A tree that ends in the middle, or with a mode that git does not know.
    #[error("a malformed tree")]
    Tree,
    /// A name that would lead out of its directory, or into `.git`, or that stands twice.
    #[error("a tree with a forbidden name")]
    Name,
}

/// The tree of a commit.
///
/// # Errors
/// If it names none.
pub fn commit_tree(commit: &[u8]) -> Result<Oid, ObjectError> {
    let line = commit.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = line.strip_prefix(b"tree ").and_then(|oid| std::str::from_utf8(oid).ok()).ok_or(ObjectError::Commit)?;
    text.parse().map_err(|_| ObjectError::Commit)
}

/// Whether a commit has others before it.
pub(crate) fn has_parent(commit: &[u8]) -> bool {
    let head = commit.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    head.skip(1).any(|line| line.starts_with(b"parent "))
}

/// The entries of a tree, each with a name that is safe to create.
///
/// # Errors
/// If the tree is malformed or means harm.
pub fn entries(tree: &[u8]) -> Result<Vec<Entry>, ObjectError> {
    let mut entries = Vec::new();
    let mut names = HashSet::new();
    let mut rest = tree;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or(ObjectError::Tree)?;
        let mode = mode(&rest[..space]).ok_or(ObjectError::Tree)?;
        rest = &rest[space + 1..];
        let end = rest.iter().position(|byte| *byte == 0).ok_or(ObjectError::Tree)?;
        let name = &rest[..end];
        let oid: [u8; 20] = rest.get(end + 1..end + 21).and_then(|oid| oid.try_into().ok()).ok_or(ObjectError::Tree)?;
        rest = &rest[end + 21..];
        if !is_safe(name) || !names.insert(name) {
            return Err(ObjectError::Name);
        }
        entries.push(Entry { mode, name: name.to_vec(), oid: Oid(oid) });
    }
    Ok(entries)
}

fn mode(digits: &[u8]) -> Option<Mode> {
    Some(match digits {
        b"100755" => Mode::Executable,
        // Old repositories have modes that git takes for plain files.
        b"100644" | b"100664" | b"100600" => Mode::File,
        b"120000" => Mode::Link,
        b"40000" | b"040000" => Mode::Tree,
        b"160000" => Mode::Submodule,
        _ => return None,
    })
}

fn is_safe(name: &[u8]) -> bool {
    let git = name.eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1");
    !(name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || git) && name.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tree = Vec::new();
        for (mode, name) in entries {
            tree.extend(format!("{mode} {name}\0").as_bytes());
            tree.extend([7; 20]);
        }
        tree
    }

    #[test]
    fn identities_are_gits() {
        let empty = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        assert_eq!(Oid::of(Kind::Blob, b"").to_string(), empty);
        assert_eq!(Oid::of(Kind::Tree, b"").to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        assert_eq!(empty.parse::<Oid>().unwrap(), Oid::of(Kind::Blob, b""));
        assert!("main".parse::<Oid>().is_err());
    }

    #[test]
    fn a_tree_tells_its_entries() {
        let found = entries(&tree(&[("100644", "a"), ("100755", "b c"), ("120000", "d"), ("40000", "e")])).unwrap();
        let modes: Vec<Mode> = found.iter().map(|entry| entry.mode).collect();
        assert_eq!(modes, [Mode::File, Mode::Executable, Mode::Link, Mode::Tree]);
        assert_eq!(found[1].name, b"b c");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["..", ".", "", "a/b", ".git", ".GIT", "GIT~1"] {
            assert_eq!(entries(&tree(&[("100644", name)])), Err(ObjectError::Name), "{name:?}");
        }
        let twice = tree(&[("120000", "a"), ("40000", "a")]);
        assert_eq!(entries(&twice), Err(ObjectError::Name), "a link, then a directory of the same name behind it");
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = tree(&[("100644", "a")]);
        for length in 1..whole.len() {
            assert_eq!(entries(&whole[..length]), Err(ObjectError::Tree), "{length}");
        }
        assert_eq!(entries(&tree(&[("100777", "a")])), Err(ObjectError::Tree));
        assert_eq!(commit_tree(b"author x\n"), Err(ObjectError::Commit));
    }
}
