//! Registry credentials in `imagePullSecrets`. Pure.

use base64::Engine;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::runtime::Credential;

/// What a secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg` holds.
pub fn credentials(secret: &Secret) -> Vec<Credential> {
    let data = secret.data.as_ref();
    let json = |key: &str| data.and_then(|d| d.get(key)).and_then(|b| serde_json::from_slice::<Value>(&b.0).ok());
    let auths =
        json(".dockerconfigjson").and_then(|mut v| v.get_mut("auths").map(Value::take)).or_else(|| json(".dockercfg"));
    let Some(Value::Object(auths)) = auths else { return Vec::new() };
    auths.iter().filter_map(|(registry, entry)| credential(registry, entry)).collect()
}

fn credential(registry: &str, entry: &Value) -> Option<Credential> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (username, password) = match text("auth") {
        auth if auth.is_empty() => (text("username"), text("password")),
        auth => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?;
            let decoded = String::from_utf8(decoded).ok()?;
            let (user, password) = decoded.split_once(':')?;
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
    };
    let registry = registry.trim_start_matches("https://").trim_start_matches("http://");
    let registry = registry.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2").to_owned();
    (!username.is_empty()).then_some(Credential { registry, username, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_credentials_are_read() {
        let config =
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpiOmM="},"r:5000":{"username":"u","password":"p"}}}"#;
        let data = base64::engine::general_purpose::STANDARD.encode(config);
        let secret: Secret =
            serde_json::from_value(serde_json::json!({"data": {".dockerconfigjson": data}})).expect("a secret");
        let got: Vec<_> = credentials(&secret).into_iter().map(|c| (c.registry, c.username, c.password)).collect();
        let expected = [("index.docker.io", "a", "b:c"), ("r:5000", "u", "p")];
        assert_eq!(got, expected.map(|(r, u, p)| (r.to_owned(), u.to_owned(), p.to_owned())));
        assert!(credentials(&Secret::default()).is_empty());
    }
}
