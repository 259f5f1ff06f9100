//! A pod runs under a service account, whose token is mounted into its containers.

use std::time::Duration;

use api::status::Status;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Attributes;
use crate::{call::Call, failure::Outcome, scan, verbs::create::random_suffix};

const DEFAULT: &str = "default";
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";
/// Upstream's life of a pod's token in seconds: an hour, and 7 s that tell such tokens from others.
const TOKEN_SECONDS: i64 = 3607;

/// How long a pod waits for the account that each namespace gets after it was made, and how often it looks
/// (upstream tries ten times).
const PATIENCE: Duration = Duration::from_millis(1500);
const LOOK: Duration = Duration::from_millis(25);

/// Waits for the account `default` of a namespace that was made a moment ago.
pub(crate) async fn settle(call: &Call<'_>, pod: &Value) {
    if !matches!(pod["spec"]["serviceAccountName"].as_str(), None | Some("" | DEFAULT)) {
        return;
    }
    let cache = &call.server.cache;
    let namespace = &call.path.namespace;
    let goes_on = || {
        let of = cache.kind("namespaces").named("", namespace);
        of.is_some_and(|of| of.parse()["metadata"]["deletionTimestamp"].is_null())
    };
    let until = Instant::now() + PATIENCE;
    while cache.kind("serviceaccounts").named(namespace, DEFAULT).is_none() && Instant::now() < until && goes_on() {
        tokio::time::sleep(LOOK).await;
        cache.fresh().await;
    }
}

pub(super) fn give(request: &Attributes<'_>, pod: &mut Value) -> Outcome<()> {
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Ok(());
    }
    if pod["spec"]["serviceAccountName"].as_str().unwrap_or("").is_empty() {
        pod["spec"]["serviceAccountName"] = DEFAULT.into();
    }
    let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or("").to_owned();
    // The deprecated alias is kept in step, as upstream's conversion does.
    pod["spec"]["serviceAccount"] = name.as_str().into();
    let accounts = request.server.cache.kind("serviceaccounts");
    let account = accounts.named(request.namespace, &name).ok_or_else(|| {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
            request.namespace
        );
        Status::forbidden("", "pods", request.name, why)
    })?;
    let account = scan::pick(&account.bytes, &["/automountServiceAccountToken", "/imagePullSecrets"]);
    let mounts = pod["spec"]["automountServiceAccountToken"]
        .as_bool()
        .or_else(|| account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if mounts {
        mount_token(pod);
    }
    let secrets = account["imagePullSecrets"].as_array().map(Vec::as_slice).unwrap_or_default();
    if pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty) && !secrets.is_empty() {
        pod["spec"]["imagePullSecrets"] = json!(secrets);
    }
    Ok(())
}

/// Adds the volume, and a mount to each container that has none at that place.
fn mount_token(pod: &mut Value) {
    let volumes = pod["spec"]["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let present = volumes.iter().filter_map(|v| v["name"].as_str()).find(|name| name.starts_with(VOLUME));
    let (name, is_new) = match present {
        Some(name) => (name.to_owned(), false),
        None => (format!("{VOLUME}{}", random_suffix()), true),
    };
    let mut used = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let mounts = container["volumeMounts"].as_array().map(Vec::as_slice).unwrap_or_default();
            if mounts.iter().any(|m| m["mountPath"] == MOUNT) {
                continue;
            }
            used = true;
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT});
            match container["volumeMounts"].as_array_mut() {
                Some(mounts) => mounts.push(mount),
                None => container["volumeMounts"] = json!([mount]),
            }
        }
    }
    if !used || !is_new {
        return;
    }
    let namespace = json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
    let volume = json!({"name": name, "projected": {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
        "defaultMode": 420,
    }});
    match pod["spec"]["volumes"].as_array_mut() {
        Some(volumes) => volumes.push(volume),
        None => pod["spec"]["volumes"] = json!([volume]),
    }
}
