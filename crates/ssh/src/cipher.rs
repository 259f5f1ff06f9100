//! Packets sealed and opened: chacha20-poly1305@openssh.com (PROTOCOL.chacha20poly1305), and AES-GCM (RFC 5647 with the
//! names of OpenSSH), whose lengths travel in the clear.

use ring::aead::chacha20_poly1305_openssh as chacha;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};

use crate::SshError;

/// In the order of preference.
pub(crate) const NAMES: [&str; 3] =
    ["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-gcm@openssh.com"];

/// Bytes of the seal behind a packet.
pub(crate) const TAG: usize = 16;

/// What one direction is sealed with.
pub(crate) enum Cipher {
    /// Before the first keys: nothing is.
    Plain,
    Chacha {
        sealing: Box<chacha::SealingKey>,
        opening: Box<chacha::OpeningKey>,
    },
    Gcm {
        key: Box<LessSafeKey>,
        nonce: [u8; 12],
    },
}

/// Bytes of key and first nonce that a cipher takes.
pub(crate) fn lengths(name: &str) -> (usize, usize) {
    match name {
        "aes256-gcm@openssh.com" => (32, 12),
        "aes128-gcm@openssh.com" => (16, 12),
        _ => (chacha::KEY_LEN, 0),
    }
}

impl Cipher {
    /// By its name, with as much key and nonce as [`lengths`] says.
    pub fn new(name: &str, key: &[u8], nonce: &[u8]) -> Result<Self, SshError> {
        const WRONG: SshError = SshError::Protocol("a key of the wrong length");
        let gcm = |algorithm: &'static Algorithm| {
            let key = UnboundKey::new(algorithm, key).map_err(|_| WRONG)?;
            let nonce = nonce.try_into().map_err(|_| WRONG)?;
            Ok(Self::Gcm { key: Box::new(LessSafeKey::new(key)), nonce })
        };
        match name {
            "aes256-gcm@openssh.com" => gcm(&AES_256_GCM),
            "aes128-gcm@openssh.com" => gcm(&AES_128_GCM),
            _ => {
                let key = key.try_into().map_err(|_| WRONG)?;
                let (sealing, opening) = (chacha::SealingKey::new(key), chacha::OpeningKey::new(key));
                Ok(Self::Chacha { sealing: Box::new(sealing), opening: Box::new(opening) })
            }
        }
    }

    /// Lengths of packets are multiples of this.
    pub fn block(&self) -> usize {
        if matches!(self, Self::Gcm { .. }) { 16 } else { 8 }
    }

    /// Whether the length of a packet counts towards its blocks.
    pub fn counts_length(&self) -> bool {
        matches!(self, Self::Plain)
    }

    /// Bytes behind a packet.
    pub fn tag(&self) -> usize {
        if matches!(self, Self::Plain) { 0 } else { TAG }
    }

    /// Seals a whole packet, its length first, in place, and adds the seal.
    pub fn seal(&mut self, sequence: u32, packet: &mut Vec<u8>) -> Result<(), SshError> {
        match self {
            Self::Plain => {}
            Self::Chacha { sealing, .. } => {
                let mut tag = [0; TAG];
                sealing.seal_in_place(sequence, packet, &mut tag);
                packet.extend(tag);
            }
            Self::Gcm { key, nonce } => {
                let (length, rest) = packet.split_at_mut(4);
                let once = Nonce::assume_unique_for_key(next(nonce));
                let tag = key.seal_in_place_separate_tag(once, Aad::from(&*length), rest);
                let tag = tag.map_err(|_| SshError::Protocol("a packet cannot be sealed"))?;
                packet.extend(tag.as_ref());
            }
        }
        Ok(())
    }

    /// The length that a packet says of itself.
    pub fn length(&self, sequence: u32, first: [u8; 4]) -> u32 {
        u32::from_be_bytes(match self {
            Self::Chacha { opening, .. } => opening.decrypt_packet_length(sequence, first),
            _ => first,
        })
    }

    /// Opens a whole packet with its seal, in place; answers what is behind its length.
    pub fn open<'a>(&mut self, sequence: u32, packet: &'a mut [u8]) -> Result<&'a [u8], SshError> {
        const FORGED: SshError = SshError::Forged("a packet");
        match self {
            Self::Plain => Ok(&packet[4..]),
            Self::Chacha { opening, .. } => {
                let (sealed, tag) = packet.split_last_chunk_mut::<TAG>().ok_or(FORGED)?;
                opening.open_in_place(sequence, sealed, tag).map_err(|_| FORGED)
            }
            Self::Gcm { key, nonce } => {
                let (length, rest) = packet.split_at_mut(4);
                let once = Nonce::assume_unique_for_key(next(nonce));
                key.open_in_place(once, Aad::from(&*length), rest).map(|opened| &*opened).map_err(|_| FORGED)
            }
        }
    }
}

/// The nonce of this packet; that of the next is one more in its last eight bytes.
fn next(nonce: &mut [u8; 12]) -> [u8; 12] {
    let this = *nonce;
    let counter = this.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    nonce[4..].copy_from_slice(&counter.wrapping_add(1).to_be_bytes());
    this
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_in_its_turn_alone_and_unchanged_alone() {
        for name in NAMES {
            let (key, nonce) = lengths(name);
            let make = || Cipher::new(name, &vec![7; key], &vec![9; nonce]).unwrap();
            let (mut here, mut there) = (make(), make());
            for sequence in 0..3 {
                let plain = [&16u32.to_be_bytes()[..], &[sequence as u8; 16]].concat();
                let mut packet = plain.clone();
                here.seal(sequence, &mut packet).unwrap();
                assert_eq!(packet.len(), plain.len() + TAG);
                assert_eq!(there.length(sequence, *packet.first_chunk().unwrap()), 16, "{name}");
                let mut damaged = packet.clone();
                damaged[10] ^= 1;
                assert!(make().open(sequence, &mut damaged).is_err(), "{name}");
                assert_eq!(there.open(sequence, &mut packet).unwrap(), &plain[4..], "{name}");
            }
            let mut again = [&16u32.to_be_bytes()[..], &[0; 16]].concat();
            make().seal(0, &mut again).unwrap();
            assert!(there.open(3, &mut again).is_err(), "{name}: an old packet");
        }
    }
}
