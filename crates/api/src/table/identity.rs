//! Role bindings and certificates.

use serde_json::Value;

use super::{
    age::human_duration,
    cell::{at, list_at, text_at, text_or},
    column::{AGE, NAME, text, wide},
};
use crate::resource::Column;

pub(super) const ROLE_BINDINGS: &[Column] = &[
    NAME,
    text("Role", "The role that it gives.", |o, _| {
        format!("{}/{}", text_at(o, "/roleRef/kind"), text_at(o, "/roleRef/name")).into()
    }),
    AGE,
    wide("Users", "Users that have the role.", |o, _| subjects(o, "User").into()),
    wide("Groups", "Groups that have the role.", |o, _| subjects(o, "Group").into()),
    wide("ServiceAccounts", "Service accounts that have the role.", |o, _| subjects(o, "ServiceAccount").into()),
];

pub(super) const SIGNING_REQUESTS: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", "Who shall sign.", |o, _| text_or(o, "/spec/signerName", "<none>").into()),
    text("Requestor", "Who asks.", |o, _| text_at(o, "/spec/username").into()),
    text("RequestedDuration", "How long it shall be good.", |o, _| {
        match at(o, "/spec/expirationSeconds").and_then(Value::as_i64) {
            Some(seconds) => human_duration(seconds).into(),
            None => "<none>".into(),
        }
    }),
    text("Condition", "What has become of it.", |o, _| condition(o).into()),
];

pub(super) const TRUST_BUNDLES: &[Column] =
    &[NAME, text("SignerName", "Whose certificates it holds.", |o, _| text_at(o, "/spec/signerName").into())];

fn subjects(binding: &Value, kind: &str) -> String {
    let of_kind = list_at(binding, "/subjects").iter().filter(|s| text_at(s, "/kind") == kind);
    let names = of_kind.map(|s| match (text_at(s, "/namespace"), text_at(s, "/name")) {
        (namespace, name) if kind == "ServiceAccount" && !namespace.is_empty() => format!("{namespace}/{name}"),
        (_, name) => name.to_owned(),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn condition(request: &Value) -> String {
    let has = |r#type: &str| list_at(request, "/status/conditions").iter().any(|c| text_at(c, "/type") == r#type);
    let mut text = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !text_at(request, "/status/certificate").is_empty() {
        text.push_str(",Issued");
    }
    text
}
