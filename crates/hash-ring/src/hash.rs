//! The hashes twemproxy offers, bit for bit, with its truncations and its sign extensions.
//!
//! twemproxy computes several of them over C's `char`, which is signed on x86: bytes from 0x80 up are widened with ones.
//! Keys of other alphabets would otherwise land elsewhere than where twemproxy has put them.

use std::fmt;
use std::str::FromStr;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::mixers;

/// A hash from a key's bytes to 32 bits, named as in twemproxy's `hash:`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Hash {
    /// Jenkins' one-at-a-time.
    #[serde(rename = "one_at_a_time")]
    OneAtATime,
    /// The first four bytes of MD5, little-endian.
    #[serde(rename = "md5")]
    Md5,
    /// CRC-16/XMODEM's table over a register of 32 bits (twemproxy never cuts it to 16).
    #[serde(rename = "crc16")]
    Crc16,
    /// libmemcached's: 15 bits of CRC-32.
    #[serde(rename = "crc32")]
    Crc32,
    /// CRC-32 (IEEE) whole.
    #[serde(rename = "crc32a")]
    Crc32a,
    /// The low half of FNV-1, 64 bits.
    #[serde(rename = "fnv1_64")]
    Fnv1_64,
    /// FNV-1a with the low halves of the 64-bit offset and prime: twemproxy's default.
    #[default]
    #[serde(rename = "fnv1a_64")]
    Fnv1a64,
    /// FNV-1, 32 bits.
    #[serde(rename = "fnv1_32")]
    Fnv1_32,
    /// FNV-1a, 32 bits.
    #[serde(rename = "fnv1a_32")]
    Fnv1a32,
    /// Paul Hsieh's.
    #[serde(rename = "hsieh")]
    Hsieh,
    /// MurmurHash2, seeded by the length.
    #[serde(rename = "murmur")]
    Murmur,
    /// Jenkins' lookup3.
    #[serde(rename = "jenkins")]
    Jenkins,
}

/// No hash has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownHash(pub String);

const FNV_64_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_64_PRIME: u64 = 0x100_0000_01b3;
const FNV_32_OFFSET: u32 = 2_166_136_261;
const FNV_32_PRIME: u32 = 16_777_619;

impl Hash {
    /// All of them, in twemproxy's order.
    pub const ALL: [Hash; 12] = [
        Hash::OneAtATime,
        Hash::Md5,
        Hash::Crc16,
        Hash::Crc32,
        Hash::Crc32a,
        Hash::Fnv1_64,
        Hash::Fnv1a64,
        Hash::Fnv1_32,
        Hash::Fnv1a32,
        Hash::Hsieh,
        Hash::Murmur,
        Hash::Jenkins,
    ];

    /// The hash of `key`; an empty key hashes to 0, whatever the hash.
    #[must_use]
    pub fn of(self, key: &[u8]) -> u32 {
        if key.is_empty() {
            return 0;
        }
        match self {
            Hash::OneAtATime => mixers::one_at_a_time(key),
            Hash::Md5 => md5_words(key)[0],
            Hash::Crc16 => crc16(key),
            Hash::Crc32 => (crc32fast::hash(key) >> 16) & 0x7fff,
            Hash::Crc32a => crc32fast::hash(key),
            Hash::Fnv1_64 => {
                let hash = key.iter().fold(FNV_64_OFFSET, |hash, &byte| {
                    hash.wrapping_mul(FNV_64_PRIME) ^ u64::from(mixers::widened(byte))
                });
                low(hash)
            }
            Hash::Fnv1a64 => key
                .iter()
                .fold(low(FNV_64_OFFSET), |hash, &byte| (hash ^ mixers::widened(byte)).wrapping_mul(low(FNV_64_PRIME))),
            Hash::Fnv1_32 => {
                key.iter().fold(FNV_32_OFFSET, |hash, &byte| hash.wrapping_mul(FNV_32_PRIME) ^ mixers::widened(byte))
            }
            Hash::Fnv1a32 => {
                key.iter().fold(FNV_32_OFFSET, |hash, &byte| (hash ^ mixers::widened(byte)).wrapping_mul(FNV_32_PRIME))
            }
            Hash::Hsieh => mixers::hsieh(key),
            Hash::Murmur => mixers::murmur(key),
            Hash::Jenkins => mixers::jenkins(key),
        }
    }

