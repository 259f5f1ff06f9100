//! Service account tokens: JWTs (RFC 7519) signed with ES256, with upstream's claims.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use serde_json::{Value, json};

use crate::{authn::AUTHENTICATED_GROUP, config::User, secret_token, server::ApiServer};

/// Signs and verifies.
pub(crate) struct Tokens {
    key: EcdsaKeyPair,
    random: SystemRandom,
    /// `iss`, and the audience of the API server itself.
    pub issuer: String,
}

/// What a token is made for.
pub(crate) struct Claims<'a> {
    pub namespace: &'a str,
    pub account: &'a str,
    pub account_uid: &'a str,
    /// Kind (`Pod`, `Secret`, `Node`), name and uid of the object whose end is the token's end.
    pub bound_to: Option<(&'a str, &'a str, &'a str)>,
    /// Name and uid of the pod's node.
    pub node: Option<(&'a str, &'a str)>,
    pub audiences: &'a [String],
    pub seconds: i64,
}

impl Tokens {
    /// With that PKCS #8 key, or one of the process's own.
    pub fn new(key: Option<&[u8]>, issuer: String) -> Result<Tokens, String> {
        let random = SystemRandom::new();
        let generated;
        let key = match key {
            Some(key) => key,
            None => {
                generated = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                    .map_err(|e| e.to_string())?;
                generated.as_ref()
            }
        };
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random).map_err(|e| e.to_string())?;
        Ok(Tokens { key, random, issuer })
    }

    /// The token and the moment at which it expires.
    pub fn sign(&self, claims: &Claims<'_>, now: Timestamp) -> Result<(String, Timestamp), String> {
        let issued = now.as_second();
        let expires = issued + claims.seconds;
        let mut kubernetes = json!({
            "namespace": claims.namespace,
            "serviceaccount": {"name": claims.account, "uid": claims.account_uid},
        });
        if let Some((kind, name, uid)) = claims.bound_to {
            kubernetes[kind.to_ascii_lowercase()] = json!({"name": name, "uid": uid});
        }
        if let Some((name, uid)) = claims.node {
            kubernetes["node"] = json!({"name": name, "uid": uid});
        }
        let body = json!({
            "aud": claims.audiences,
            "exp": expires,
            "iat": issued,
            "iss": self.issuer,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": kubernetes,
            "nbf": issued,
            "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
        });
        Ok((self.seal(&body)?, Timestamp::from_second(expires).map_err(|e| e.to_string())?))
    }

    /// The token with these claims.
    pub(crate) fn seal(&self, body: &Value) -> Result<String, String> {
        let head = json!({"alg": "ES256", "kid": self.key_id()});
        let mut token =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(body.to_string()));
        let signature = self.key.sign(&self.random, token.as_bytes()).map_err(|e| e.to_string())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Ok(token)
    }

    /// The service account that a token stands for. `audiences` empty means the API server's own.
    pub fn verify(&self, server: &ApiServer, token: &str, audiences: &[String]) -> Result<User, String> {
        const INVALID: &str = "invalid bearer token";
        let (signed, signature) = token.rsplit_once('.').ok_or(INVALID)?;
        let (head, body) = signed.split_once('.').ok_or(INVALID)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| INVALID);
        let head: Value = serde_json::from_slice(&decode(head)?).map_err(|_| INVALID)?;
        if head["alg"] != "ES256" {
            return Err(INVALID.into());
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| INVALID)?;
        let claims: Value = serde_json::from_slice(&decode(body)?).map_err(|_| INVALID)?;
        if claims["iss"] == secret_token::ISSUER {
            // Such a token names no audience: it is good for the API server.
            return match audiences.is_empty() || audiences.contains(&self.issuer) {
                true => secret_token::user(server, &claims, token),
                false => Err("token audiences is invalid for the target audiences".into()),
            };
        }
        let now = Timestamp::now().as_second();
        if claims["iss"] != *self.issuer || claims["exp"].as_i64().unwrap_or(0) <= now {
            return Err("service account token has expired".into());
        }
        if claims["nbf"].as_i64().unwrap_or(0) > now + 10 {
            return Err("service account token is not valid yet".into());
        }
        let own = [self.issuer.clone()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        let given = claims["aud"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !given.iter().any(|a| wanted.iter().any(|w| a == w.as_str())) {
            return Err("token audiences is invalid for the target audiences".into());
        }
        let mut user = self.user(server, &claims["kubernetes.io"])?;
        if let Some(id) = claims["jti"].as_str() {
            user.extra.push(("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("JTI={id}")]));
        }
        Ok(user)
    }

    /// The user, provided that the account and what the token is bound to still live.
    fn user(&self, server: &ApiServer, bound: &Value) -> Result<User, String> {
        let text = |pointer: &str| bound.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        let (namespace, account) = (text("/namespace"), text("/serviceaccount/name"));
        let lives = |storage: &str, namespace: &str, name: &str, uid: &str| {
            let object = server.cache.kind(storage).named(namespace, name);
            object.is_some_and(|o| o.parse().pointer("/metadata/uid").and_then(Value::as_str) == Some(uid))
        };
        if !lives("serviceaccounts", namespace, account, text("/serviceaccount/uid")) {
            return Err("service account token has been invalidated".into());
        }
        let mut user = account_user(namespace, account, text("/serviceaccount/uid"));
        for (kind, storage) in [("pod", "pods"), ("secret", "secrets")] {
            let name = text(&format!("/{kind}/name"));
            if !name.is_empty() && !lives(storage, namespace, name, text(&format!("/{kind}/uid"))) {
                return Err("service account token has been invalidated".into());
            }
        }
        for (claim, extra) in
            [("/pod/name", "pod-name"), ("/pod/uid", "pod-uid"), ("/node/name", "node-name"), ("/node/uid", "node-uid")]
        {
            if !text(claim).is_empty() {
                user.extra.push((format!("authentication.kubernetes.io/{extra}"), vec![text(claim).to_owned()]));
            }
        }
        Ok(user)
    }

    /// The JWK set for `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        // An uncompressed point: 0x04, x, y.
        let point = self.key.public_key().as_ref();
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id(), "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
        }]})
    }

    fn key_id(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.key.public_key().as_ref());
        URL_SAFE_NO_PAD.encode(digest.as_ref())
    }
}

/// A service account as a user.
pub(crate) fn account_user(namespace: &str, account: &str, uid: &str) -> User {
    let mut user = User::new(
        format!("system:serviceaccount:{namespace}:{account}"),
        &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), AUTHENTICATED_GROUP],
    );
    user.uid = uid.to_owned();
    user
}
