//! Small files of JSON that the next agent reads: there whole, as they were before, or not at all. A power loss may
//! take what was written last.

use std::{fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};

/// Puts `value` in place of what the file has; its directory is made.
///
/// # Errors
/// The disk's: the file is as it was.
pub fn save(path: &Path, value: &impl Serialize) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    replace(path, &serde_json::to_vec(value).map_err(io::Error::other)?)
}

/// The same with text that is made already, in a directory that is there.
///
/// # Errors
/// The disk's.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

/// What the file has; nothing if it is not there or can't be read.
pub fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_a_failure_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("below/names.json");
        assert_eq!(load::<Vec<String>>(&path), None);
        save(&path, &["a"]).expect("written");
        // In the way of the new file.
        fs::create_dir(path.with_extension("new")).expect("made");
        save(&path, &["b"]).expect_err("no file can be there");
        assert_eq!(load(&path), Some(vec!["a".to_owned()]));
        fs::write(&path, "[").expect("written");
        assert_eq!(load::<Vec<String>>(&path), None);
    }
}
