//! Pools and keys whose placement is compared, and the file in which the peers' answers are kept.

use std::path::PathBuf;

use hash_ring::{Hash, HashTag, Member, Placement, Ring};

/// A pool, and where a peer has put each of [`keys`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    pub placement: Placement,
    pub hash: Hash,
    pub tag: Option<HashTag>,
    pub members: Vec<Member>,
}

impl Case {
    /// Where this crate puts the keys, a letter a key (`a` for the first member).
    pub fn computed(&self) -> String {
        let ring = Ring::new(self.placement, &self.members);
        let keys = if self.placement == Placement::NginxConsistent { plain_keys() } else { keys() };
        keys.iter()
            .map(|key| {
                let part = self.tag.map_or(key.as_slice(), |tag| tag.part(key));
                letter(ring.lookup(self.hash.of(part)).expect("pools here are not empty"))
            })
            .collect()
    }
}

pub fn letter(index: usize) -> char {
    char::from(b'a' + u8::try_from(index).expect("fewer than 26 members"))
}

/// Keys of all lengths up to 60, numbered ones, tagged ones, and ones with bytes that C's signed `char` widens with ones.
pub fn keys() -> Vec<Vec<u8>> {
    let mut keys = plain_keys();
    keys.extend((0u8..60).map(|seed| {
        (0..=seed).map(|index| seed.wrapping_mul(73).wrapping_add(index.wrapping_mul(151)) | 0x80).collect()
    }));
    keys.extend((0..20).map(|index| format!("{{user{index}}}.name{index}").into_bytes()));
    keys.extend((0..20).map(|index| format!("schlüssel-{index}-ключ").into_bytes()));
    keys
}

/// Keys that may stand in a URL's query as they are.
pub fn plain_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = (0..200).map(|index| format!("key:{index:012}").into_bytes()).collect();
    keys.extend((1..=60).map(|length| vec![b'a' + (length % 26) as u8; length]));
    keys.extend((0..100).map(|index| format!("/images/{index}/{}.png", index * 7919 % 1000).into_bytes()));
    keys
}

/// The tables taken from a peer: `(case name, letters)` a line.
pub struct Golden {
    path: PathBuf,
}

impl Golden {
    pub fn of(peer: &str) -> Golden {
        Golden { path: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{peer}.txt")) }
    }

    pub fn read(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(&self.path).expect("the table is in the repository");
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_once(' ').map(|(name, table)| (name.to_owned(), table.to_owned())).expect("two words")
            })
            .collect()
    }

    /// Compares what the peer said with the file; `UPDATE_GOLDEN=1` writes the file anew instead.
    pub fn check(&self, version: &str, answers: &[(String, String)]) {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let mut text = format!("# where {version} puts the keys of cases.rs; UPDATE_GOLDEN=1 takes it anew\n");
            for (name, table) in answers {
                text.push_str(&format!("{name} {table}\n"));
            }
            std::fs::write(&self.path, text).expect("the table can be written");
        }
        assert_eq!(self.read(), answers, "the kept table is not what {version} does");
    }
}
