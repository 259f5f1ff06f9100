//! The part of a key that decides where it goes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A pair of bytes that encloses the part of a key that is hashed, as twemproxy's `hash_tag`: with `{}`, the keys
/// `{user1}.name` and `{user1}.mail` live on the same member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HashTag {
    open: u8,
    close: u8,
}

/// A hash tag is two bytes, as in `{}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedTag;

impl HashTag {
    /// A tag between `open` and `close`.
    #[must_use]
    pub fn new(open: u8, close: u8) -> HashTag {
        HashTag { open, close }
    }

    /// What to hash of `key`: the first non-empty part between the two bytes, or the whole key where there is none.
    ///
    /// As in twemproxy only the first opening byte counts: in `{}{a}` the first pair is empty, so the whole key is taken.
    #[must_use]
    pub fn part<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        let Some(start) = key.iter().position(|&byte| byte == self.open) else {
            return key;
        };
        let inner = &key[start + 1..];
        match inner.iter().position(|&byte| byte == self.close) {
            Some(end) if end > 0 => &inner[..end],
            _ => key,
        }
    }
}

impl TryFrom<String> for HashTag {
    type Error = MalformedTag;

    fn try_from(text: String) -> Result<HashTag, MalformedTag> {
        match text.as_bytes() {
            &[open, close] => Ok(HashTag { open, close }),
            _ => Err(MalformedTag),
        }
    }
}

impl FromStr for HashTag {
    type Err = MalformedTag;

    fn from_str(text: &str) -> Result<HashTag, MalformedTag> {
        HashTag::try_from(text.to_owned())
    }
}

impl From<HashTag> for String {
    fn from(tag: HashTag) -> String {
        String::from_utf8_lossy(&[tag.open, tag.close]).into_owned()
    }
}

impl fmt::Display for MalformedTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a hash tag is two characters, such as \"{}\"")
    }
}

impl std::error::Error for MalformedTag {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_selects_the_first_enclosed_part_and_else_the_whole_key() {
        let tag = HashTag::new(b'{', b'}');
        for (key, part) in [
            ("{user1}.name", "user1"),
            ("a{b}c{d}", "b"),
            ("plain", "plain"),
            ("{}{a}", "{}{a}"),
            ("{open", "{open"),
            ("}a{", "}a{"),
            ("}{x}", "x"),
            ("", ""),
        ] {
            assert_eq!(tag.part(key.as_bytes()), part.as_bytes(), "{key}");
        }
        let same = HashTag::new(b'$', b'$');
        assert_eq!(same.part(b"a$b$c"), b"b");
    }

    #[test]
    fn a_tag_is_exactly_two_bytes() {
        assert_eq!(HashTag::try_from("{}".to_owned()), Ok(HashTag::new(b'{', b'}')));
        for wrong in ["", "{", "{}}", "é{"] {
            assert_eq!(HashTag::try_from(wrong.to_owned()), Err(MalformedTag), "{wrong}");
        }
    }
}
