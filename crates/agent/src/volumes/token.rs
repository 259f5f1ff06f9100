//! Service account tokens for projected volumes, by the TokenRequest API.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection},
};
use kube::{Api, Client, api::PostParams};

/// A token and when to get the next one.
pub struct Token {
    /// The token.
    pub text: String,
    /// When its life is over.
    pub expires: Timestamp,
    /// When four fifths of its life are over.
    pub renew_at: Timestamp,
}

/// Asks for a token bound to `pod`.
pub async fn request(
    client: &Client,
    pod: &Pod,
    projection: &ServiceAccountTokenProjection,
    now: Timestamp,
) -> Result<Token, String> {
    let meta = &pod.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.as_deref())
        .filter(|n| !n.is_empty())
        .unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: projection.audience.clone().filter(|a| !a.is_empty()).map(|a| vec![a]).or(Some(Vec::new())),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
            expiration_seconds: Some(projection.expiration_seconds.unwrap_or(3600)),
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let answer: TokenRequest = api
        .create_subresource("token", account, &PostParams::default(), &request)
        .await
        .map_err(|error| format!("failed to fetch token: {}", plain(&error)))?;
    let status = answer.status.ok_or("failed to fetch token: the answer has no status")?;
    let life = status.expiration_timestamp.map_or(SignedDuration::from_secs(3600), |t| t.0.duration_since(now));
    let expires = now.checked_add(life).unwrap_or(now);
    let renew_at = now.checked_add(SignedDuration::from_secs((life.as_secs() * 4 / 5).max(10))).unwrap_or(now);
    Ok(Token { text: status.token.unwrap_or_default(), expires, renew_at })
}

/// The API's own words.
fn plain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
