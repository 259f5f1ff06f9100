//! The certificates, keys and tokens of an instance, made on the first start and kept.

use std::{fs, net::IpAddr, time::Duration};

use anyhow::{Context, Result};
use rand::RngExt;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::instance::{Instance, write_private};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The authority outlives the leaves, which are renewed at every start.
const CA_DAYS: u32 = 3650;
const LEAF_DAYS: u32 = 365;

/// A certificate with its key, PEM.
#[derive(Clone)]
pub struct Identity {
    /// One certificate.
    pub certificate: String,
    /// PKCS #8.
    pub key: String,
}

/// What an instance proves itself and its administrator with.
pub struct Pki {
    /// PEM of the authority, for clients to trust.
    pub ca: String,
    /// PKCS #8 PEM of the authority's key, which signs what was approved.
    pub ca_key: String,
    /// The API's own.
    pub server: Identity,
    /// Group `system:masters`.
    pub admin: Identity,
    /// The administrator's bearer token.
    pub admin_token: String,
    /// PKCS #8 PEM of the key that signs service account tokens (ECDSA P-256).
    pub service_account_key: String,
}

impl Pki {
    /// Loads what is there and makes what is missing. Leaf certificates are made anew, because addresses change.
    pub fn load_or_create(instance: &Instance, addresses: &[IpAddr], names: &[String]) -> Result<Self> {
        let dir = instance.path("pki");
        fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
        let (ca_key_path, ca_path) = (dir.join("ca.key"), dir.join("ca.crt"));
        let (issuer, ca, ca_key) = match (fs::read_to_string(&ca_key_path), fs::read_to_string(&ca_path)) {
            (Ok(key), Ok(ca)) => (Issuer::new(ca_params()?, KeyPair::from_pem(&key)?), ca, key),
            _ => {
                let key = KeyPair::generate()?;
                let params = ca_params()?;
                let ca = params.self_signed(&key)?.pem();
                let pem = key.serialize_pem();
                write_private(&ca_key_path, pem.as_bytes())?;
                write_private(&ca_path, ca.as_bytes())?;
                (Issuer::new(params, key), ca, pem)
            }
        };
        let server = leaf(&issuer, "hythe", &[], addresses, names, ExtendedKeyUsagePurpose::ServerAuth)?;
        let admin = leaf(&issuer, "admin", &["system:masters"], &[], &[], ExtendedKeyUsagePurpose::ClientAuth)?;
        let service_account_key =
            kept(instance, "pki/service-account.key", || Ok(KeyPair::generate()?.serialize_pem()))?;
        let admin_token = kept(instance, "admin.token", || {
            let bytes: [u8; 32] = rand::rng().random();
            Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
        })?;
        Ok(Self { ca, ca_key, server, admin, admin_token, service_account_key })
    }
}

/// A secret that is made once.
fn kept(instance: &Instance, name: &str, make: impl FnOnce() -> Result<String>) -> Result<String> {
    let path = instance.path(name);
    if let Ok(text) = fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim_end_matches('\n').to_owned());
    }
    let text = make()?;
    write_private(&path, text.as_bytes())?;
    Ok(text)
}

fn ca_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name("hythe-ca", &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    validity(&mut params, CA_DAYS);
    Ok(params)
}

fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    common_name: &str,
    organizations: &[&str],
    addresses: &[IpAddr],
    names: &[String],
    usage: ExtendedKeyUsagePurpose,
) -> Result<Identity> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.subject_alt_names.extend(addresses.iter().map(|a| SanType::IpAddress(*a)));
    params.distinguished_name = name(common_name, organizations);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, LEAF_DAYS);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok(Identity { certificate, key: key.serialize_pem() })
}

fn name(common_name: &str, organizations: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, *organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// From a day ago, so that a clock that lags a little does no harm.
fn validity(params: &mut CertificateParams, days: u32) {
    let now = std::time::SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
}
