//! What a driver wants to have again and again: tokens of the pod's service account (`tokenRequests`), and the call that
//! publishes its volume (`requiresRepublish`).

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Pod, ServiceAccountTokenProjection},
    storage::v1::CSIDriverSpec,
};
use serde_json::{Map, Value, json};
use tokio::task::AbortHandle;

use super::{
    driver::{Driver, Request},
    record::Published,
};
use crate::{context::Context, events::Severity, volumes::request_token};

/// Under which name a driver finds the tokens.
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// About as often as the kubelet, which does so when it looks at a pod.
const PERIOD: Duration = Duration::from_secs(60);

/// Puts the tokens that the driver asks for into its request: one an audience, as JSON.
pub(super) async fn add(
    context: &Context,
    pod: &Pod,
    facts: &CSIDriverSpec,
    request: &mut Request,
) -> Result<(), String> {
    let wanted = facts.token_requests.as_deref().unwrap_or_default();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut tokens = Map::new();
    for token in wanted {
        let projection = ServiceAccountTokenProjection {
            audience: Some(token.audience.clone()),
            expiration_seconds: token.expiration_seconds,
            path: String::new(),
        };
        let given = request_token(&context.client, pod, &projection, Timestamp::now()).await?;
        let shown = json!({"token": given.text, "expirationTimestamp": format!("{:.0}", given.expires)});
        tokens.insert(token.audience.clone(), shown);
    }
    let secret = facts.service_account_token_in_secrets == Some(true);
    let place = if secret { &mut request.secrets } else { &mut request.context };
    place.insert(TOKENS.to_owned(), Value::Object(tokens).to_string());
    Ok(())
}

/// A published volume whose driver wants to be asked again.
pub(super) struct Republished {
    pub context: Arc<Context>,
    pub pod: Pod,
    /// Of the PersistentVolume, or of the pod's volume.
    pub volume: String,
    pub facts: CSIDriverSpec,
    pub driver: Arc<Driver>,
    /// As it was published first.
    pub request: Request,
    /// Where it was published.
    pub path: PathBuf,
    pub read_only: bool,
}

impl Republished {
    /// Asks again and again until the pod lets go of the volume.
    pub fn follow(self) -> AbortHandle {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                if let Err(message) = self.again().await {
                    let text = format!("MountVolume.SetUp failed for volume \"{}\" : {message}", self.volume);
                    self.context.recorder.pod(&self.pod, Severity::Warning, "FailedMount", text);
                }
            }
        })
        .abort_handle()
    }

    async fn again(&self) -> Result<(), String> {
        let mut request = self.request.clone();
        add(&self.context, &self.pod, &self.facts, &mut request).await?;
        // Not while it is taken back.
        let _one = self.context.csi_staging.lock().await;
        if Published::load(&self.context.paths(&self.pod).volume("csi", &self.volume)).is_none() {
            return Ok(());
        }
        self.driver.publish(&request, &self.path, self.read_only).await.map_err(|error| error.to_string())
    }
}
