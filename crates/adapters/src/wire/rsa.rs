//! Encryption by a public RSA key with OAEP and SHA-1 (RFC 8017, section 7.1.1), as MySQL wants a password over a plain
//! connection when it has not cached it. Only the public half, a few hundred lines less than a library.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest;

/// The largest modulus, in bytes.
const MOST: usize = 1024;

/// Encrypts with a key in PEM (`BEGIN PUBLIC KEY`); nothing if the key is none, or too small for the message.
pub(crate) fn encrypt(pem: &str, message: &[u8], seed: [u8; 20]) -> Option<Vec<u8>> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let (modulus, exponent) = public_key(&STANDARD.decode(body).ok()?)?;
    let size = modulus.len();
    let padded = pad(message, seed, size)?;
    Some(power(&padded, &exponent, &modulus))
}

/// `EM = 0 || masked seed || masked (hash of the label || 0… || 1 || message)`.
fn pad(message: &[u8], seed: [u8; 20], size: usize) -> Option<Vec<u8>> {
    let room = size.checked_sub(42)?;
    if message.len() > room {
        return None;
    }
    let mut data = sha1(b"");
    data.resize(20 + room - message.len(), 0);
    data.push(1);
    data.extend_from_slice(message);
    let data: Vec<u8> = data.iter().zip(mask(&seed, data.len())).map(|(left, right)| left ^ right).collect();
    let seed = seed.iter().zip(mask(&data, 20)).map(|(left, right)| left ^ right);
    Some(std::iter::once(0).chain(seed).chain(data.iter().copied()).collect())
}

fn mask(seed: &[u8], length: usize) -> Vec<u8> {
    let mut mask: Vec<u8> =
        (0u32..).flat_map(|count| sha1(&[seed, &count.to_be_bytes()].concat())).take(length).collect();
    mask.truncate(length);
    mask
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

/// Modulus and exponent of a SubjectPublicKeyInfo.
fn public_key(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (outer, _) = element(der, 0x30)?;
    let (_algorithm, rest) = element(outer, 0x30)?;
    let (bits, _) = element(rest, 0x03)?;
    let (key, _) = element(bits.strip_prefix(&[0])?, 0x30)?;
    let (modulus, rest) = element(key, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    let plain = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let (modulus, exponent) = (plain(modulus), plain(exponent));
    let legal = (64..=MOST).contains(&modulus.len()) && !exponent.is_empty() && exponent.len() <= 8;
    (legal && modulus.last().is_some_and(|last| last & 1 == 1)).then_some((modulus, exponent))
}

/// One element of DER, and what follows it.
fn element(der: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let rest = der.strip_prefix(&[kind])?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), &rest[2..]),
        _ => return None,
    };
    (length <= rest.len()).then(|| rest.split_at(length))
}

/// `base ^ exponent mod modulus`, big-endian, by squaring; the exponent is public, so its bits need not be hidden.
fn power(base: &[u8], exponent: &[u8], modulus: &[u8]) -> Vec<u8> {
    let (base, modulus_limbs) = (limbs(base), limbs(modulus));
    let mut result = vec![0u32; modulus_limbs.len()];
    result[0] = 1;
    for byte in exponent {
        for bit in (0..8).rev() {
            result = multiply(&result, &result, &modulus_limbs);
            if byte >> bit & 1 == 1 {
                result = multiply(&result, &base, &modulus_limbs);
            }
        }
    }
    let mut bytes: Vec<u8> = result.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect();
    bytes.drain(..bytes.len() - modulus.len());
    bytes
}

/// The lowest first.
fn limbs(bytes: &[u8]) -> Vec<u32> {
    bytes.rchunks(4).map(|chunk| chunk.iter().fold(0, |limb, byte| limb << 8 | u32::from(*byte))).collect()
}

/// `left * right mod modulus`, adding and doubling bit by bit: slow, and plenty for one password.
fn multiply(left: &[u32], right: &[u32], modulus: &[u32]) -> Vec<u32> {
    let size = modulus.len();
    let mut result = vec![0u32; size];
    for limb in right.iter().rev() {
        for bit in (0..32).rev() {
            let carry = double(&mut result);
            reduce(&mut result, carry, modulus);
            if limb >> bit & 1 == 1 {
                let carry = add(&mut result, left);
                reduce(&mut result, carry, modulus);
            }
        }
    }
    result
}

