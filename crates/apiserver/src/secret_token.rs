//! Tokens kept in Secrets of type `kubernetes.io/service-account-token`: they don't expire, and live as long as the
//! Secret that holds them and the account. A controller asks for them and writes them.

use api::token_secret::INVALID_SINCE;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{config::User, server::ApiServer, token::account_user, token_uses};

/// `iss` of such tokens, whatever the server's own issuer is.
pub(crate) const ISSUER: &str = "kubernetes/serviceaccount";

/// Upstream's claims: all in the top level.
const NAMESPACE: &str = "kubernetes.io/serviceaccount/namespace";
const SECRET: &str = "kubernetes.io/serviceaccount/secret.name";
const ACCOUNT: &str = "kubernetes.io/serviceaccount/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/serviceaccount/service-account.uid";

impl ApiServer {
    /// A token for the account of that uid, to be kept in that Secret of the account's namespace.
    ///
    /// # Errors
    /// The key can't sign; another try may help.
    pub fn secret_token(
        &self,
        namespace: &str,
        account: &str,
        account_uid: &str,
        secret: &str,
    ) -> Result<String, String> {
        self.tokens.seal(&json!({
            "iss": ISSUER,
            NAMESPACE: namespace,
            SECRET: secret,
            ACCOUNT: account,
            ACCOUNT_UID: account_uid,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
        }))
    }
}

/// The user of a token whose signature is good, provided that the Secret still holds it and the account lives.
pub(crate) fn user(server: &ApiServer, claims: &Value, token: &str) -> Result<User, String> {
    const INVALIDATED: &str = "service account token has been invalidated";
    let claim = |name: &str| claims[name].as_str().unwrap_or("");
    let (namespace, account, uid) = (claim(NAMESPACE), claim(ACCOUNT), claim(ACCOUNT_UID));
    let find = |kind: &str, name: &str| {
        let object = server.cache.kind(kind).named(namespace, name).ok_or(INVALIDATED)?.parse();
        let is_going = object.pointer("/metadata/deletionTimestamp").is_some();
        if is_going { Err(INVALIDATED) } else { Ok(object) }
    };
    let secret = find("secrets", claim(SECRET))?;
    let kept = secret["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    if kept != token.as_bytes() {
        return Err("service account token does not match server's copy".into());
    }
    if secret["metadata"]["labels"][INVALID_SINCE].as_str().is_some_and(|since| !since.is_empty()) {
        return Err(format!(
            "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token",
            secret = claim(SECRET)
        ));
    }
    if find("serviceaccounts", account)?["metadata"]["uid"] != uid {
        return Err(INVALIDATED.into());
    }
    token_uses::note(server, &secret);
    Ok(account_user(namespace, account, uid))
}
