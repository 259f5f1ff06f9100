//! Tokens in Secrets that were made for accounts and that nobody uses: after a year they are marked, and a year later
//! they go (upstream's legacy token cleaner). Only what an account lists in its `secrets` counts as made for it; when a
//! token was used is in a label, and since when that is noted in a ConfigMap.

use std::{collections::HashSet, time::Duration};

use api::token_secret::{ACCOUNT, ACCOUNT_UID, INVALID_SINCE, LAST_USED, TRACKING};
use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;

use crate::{Error, Shared, error::gone_is_fine, token_secrets::only};

const PERIOD: Duration = Duration::from_secs(24 * 3600);
/// How long a token may be of no use.
const IDLE_DAYS: i64 = 365;

/// What becomes of a Secret.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stays,
    Marked,
    Goes,
}

pub(crate) async fn run(shared: Shared) {
    shared.accounts.synced().await;
    loop {
        if let Err(error) = sweep(&shared, Timestamp::now()).await {
            tracing::debug!(%error, "unused tokens are looked for tomorrow");
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

async fn sweep(shared: &Shared, now: Timestamp) -> Result<(), Error> {
    let today = day(now);
    let Ok(edge) = today.checked_sub(IDLE_DAYS.days()) else { return Ok(()) };
    let maps: Api<ConfigMap> = Api::namespaced(shared.client.clone(), "kube-system");
    let told = maps.get_opt(TRACKING).await?.and_then(|map| map.data?.remove("since"));
    // The first day is not whole.
    let since = told.and_then(|since| since.parse::<Date>().ok()?.tomorrow().ok());
    if since.is_none_or(|since| since > edge) {
        return Ok(());
    }
    let all: Api<Secret> = Api::all(shared.client.clone());
    for secret in all.list(&ListParams::default().fields(&only())).await? {
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        let account = account(shared, &secret);
        let api: Api<Secret> = Api::namespaced(shared.client.clone(), &namespace);
        let verdict = verdict(&secret, account.as_ref(), edge);
        if verdict == Verdict::Stays {
            continue;
        }
        let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &namespace);
        if pods.list(&ListParams::default()).await?.iter().any(|pod| names(pod, &name)) {
            continue;
        }
        match verdict {
            Verdict::Stays => {}
            Verdict::Marked => {
                let labels = json!({INVALID_SINCE: today.to_string()});
                let patch = Patch::Merge(json!({"metadata": {"uid": secret.uid(), "labels": labels}}));
                gone_is_fine(api.patch(&name, &PatchParams::default(), &patch).await.map(drop))?;
            }
            Verdict::Goes => {
                tracing::info!(namespace, name, "a token that nobody uses is withdrawn");
                let same = Preconditions { uid: None, resource_version: secret.resource_version() };
                let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
                gone_is_fine(api.delete(&name, &params).await.map(drop))?;
            }
        }
    }
    Ok(())
}

/// The account that the Secret was made for, as far as that can be told.
fn account(shared: &Shared, secret: &Secret) -> Option<ServiceAccount> {
    let annotation = |key: &str| secret.annotations().get(key).map(String::as_str).unwrap_or_default();
    let key = crate::queue::Key::new(secret.namespace().unwrap_or_default(), annotation(ACCOUNT));
    let account = shared.accounts.get(&key)?;
    let uid = annotation(ACCOUNT_UID);
    (uid.is_empty() || account.uid().as_deref() == Some(uid)).then(|| ServiceAccount::clone(&account))
}

/// `edge` is the first day of use that keeps it.
fn verdict(secret: &Secret, account: Option<&ServiceAccount>, edge: Date) -> Verdict {
    let label = |key: &str| secret.labels().get(key).map(|text| text.parse::<Date>());
    let young = secret.metadata.creation_timestamp.as_ref().is_none_or(|made| day(made.0) >= edge);
    let used = match label(LAST_USED) {
        None => false,
        // What can't be read can't be judged.
        Some(Err(_)) => true,
        Some(Ok(last)) => last >= edge,
    };
    let name = secret.name_any();
    let lists = |account: &ServiceAccount| {
        account.secrets.iter().flatten().any(|listed| listed.name.as_deref() == Some(name.as_str()))
    };
    if young || used || secret.metadata.deletion_timestamp.is_some() || !account.is_some_and(lists) {
        return Verdict::Stays;
    }
    match label(INVALID_SINCE) {
        None | Some(Err(_)) => Verdict::Marked,
        Some(Ok(since)) if since >= edge => Verdict::Stays,
        Some(Ok(_)) => Verdict::Goes,
    }
}

/// Whether a pod's spec names a Secret, wherever that may be.
fn names(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let mut found: HashSet<&str> = HashSet::new();
    found.extend(spec.image_pull_secrets.iter().flatten().map(|secret| secret.name.as_str()));
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for container in containers {
        let from = container.env_from.iter().flatten().filter_map(|from| Some(from.secret_ref.as_ref()?.name.as_str()));
        let keys = container.env.iter().flatten();
        let keys = keys.filter_map(|e| Some(e.value_from.as_ref()?.secret_key_ref.as_ref()?.name.as_str()));
        found.extend(from.chain(keys));
    }
    for volume in spec.volumes.iter().flatten() {
        found.extend(volume.secret.iter().filter_map(|secret| secret.secret_name.as_deref()));
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        found.extend(sources.filter_map(|source| Some(source.secret.as_ref()?.name.as_str())));
    }
    found.contains(name)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn secret(made: &str, labels: Value) -> Secret {
        serde_json::from_value(json!({"metadata": {"name": "t", "creationTimestamp": made, "labels": labels}}))
            .expect("a secret")
    }

    #[test]
    fn a_token_goes_a_year_after_it_was_marked_which_is_a_year_after_its_last_use() {
        let edge: Date = "2026-01-01".parse().expect("a day");
        let account: ServiceAccount = serde_json::from_value(json!({"secrets": [{"name": "t"}]})).expect("an account");
        let other = ServiceAccount::default();
        let old = "2024-05-01T00:00:00Z";
        let of = |secret: &Secret| verdict(secret, Some(&account), edge);
        assert_eq!(of(&secret(old, json!({}))), Verdict::Marked, "never used");
        assert_eq!(of(&secret("2026-01-01T00:00:00Z", json!({}))), Verdict::Stays, "it is young");
        assert_eq!(of(&secret(old, json!({LAST_USED: "2026-01-01"}))), Verdict::Stays);
        assert_eq!(of(&secret(old, json!({LAST_USED: "2025-12-31"}))), Verdict::Marked);
        assert_eq!(of(&secret(old, json!({LAST_USED: "some day"}))), Verdict::Stays);
        assert_eq!(of(&secret(old, json!({INVALID_SINCE: "2026-01-01"}))), Verdict::Stays, "not long enough");
        assert_eq!(of(&secret(old, json!({INVALID_SINCE: "2025-12-31"}))), Verdict::Goes);
        assert_eq!(of(&secret(old, json!({INVALID_SINCE: "true"}))), Verdict::Marked);
        let unused = secret(old, json!({}));
        assert_eq!(verdict(&unused, Some(&other), edge), Verdict::Stays, "someone made it by hand");
        assert_eq!(verdict(&unused, None, edge), Verdict::Stays);
    }

    #[test]
    fn a_pod_names_secrets_in_its_volumes_its_environment_and_for_its_images() {
        let pod = |spec: Value| -> Pod {
            let mut whole = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": []}});
            whole["spec"].as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
            serde_json::from_value(whole).expect("a pod")
        };
        for spec in [
            json!({"imagePullSecrets": [{"name": "t"}]}),
            json!({"volumes": [{"name": "v", "secret": {"secretName": "t"}}]}),
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "t"}}]}}]}),
            json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "t"}}]}]}),
            json!({"initContainers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "t", "key": "k"}}}]}]}),
        ] {
            let pod = pod(spec);
            assert!(names(&pod, "t") && !names(&pod, "u"), "{pod:?}");
        }
    }
}