fn double(number: &mut [u32]) -> bool {
    let mut carry = false;
    for limb in number {
        let next = *limb >> 31 == 1;
        *limb = *limb << 1 | u32::from(carry);
        carry = next;
    }
    carry
}

fn add(number: &mut [u32], other: &[u32]) -> bool {
    let mut carry = 0u64;
    for (at, limb) in number.iter_mut().enumerate() {
        let sum = u64::from(*limb) + u64::from(other.get(at).copied().unwrap_or(0)) + carry;
        *limb = sum as u32;
        carry = sum >> 32;
    }
    carry == 1
}

/// Takes the modulus off where the number has reached it. A summand is below the modulus, so once is enough.
fn reduce(number: &mut [u32], carry: bool, modulus: &[u32]) {
    if !carry && number.iter().rev().lt(modulus.iter().rev()) {
        return;
    }
    let mut borrow = 0i64;
    for (limb, taken) in number.iter_mut().zip(modulus) {
        let difference = i64::from(*limb) - i64::from(*taken) + borrow;
        *limb = difference as u32;
        borrow = difference >> 32;
    }
}

/// What was encrypted, by the private exponent.
#[cfg(test)]
pub(super) fn decrypt(sealed: &[u8], exponent: &[u8], modulus: &[u8]) -> Option<Vec<u8>> {
    let padded = power(sealed, exponent, modulus);
    let (seed, data) = padded.strip_prefix(&[0])?.split_at_checked(20)?;
    let seed: Vec<u8> = seed.iter().zip(mask(data, 20)).map(|(left, right)| left ^ right).collect();
    let data: Vec<u8> = data.iter().zip(mask(&seed, data.len())).map(|(left, right)| left ^ right).collect();
    let rest = data.strip_prefix(sha1(b"").as_slice())?;
    let one = rest.iter().position(|byte| *byte != 0)?;
    rest[one..].strip_prefix(&[1]).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_right() {
        // 4^13 mod 497 = 445, and the same with a modulus of 65 bits.
        assert_eq!(power(&[0, 4], &[13], &[1, 0xf1]), [0x01, 0xbd]);
        // 3^5 mod (2^64 + 13) is 243.
        let modulus = [1, 0, 0, 0, 0, 0, 0, 0, 13];
        assert_eq!(power(&[3], &[5], &modulus), [0, 0, 0, 0, 0, 0, 0, 0, 243]);
        // (2^64 + 12)^2 mod (2^64 + 13) is (-1)^2.
        assert_eq!(power(&[1, 0, 0, 0, 0, 0, 0, 0, 12], &[2], &modulus), [0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn what_is_no_key_encrypts_nothing() {
        assert_eq!(encrypt("", b"x", [0; 20]), None);
        assert_eq!(encrypt("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n", b"x", [0; 20]), None);
    }

    /// A key and a text whose encryption `openssl pkeyutl -decrypt -pkeyopt rsa_padding_mode:oaep` has read back.
    const KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvXGI8ycwftkChYGixsi0\n\
GIrKq8G/GpseY7JBS4MjKhoMGeWWByaces/HwIyftVLbpEchLIGkY9WM+85KGJFE\n\
PDyTNqgefy5uE089y66f+XuZM3NJEwoLIwnHkwHIMVm/C52m6zcMFTKdHJcV+Vol\n\
/kkeVdevi9EtHVulvRKwA3r4lLV8TI2PYu5XchKVTlcnrRrsCbPw1BpdPuAdg2iD\n\
xKnODwHg0K1DBkoh4cm89qBhzWBpa2vVAGxlQY/Ov7vtyDbKbVWL6ckBVjao8BjT\n\
ha643vHYKirSjn0rJT++SEaguEnv8wND62pQHWMvRoK9qcvRXQchS/TUHJyLLFZz\n\
IwIDAQAB\n\
-----END PUBLIC KEY-----\n\n";

    #[test]
    fn what_is_encrypted_is_what_openssl_decrypts() {
        let sealed = encrypt(KEY, b"the password\0", [7; 20]).unwrap();
        let hash = hex::encode(digest::digest(&digest::SHA256, &sealed));
        assert_eq!(hash, "556628c9e51209d79d1c8e804d752633ecc40671c66997c2fb7079061e031c63");
        assert_eq!(encrypt(KEY, &[0; 215], [7; 20]), None, "a message that does not fit is not cut");
    }
}
