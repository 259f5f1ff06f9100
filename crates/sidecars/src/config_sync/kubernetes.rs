//! ConfigMaps by the Kubernetes API, with the pod's own service account.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::BodyExt;
use http_ends::{Client, Names, Trust};
use serde::Deserialize;

const MOST: usize = 16 << 20;
/// A watch is opened anew after this long, in seconds.
const WATCH: u32 = 300;

/// The API did not give what was asked for. A retry may help.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// This is no pod, or one without a service account.
    #[error("the pod's service account cannot be used: {0}")]
    NoAccount(String),
    /// The API could not be asked.
    #[error(transparent)]
    Http(#[from] http_ends::Error),
    /// The API says no.
    #[error("the Kubernetes API says {0} for {1}: {2}")]
    Status(u16, String, String),
    /// The answer is not what the API answers.
    #[error("the Kubernetes API's answer cannot be read: {0}")]
    Answer(String),
    /// The ConfigMap lacks the key.
    #[error("the ConfigMap has no key {0:?}")]
    NoKey(String),
}

/// The API server that this pod belongs to.
pub struct Api {
    client: Client,
    base: String,
    token: HeaderValue,
    namespace: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    binary_data: BTreeMap<String, String>,
}

impl Api {
    /// The API by the variables and the service account that Kubernetes gives to each pod; the token is read anew each
    /// time, since it changes.
    ///
    /// # Errors
    /// If there are none. `KUBERNETES_SERVICE_ACCOUNT` names another directory for token, namespace and authority.
    pub fn of_the_pod() -> Result<Self, ApiError> {
        let variable = |name: &str| std::env::var(name).map_err(|_| ApiError::NoAccount(format!("{name} is not set")));
        let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
        let directory = std::env::var("KUBERNETES_SERVICE_ACCOUNT")
            .unwrap_or_else(|_| "/var/run/secrets/kubernetes.io/serviceaccount".into());
        let directory = PathBuf::from(directory);
        let file = |name: &str| {
            let path = directory.join(name);
            std::fs::read_to_string(&path).map_err(|error| ApiError::NoAccount(format!("{}: {error}", path.display())))
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let client = Client::new(Names::default(), Trust::File(directory.join("ca.crt")));
        let namespace = file("namespace").unwrap_or_else(|_| "default".into());
        Self::at(client, format!("https://{host}:{port}"), file("token")?.trim(), namespace.trim())
    }

    /// The API at an address, asked with a token.
    ///
    /// # Errors
    /// If the token is none.
    pub fn at(client: Client, base: String, token: &str, namespace: &str) -> Result<Self, ApiError> {
        let token = HeaderValue::from_str(&format!("Bearer {token}"));
        let token = token.map_err(|_| ApiError::NoAccount("the token is not one".into()))?;
        Ok(Self { client, base, token, namespace: namespace.to_owned() })
    }

    /// A ConfigMap's files.
    ///
    /// # Errors
    /// If it is not there or may not be read.
    pub async fn config_map(
        &self,
        namespace: Option<&str>,
        name: &str,
        deadline: Duration,
    ) -> Result<BTreeMap<String, Vec<u8>>, ApiError> {
        let path = self.path(namespace, &format!("/{name}"));
        let answer = self.client.send(self.request(&path)?, MOST, deadline).await?;
        if !answer.status().is_success() {
            let said: serde_json::Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            let said = said["message"].as_str().unwrap_or_default().to_owned();
            return Err(ApiError::Status(answer.status().as_u16(), path, said));
        }
        let found: ConfigMap =
            serde_json::from_slice(answer.body()).map_err(|error| ApiError::Answer(error.to_string()))?;
        let mut files: BTreeMap<String, Vec<u8>> =
            found.data.into_iter().map(|(key, text)| (key, text.into_bytes())).collect();
        for (key, text) in found.binary_data {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            files.insert(key, bytes.map_err(|error| ApiError::Answer(error.to_string()))?);
        }
        Ok(files)
    }

    /// Returns when the ConfigMap may have changed, or the watch has ended.
    ///
    /// # Errors
    /// If it may not be watched.
    pub async fn changed(&self, namespace: Option<&str>, name: &str) -> Result<(), ApiError> {
        let query = format!("?watch=1&fieldSelector=metadata.name%3D{name}&timeoutSeconds={WATCH}");
        let path = self.path(namespace, &query);
        let answer = self.client.open(self.request(&path)?).await?;
        if !answer.status().is_success() {
            return Err(ApiError::Status(answer.status().as_u16(), path, String::new()));
        }
        // The first event tells what is there already; the second is a change.
        let (mut body, mut lines) = (answer.into_body(), 0);
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                lines += data.iter().filter(|byte| **byte == b'\n').count();
            }
            if lines > 1 {
                break;
            }
        }
        Ok(())
    }

    fn path(&self, namespace: Option<&str>, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/configmaps{rest}", namespace.unwrap_or(&self.namespace))
    }

    fn request(&self, path: &str) -> Result<Request<Bytes>, ApiError> {
        let request = Request::get(format!("{}{path}", self.base)).header(header::AUTHORIZATION, self.token.clone());
        request
            .header(header::ACCEPT, "application/json")
            .body(Bytes::new())
            .map_err(|error| ApiError::Answer(error.to_string()))
    }
}
