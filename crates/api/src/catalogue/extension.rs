//! What extends the API itself.

use super::entry::{Entry, cluster};
use crate::schema::types::*;

const CATEGORY: &[&str] = &["api-extensions"];

pub fn api_services() -> Vec<Entry> {
    vec![
        cluster("apiregistration.k8s.io", "v1", "APIService", "apiservices", &apiregistration_v1_APIService)
            .category(CATEGORY)
            .status(),
    ]
}

pub fn definitions() -> Vec<Entry> {
    vec![
        cluster(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            &apiextensions_v1_CustomResourceDefinition,
        )
        .short(&["crd", "crds"])
        .category(CATEGORY)
        .status(),
    ]
}

pub fn admission() -> Vec<Entry> {
    const GROUP: &str = "admissionregistration.k8s.io";
    let kind = |kind, plural, schema| cluster(GROUP, "v1", kind, plural, schema).category(CATEGORY);
    vec![
        kind("MutatingAdmissionPolicy", "mutatingadmissionpolicies", &admissionregistration_v1_MutatingAdmissionPolicy),
        kind(
            "MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
            &admissionregistration_v1_MutatingAdmissionPolicyBinding,
        ),
        kind(
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
            &admissionregistration_v1_MutatingWebhookConfiguration,
        ),
        kind(
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            &admissionregistration_v1_ValidatingAdmissionPolicy,
        )
        .status(),
        kind(
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            &admissionregistration_v1_ValidatingAdmissionPolicyBinding,
        ),
        kind(
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            &admissionregistration_v1_ValidatingWebhookConfiguration,
        ),
    ]
}
