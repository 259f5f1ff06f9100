//! A server's signature, by whatever kind of key it has (RFC 4253, 6.6; 5656; 8332; 8709).

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

use crate::SshError;
use crate::wire::Fields;

/// Ways to sign, and the kinds of key that they are done with, in the order of preference.
const WAYS: [(&str, &str); 5] = [
    ("ssh-ed25519", "ssh-ed25519"),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    ("rsa-sha2-512", "ssh-rsa"),
    ("rsa-sha2-256", "ssh-rsa"),
];

/// What the server may sign with: any way, but those of the kinds it is known by if there are such.
pub(crate) fn names(known: &[String]) -> String {
    let wanted = |kind: &str| known.iter().any(|known| known == kind);
    let all = || WAYS.iter().filter(|(_, kind)| !WAYS.iter().any(|(_, kind)| wanted(kind)) || wanted(kind));
    all().map(|(way, _)| *way).collect::<Vec<_>>().join(",")
}

/// Whether a key signed for `hash`, in that way.
pub(crate) fn verify(key: &[u8], way: &str, signature: &[u8], hash: &[u8]) -> Result<(), SshError> {
    const FORGED: SshError = SshError::Forged("the server's key");
    let (mut key, mut signature) = (Fields::of(key), Fields::of(signature));
    let kind = key.text()?;
    if signature.text()? != way || !WAYS.contains(&(way, kind)) {
        return Err(FORGED);
    }
    let signature = signature.bytes()?;
    let plain = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8], signature: &[u8]| {
        UnparsedPublicKey::new(algorithm, key).verify(hash, signature).map_err(|_| FORGED)
    };
    let mut curve = |algorithm: &'static dyn VerificationAlgorithm, size: usize| {
        key.bytes()?;
        let mut halves = Fields::of(signature);
        let fixed = [padded(halves.big()?, size)?, padded(halves.big()?, size)?].concat();
        plain(algorithm, key.bytes()?, &fixed)
    };
    match way {
        "ssh-ed25519" => plain(&ED25519, key.bytes()?, signature),
        "ecdsa-sha2-nistp256" => curve(&ECDSA_P256_SHA256_FIXED, 32),
        "ecdsa-sha2-nistp384" => curve(&ECDSA_P384_SHA384_FIXED, 48),
        _ => {
            let (e, n) = (key.big()?, key.big()?);
            let sha512 = way == "rsa-sha2-512";
            let parameters: &RsaParameters =
                if sha512 { &RSA_PKCS1_2048_8192_SHA512 } else { &RSA_PKCS1_2048_8192_SHA256 };
            RsaPublicKeyComponents { n, e }.verify(parameters, hash, signature).map_err(|_| FORGED)
        }
    }
}

fn padded(number: &[u8], size: usize) -> Result<Vec<u8>, SshError> {
    let zeros = size.checked_sub(number.len()).ok_or(SshError::Forged("the server's key"))?;
    Ok([&vec![0; zeros][..], number].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_for_the_kinds_of_key_it_is_known_by() {
        let all = names(&[]);
        assert!(
            all.starts_with("ssh-ed25519,") && all.ends_with("rsa-sha2-512,rsa-sha2-256") && !all.contains("ssh-rsa")
        );
        assert_eq!(names(&["ssh-rsa".to_owned()]), "rsa-sha2-512,rsa-sha2-256");
        assert_eq!(names(&["ssh-dss".to_owned()]), all, "a kind that is not spoken tells nothing");
    }
}
