//! Files that are made to be as their source: compared, and written so that nobody ever reads half of one.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
};

use super::source::Content;

/// In a directory: the names that were written, so that those can be removed which the source has no more.
const RECORD: &str = ".config-sync.json";

/// Files that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The disk refuses.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// A name that would lead out of the directory.
    #[error("the source has a file named {0:?}")]
    Name(String),
}

/// What has to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Files that are new or have another content.
    pub write: BTreeMap<PathBuf, Vec<u8>>,
    /// Files that were written before and are not there any more.
    pub remove: Vec<PathBuf>,
}

impl Change {
    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty()
    }
}

/// Compares a source's content with what is there.
///
/// # Errors
/// If a file cannot be read, or a name would lead elsewhere.
pub fn compare(target: &Path, content: &Content) -> Result<Change, TargetError> {
    let mut change = Change::default();
    match content {
        Content::File(bytes) => {
            if current(target)?.as_ref() != Some(bytes) {
                change.write.insert(target.to_owned(), bytes.clone());
            }
        }
        Content::Files(files) => {
            for (name, bytes) in files {
                let legal = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
                if !legal || name.is_empty() || name == RECORD {
                    return Err(TargetError::Name(name.clone()));
                }
                let path = target.join(name);
                if current(&path)?.as_ref() != Some(bytes) {
                    change.write.insert(path, bytes.clone());
                }
            }
            let before: Vec<String> = current(&target.join(RECORD))?
                .and_then(|record| serde_json::from_slice(&record).ok())
                .unwrap_or_default();
            let gone = before.iter().filter(|name| !files.contains_key(*name));
            change.remove = gone.map(|name| target.join(name)).filter(|path| path.exists()).collect();
        }
    }
    Ok(change)
}

/// Does what has to be done, file by file, each at once and to the disk.
///
/// # Errors
/// If the disk refuses; files that were written stay.
pub fn apply(target: &Path, content: &Content, change: &Change) -> Result<(), TargetError> {
    for (path, bytes) in &change.write {
        write(path, bytes)?;
    }
    for path in &change.remove {
        fs::remove_file(path).map_err(told(path))?;
    }
    if let Content::Files(files) = content {
        let names: Vec<&String> = files.keys().collect();
        let record = serde_json::json!(names).to_string().into_bytes();
        let path = target.join(RECORD);
        if current(&path)?.as_ref() != Some(&record) {
            write(&path, &record)?;
        }
    }
    Ok(())
}

/// Writes a file under another name and renames it, both to the disk. Its mode stays what it was.
fn write(path: &Path, bytes: &[u8]) -> Result<(), TargetError> {
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(told(parent))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = parent.join(format!(".{name}.new"));
    let _ = fs::remove_file(&new);
    let before = fs::metadata(path).ok();
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
        if let Some(before) = before {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(parent)?.sync_all()
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&new);
        TargetError::Io(path.to_owned(), error)
    })
}

fn current(path: &Path) -> Result<Option<Vec<u8>>, TargetError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TargetError::Io(path.to_owned(), error)),
    }
}

fn told(path: &Path) -> impl FnOnce(io::Error) -> TargetError {
    let path = path.to_owned();
    move |error| TargetError::Io(path, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Content {
        Content::Files(files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect())
    }

    #[test]
    fn only_what_differs_is_written_and_only_what_was_ours_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path();
        fs::write(target.join("theirs"), "stays").unwrap();
        let first = files(&[("a", "1"), ("b/c", "2")]);
        let change = compare(target, &first).unwrap();
        assert_eq!(change.write.len(), 2);
        apply(target, &first, &change).unwrap();
        assert!(compare(target, &first).unwrap().is_empty());
        let second = files(&[("a", "1"), ("d", "4")]);
        let change = compare(target, &second).unwrap();
        assert_eq!(
            (change.write.keys().cloned().collect::<Vec<_>>(), &change.remove),
            (vec![target.join("d")], &vec![target.join("b/c")])
        );
        apply(target, &second, &change).unwrap();
        assert!(!target.join("b/c").exists() && target.join("theirs").exists());
        let left: Vec<_> = fs::read_dir(target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{left:?}");
    }

    #[test]
    fn names_that_lead_out_of_the_directory_are_refused() {
        for name in ["../x", "/etc/x", "a/../../x", "", RECORD] {
            assert!(
                matches!(compare(Path::new("/nowhere"), &files(&[(name, "")])), Err(TargetError::Name(_))),
                "{name}"
            );
        }
    }
}