    /// Its name in twemproxy's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Hash::OneAtATime => "one_at_a_time",
            Hash::Md5 => "md5",
            Hash::Crc16 => "crc16",
            Hash::Crc32 => "crc32",
            Hash::Crc32a => "crc32a",
            Hash::Fnv1_64 => "fnv1_64",
            Hash::Fnv1a64 => "fnv1a_64",
            Hash::Fnv1_32 => "fnv1_32",
            Hash::Fnv1a32 => "fnv1a_32",
            Hash::Hsieh => "hsieh",
            Hash::Murmur => "murmur",
            Hash::Jenkins => "jenkins",
        }
    }
}

/// The low 32 bits, where twemproxy truncates.
fn low(value: u64) -> u32 {
    value as u32
}

/// The digest of MD5 as four little-endian words.
pub(crate) fn md5_words(key: &[u8]) -> [u32; 4] {
    let digest = Md5::digest(key);
    std::array::from_fn(|index| {
        let at = index * 4;
        u32::from_le_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]])
    })
}

fn crc16(key: &[u8]) -> u32 {
    key.iter().fold(0, |crc: u32, &byte| {
        let index = ((crc >> 8) ^ u32::from(byte)) & 0xff;
        (crc << 8) ^ u32::from(crc16_entry(index))
    })
}

/// One entry of the table of polynomial 0x1021.
const fn crc16_of(index: u16) -> u16 {
    let mut crc = index << 8;
    let mut bit = 0;
    while bit < 8 {
        crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        bit += 1;
    }
    crc
}

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        table[index as usize] = crc16_of(index);
        index += 1;
    }
    table
};

fn crc16_entry(index: u32) -> u16 {
    CRC16[index as usize]
}

impl FromStr for Hash {
    type Err = UnknownHash;

    fn from_str(name: &str) -> Result<Hash, UnknownHash> {
        Hash::ALL.into_iter().find(|hash| hash.name() == name).ok_or_else(|| UnknownHash(name.to_owned()))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for UnknownHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Hash::ALL.iter().map(|hash| hash.name()).collect();
        write!(f, "no hash is called {:?}; there are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownHash {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_known_words_are_those_of_their_authors() {
        // Published vectors of the plain algorithms; where twemproxy departs from them, its golden tables decide.
        assert_eq!(Hash::Fnv1a32.of(b"foobar"), 0xbf9c_f968);
        assert_eq!(Hash::Fnv1_32.of(b"foobar"), 0x31f0_b262);
        assert_eq!(Hash::Fnv1_64.of(b"foobar"), 0x340d_8765_a4dd_a9c2_u64 as u32);
        assert_eq!(Hash::Crc32a.of(b"123456789"), 0xcbf4_3926);
        assert_eq!(Hash::Crc32.of(b"123456789"), (0xcbf4_3926 >> 16) & 0x7fff);
        assert_eq!(Hash::Crc16.of(b"123456789") & 0xffff, 0x31c3);
        assert_eq!(Hash::Md5.of(b"abc"), u32::from_le_bytes([0x90, 0x01, 0x50, 0x98]));
        assert_eq!(Hash::OneAtATime.of(b"a"), 0xca2e_9442);
    }

    #[test]
    fn every_name_leads_back_to_its_hash() {
        for hash in Hash::ALL {
            assert_eq!(hash.name().parse(), Ok(hash));
        }
        assert_eq!("sha1".parse::<Hash>(), Err(UnknownHash("sha1".to_owned())));
    }
}
