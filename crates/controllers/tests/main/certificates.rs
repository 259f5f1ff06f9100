//! CertificateSigningRequests that were approved get their certificates.

use k8s_openapi::{ByteString, api::certificates::v1::CertificateSigningRequest};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::json;

use crate::world::{World, until_in};

fn authority() -> controllers::Authority {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    controllers::Authority {
        certificate: params.self_signed(&key).expect("a certificate").pem(),
        key: key.serialize_pem(),
    }
}

fn request(name: &str, signer: &str, usages: &[&str]) -> CertificateSigningRequest {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params.serialize_request(&KeyPair::generate().expect("a key")).expect("a request").pem().expect("text");
    let mut request: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"request": "", "signerName": signer, "usages": usages, "username": "somebody"},
    }))
    .expect("a request");
    request.spec.request = ByteString(pem.into_bytes());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_is_signed_or_fails() {
    let config = controllers::Config { signing: Some(authority()), ..controllers::Config::new("CA") };
    let world = World::configured(&[], config).await;
    let api: Api<CertificateSigningRequest> = Api::all(world.client.clone());
    const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
    for (name, signer, usages) in
        [("jane", CLIENT, "client auth"), ("wrong", CLIENT, "server auth"), ("theirs", "example.com/s", "client auth")]
    {
        let made = api.create(&PostParams::default(), &request(name, signer, &[usages])).await.expect("it is accepted");
        assert_eq!(made.spec.username.as_deref(), Some("system:admin"), "the server says who asks");
        let approved = json!({"status": {"conditions": [
            {"type": "Approved", "status": "True", "reason": "KubectlApprove", "message": "by hand"},
        ]}});
        let patch = Patch::Merge(approved);
        api.patch_subresource("approval", name, &PatchParams::default(), &patch).await.expect("it is approved");
    }
    let answered = |request: &CertificateSigningRequest| {
        let status = request.status.clone().unwrap_or_default();
        let failed = status.conditions.iter().flatten().find(|c| c.type_ == "Failed").cloned();
        (status.certificate, failed)
    };
    let all = until_in(api, "both of the cluster's signer to be answered", |all: &[CertificateSigningRequest]| {
        let done = |name: &str| {
            all.iter().any(|r| r.name_any() == name && (answered(r).0.is_some() || answered(r).1.is_some()))
        };
        done("jane") && done("wrong")
    })
    .await;
    let of = |name: &str| answered(all.iter().find(|r| r.name_any() == name).expect("it is there"));
    let certificate = of("jane").0.expect("it is signed");
    assert!(certificate.0.starts_with(b"-----BEGIN CERTIFICATE-----"));
    let failed = of("wrong").1.expect("it failed");
    assert_eq!(failed.reason.as_deref(), Some("SignerValidationFailure"));
    assert_eq!(failed.message.as_deref(), Some("invalid usage for client certificate: server auth"));
    assert_eq!(of("theirs"), (None, None), "another's signer is left alone");
}
