//! CertificateSigningRequests that were approved are signed with the cluster's authority, for those of upstream's signers
//! that need nothing else: clients of the API, kubelets as clients and kubelets as servers.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, ResourceExt, api::PostParams};
use rcgen::{
    CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use tokio::task::JoinSet;

use crate::{
    Error, Shared,
    informer::{Informer, untouched},
    queue::{Key, Queue},
};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// How long a certificate is good if nothing less is asked for (upstream: `cluster-signing-duration`).
const LASTS: SignedDuration = SignedDuration::from_hours(365 * 24);
/// So that clocks that lag a little do no harm.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);

/// The cluster's authority.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM (PKCS #8).
    pub key: String,
}

pub(crate) async fn run(shared: Shared, authority: Authority) {
    let mut tasks = JoinSet::new();
    let requests: Informer<CertificateSigningRequest> = Informer::start(shared.client.clone(), untouched, &mut tasks);
    let queue = Queue::default();
    requests.synced().await;
    let on_request = queue.clone();
    requests.listen(move |change| on_request.add(Key::of(&**change.object())));
    let authority = Arc::new(authority);
    let work = |key| reconcile(shared.clone(), requests.clone(), authority.clone(), key);
    queue.work("csrsigning", 1, work).await;
}

async fn reconcile(
    shared: Shared,
    requests: Informer<CertificateSigningRequest>,
    authority: Arc<Authority>,
    key: Key,
) -> Result<(), Error> {
    let Some(request) = requests.get(&key).filter(|request| waits(request)) else { return Ok(()) };
    if ![CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&request.spec.signer_name.as_str()) {
        return Ok(());
    }
    let mut request = (*request).clone();
    let now = Timestamp::now();
    match sign(&request, &authority, now) {
        Ok(certificate) => {
            let status = request.status.get_or_insert_default();
            status.certificate = Some(ByteString(certificate.into_bytes()));
        }
        Err(why) => fail(request.status.get_or_insert_default(), &why, now),
    }
    let api: Api<CertificateSigningRequest> = Api::all(shared.client.clone());
    match api.replace_status(&request.name_any(), &PostParams::default(), &request).await.map_err(Error::from) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// Approved, not denied, and neither signed nor failed yet.
fn waits(request: &CertificateSigningRequest) -> bool {
    let status = request.status.as_ref();
    let has = |kind: &str| status.is_some_and(|s| s.conditions.iter().flatten().any(|c| c.type_ == kind));
    let signed = status.is_some_and(|s| s.certificate.as_ref().is_some_and(|c| !c.0.is_empty()));
    has("Approved") && !has("Denied") && !has("Failed") && !signed
}

fn fail(status: &mut CertificateSigningRequestStatus, why: &str, now: Timestamp) {
    let condition = k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition {
        type_: "Failed".to_owned(),
        status: "True".to_owned(),
        reason: Some("SignerValidationFailure".to_owned()),
        message: Some(why.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    status.conditions.get_or_insert_default().push(condition);
}

/// The certificate (PEM), or upstream's words for why there is none.
fn sign(request: &CertificateSigningRequest, authority: &Authority, now: Timestamp) -> Result<String, String> {
    let text = String::from_utf8_lossy(&request.spec.request.0);
    let mut wanted = CertificateSigningRequestParams::from_pem(&text)
        .map_err(|error| format!("unable to parse csr {:?}: {error}", request.name_any()))?;
    check(&request.spec.signer_name, &request.spec.usages.clone().unwrap_or_default(), &wanted)?;
    let lasts = request.spec.expiration_seconds.map_or(LASTS, |s| SignedDuration::from_secs(s.into()).min(LASTS));
    let params = &mut wanted.params;
    params.not_before = std::time::SystemTime::from(now - BACKDATED).into();
    params.not_after = std::time::SystemTime::from(now + lasts).into();
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    let usages = request.spec.usages.iter().flatten().map(String::as_str);
    params.key_usages = usages.clone().filter_map(key_usage).collect();
    params.extended_key_usages = usages.filter_map(extended_usage).collect();
    let sign = || -> Result<String, rcgen::Error> {
        let key = KeyPair::from_pem(&authority.key)?;
        let issuer = Issuer::from_ca_cert_pem(&authority.certificate, key)?;
        Ok(wanted.signed_by(&issuer)?.pem())
    };
    sign().map_err(|error| format!("error signing csr: {error}"))
}

fn key_usage(name: &str) -> Option<KeyUsagePurpose> {
    match name {
        "digital signature" | "signing" => Some(KeyUsagePurpose::DigitalSignature),
        "key encipherment" => Some(KeyUsagePurpose::KeyEncipherment),
        _ => None,
    }
}

fn extended_usage(name: &str) -> Option<ExtendedKeyUsagePurpose> {
    match name {
        "client auth" => Some(ExtendedKeyUsagePurpose::ClientAuth),
        "server auth" => Some(ExtendedKeyUsagePurpose::ServerAuth),
        _ => None,
    }
}

/// What each signer asks of a request.
fn check(signer: &str, usages: &[String], wanted: &CertificateSigningRequestParams) -> Result<(), String> {
    if signer == CLIENT {
        let other =
            usages.iter().find(|u| !matches!(u.as_str(), "digital signature" | "key encipherment" | "client auth"));
        return match other {
            Some(usage) => Err(format!("invalid usage for client certificate: {usage}")),
            None if usages.iter().any(|u| u == "client auth") => Ok(()),
            None => Err("missing required usage for client certificate: client auth".to_owned()),
        };
    }
    let text = |kind: DnType| wanted.params.distinguished_name.get(&kind).map(plain);
    if text(DnType::OrganizationName).as_deref() != Some("system:nodes") {
        return Err("subject organization is not system:nodes".to_owned());
    }
    if !text(DnType::CommonName).is_some_and(|name| name.starts_with("system:node:")) {
        return Err("subject common name does not begin with system:node: ".to_owned());
    }
    let (serves, names) = (signer == KUBELET_SERVING, &wanted.params.subject_alt_names);
    let has = |wanted: fn(&SanType) -> bool| names.iter().any(wanted);
    let dns = has(|n| matches!(n, SanType::DnsName(_)));
    let ip = has(|n| matches!(n, SanType::IpAddress(_)));
    if has(|n| matches!(n, SanType::Rfc822Name(_))) {
        return Err("Email subjectAltNames are not allowed".to_owned());
    }
    if has(|n| matches!(n, SanType::URI(_))) {
        return Err("URI subjectAltNames are not allowed".to_owned());
    }
    match serves {
        true if !dns && !ip => return Err("DNS or IP subjectAltName is required".to_owned()),
        false if dns => return Err("DNS subjectAltNames are not allowed".to_owned()),
        false if ip => return Err("IP subjectAltNames are not allowed".to_owned()),
        _ => {}
    }
    let purpose = if serves { "server auth" } else { "client auth" };
    let mut left: Vec<&str> = usages.iter().map(String::as_str).filter(|usage| *usage != "key encipherment").collect();
    left.sort_unstable();
    left.dedup();
    if left == if serves { ["digital signature", "server auth"] } else { ["client auth", "digital signature"] } {
        return Ok(());
    }
    Err(format!("usages did not match [digital signature key encipherment {purpose}]"))
}

fn plain(value: &DnValue) -> String {
    match value {
        DnValue::Utf8String(text) => text.clone(),
        DnValue::PrintableString(text) => text.as_str().to_owned(),
        DnValue::Ia5String(text) => text.as_str().to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams};
    use serde_json::json;

    use super::*;

    fn authority() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "ca");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Authority { certificate, key: key.serialize_pem() }
    }

    fn request(
        signer: &str,
        organization: &str,
        name: &str,
        dns: &[&str],
        usages: &[&str],
    ) -> CertificateSigningRequest {
        let names: Vec<String> = dns.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.serialize_request(&KeyPair::generate().expect("a key")).expect("a request").pem();
        let mut request: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"name": "r"}, "spec": {"request": "", "signerName": signer, "usages": usages},
            "status": {"conditions": [{"type": "Approved", "status": "True"}]},
        }))
        .expect("a request");
        request.spec.request = ByteString(pem.expect("text").into_bytes());
        request
    }

    #[test]
    fn what_the_signers_take_is_signed() {
        let (authority, now) = (authority(), Timestamp::now());
        for (signer, organization, name, dns, usages) in [
            (CLIENT, "team", "jane", &[][..], &["client auth"][..]),
            (KUBELET_CLIENT, "system:nodes", "system:node:n", &[], &["digital signature", "client auth"]),
            (
                KUBELET_SERVING,
                "system:nodes",
                "system:node:n",
                &["n.local"],
                &["digital signature", "key encipherment", "server auth"],
            ),
        ] {
            let signed = sign(&request(signer, organization, name, dns, usages), &authority, now);
            assert!(signed.expect("it is signed").starts_with("-----BEGIN CERTIFICATE-----"), "{signer}");
        }
    }

    #[test]
    fn what_they_do_not_take_is_refused_in_upstreams_words() {
        let (authority, now) = (authority(), Timestamp::now());
        for (signer, organization, name, dns, usages, words) in [
            (CLIENT, "t", "j", &[][..], &["server auth"][..], "invalid usage for client certificate: server auth"),
            (
                CLIENT,
                "t",
                "j",
                &[],
                &["digital signature"],
                "missing required usage for client certificate: client auth",
            ),
            (KUBELET_CLIENT, "t", "system:node:n", &[], &["client auth"], "subject organization is not system:nodes"),
            (
                KUBELET_CLIENT,
                "system:nodes",
                "n",
                &[],
                &["client auth"],
                "subject common name does not begin with system:node: ",
            ),
            (
                KUBELET_CLIENT,
                "system:nodes",
                "system:node:n",
                &["n"],
                &["client auth"],
                "DNS subjectAltNames are not allowed",
            ),
            (
                KUBELET_SERVING,
                "system:nodes",
                "system:node:n",
                &[],
                &["server auth"],
                "DNS or IP subjectAltName is required",
            ),
        ] {
            let refused = sign(&request(signer, organization, name, dns, usages), &authority, now);
            assert_eq!(refused.expect_err("it is refused"), words);
        }
    }

    #[test]
    fn only_what_is_approved_and_not_yet_answered_waits() {
        let approved = request(CLIENT, "t", "j", &[], &["client auth"]);
        assert!(waits(&approved));
        for more in ["Denied", "Failed"] {
            let mut other = approved.clone();
            fail(other.status.get_or_insert_default(), "no", Timestamp::now());
            let conditions = other.status.as_mut().and_then(|s| s.conditions.as_mut()).expect("there are some");
            more.clone_into(&mut conditions[1].type_);
            assert!(!waits(&other), "{more}");
        }
        let mut signed = approved;
        signed.status.get_or_insert_default().certificate = Some(ByteString(b"x".to_vec()));
        assert!(!waits(&signed));
    }
}
