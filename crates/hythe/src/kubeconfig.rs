//! The kubeconfig that `up` writes for the administrator.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::pki::Pki;

/// A kubeconfig with one cluster, one user (client certificate) and one context, all named `hythe`. YAML.
pub fn administrator(pki: &Pki, server: &str) -> String {
    let encode = |pem: &str| STANDARD.encode(pem);
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "hythe", "cluster": {
            "server": server,
            "certificate-authority-data": encode(&pki.ca),
        }}],
        "users": [{"name": "hythe", "user": {
            "client-certificate-data": encode(&pki.admin.certificate),
            "client-key-data": encode(&pki.admin.key),
        }}],
        "contexts": [{"name": "hythe", "context": {"cluster": "hythe", "user": "hythe"}}],
        "current-context": "hythe",
    });
    serde_yaml_ng::to_string(&config).expect("a tree of strings is always YAML")
}
