//! Files that grow, are rotated and truncated: read as far as they go.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    config::Source,
    lines::{Records, Text},
    positions::{Position, Positions},
};

/// A file gives so many bytes before the next has its turn.
const TURN: usize = 1 << 20;

/// One file of a source.
pub struct Tail {
    /// Its name when it was opened.
    pub path: PathBuf,
    file: File,
    device: u64,
    inode: u64,
    records: Records,
}

/// Where a file that has not been seen before begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With all that is there.
    Start,
    /// With what comes from now on.
    End,
}

impl Tail {
    /// Opens a file where it was left, or as `begin` says.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path, source: &Source, positions: &Positions, begin: Begin) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let left = positions.files.get(path).filter(|left| left.is(&metadata) && left.offset <= metadata.len());
        let at = match (left, begin) {
            (Some(left), _) => left.offset,
            (None, Begin::Start) => 0,
            (None, Begin::End) => metadata.len(),
        };
        Self::at(path, file, source, at)
    }

    fn at(path: &Path, mut file: File, source: &Source, at: u64) -> io::Result<Self> {
        let metadata = file.metadata()?;
        file.seek(SeekFrom::Start(at))?;
        let records = Records::new(source.format, source.multiline.as_ref(), at).map_err(io::Error::other)?;
        Ok(Self { path: path.to_owned(), file, device: metadata.dev(), inode: metadata.ino(), records })
    }

    /// A file that was left under this name and has another now: its rest comes first.
    #[must_use]
    pub fn rotated_away(path: &Path, source: &Source, positions: &Positions) -> Option<Self> {
        let left = positions.files.get(path)?;
        if std::fs::metadata(path).is_ok_and(|metadata| left.is(&metadata)) {
            return None;
        }
        for entry in std::fs::read_dir(path.parent()?).ok()?.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() && left.is(&metadata) && metadata.len() >= left.offset {
                let file = File::open(entry.path()).ok()?;
                return Self::at(path, file, source, left.offset).ok();
            }
        }
        None
    }

    /// Reads on. Returns whether there may be more at once.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&mut self, found: &mut Vec<Text>) -> io::Result<bool> {
        // Shorter than what was read: someone emptied it to begin anew.
        if self.file.metadata()?.len() < self.records.at() {
            self.records.flush(found);
            self.records.restart();
            self.file.rewind()?;
        }
        let mut buffer = vec![0; 64 << 10];
        let mut left = TURN;
        while left > 0 {
            let read = self.file.read(&mut buffer)?;
            if read == 0 {
                return Ok(false);
            }
            self.records.push(&buffer[..read], found);
            left = left.saturating_sub(read);
        }
        Ok(true)
    }

    /// Whether its name stands for another file now, or for none.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |metadata| !self.position().is(&metadata))
    }

    /// What is open is complete.
    pub fn flush(&mut self, found: &mut Vec<Text>) {
        self.records.flush(found);
    }

    /// Whether a record waits for whether it goes on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.records.is_open()
    }

    /// How far it has been told.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { device: self.device, inode: self.inode, offset: self.records.done() }
    }
}

impl Position {
    fn is(&self, metadata: &std::fs::Metadata) -> bool {
        (self.device, self.inode) == (metadata.dev(), metadata.ino())
    }
}

/// The files that a source's names stand for now, in order.
#[must_use]
pub fn files(source: &Source) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for wanted in &source.files {
        let name = wanted.file_name().unwrap_or_default().to_string_lossy();
        if !name.contains('*') {
            found.push(wanted.clone());
            continue;
        }
        let parent = parent(wanted);
        let entries = std::fs::read_dir(&parent).into_iter().flatten().flatten();
        found.extend(
            entries.filter(|entry| matches(&name, &entry.file_name().to_string_lossy())).map(|entry| entry.path()),
        );
    }
    found.sort();
    found.dedup();
    found
}

/// The directory in which a file lies.
#[must_use]
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let (first, rest) = (parts.next().unwrap_or_default(), parts.collect::<Vec<_>>());
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let Some((last, middle)) = rest.split_last() else { return name.is_empty() };
    for part in middle {
        match name.split_once(part) {
            Some((_, after)) => name = after,
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name, expected) in [
            ("*.log", "a.log", true),
            ("*.log", "a.log.1", false),
            ("app-*-*.log", "app-1-2.log", true),
            ("app-*-*.log", "app-1.log", false),
            ("*", "x", true),
            ("a*a", "a", false),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
