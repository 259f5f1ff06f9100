//! What a volume from the API contains: files by relative path.

use std::collections::BTreeMap;

/// Files by relative path, as [`super::atomic`] writes them.
pub type Content = BTreeMap<String, File>;

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner, if not root.
    pub owner: Option<u32>,
}

/// The mode of files unless the volume says otherwise.
pub const DEFAULT_MODE: u32 = 0o644;

/// A mode of the API as permission bits.
pub fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    own.or(default).and_then(|m| u32::try_from(m).ok()).unwrap_or(DEFAULT_MODE)
}
