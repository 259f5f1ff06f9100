//! What a driver wants to have again and again: tokens of the pod's service account (`tokenRequests`), and the call that
//! publishes its volume (`requiresRepublish`).

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Pod, ServiceAccountTokenProjection},
    storage::v1::CSIDriverSpec,
};
use serde_json::{Map, Value, json};
use tokio::{sync::watch, task::AbortHandle};

use super::{
    driver::{Driver, Request},
    record::Published,
};
use crate::{context::Context, events::Severity, volumes::request_token};

/// Under which name a driver finds the tokens.
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// A driver is asked again when the kubelet looks at the pod: when the pod changes, and about as often as this.
const PERIOD: Duration = Duration::from_secs(60);
/// Changes of a pod come in twos and threes.
const SETTLE: Duration = Duration::from_secs(1);

/// Tokens as a driver is given them.
#[derive(Default)]
pub(super) struct Tokens {
    /// One an audience, as JSON; empty if the driver wants none.
    shown: String,
    /// When the first of them has lived four fifths of its life.
    renew_at: Option<Timestamp>,
}

/// Asks for the tokens that the driver wants.
pub(super) async fn get(context: &Context, pod: &Pod, facts: &CSIDriverSpec) -> Result<Tokens, String> {
    let wanted = facts.token_requests.as_deref().unwrap_or_default();
    if wanted.is_empty() {
        return Ok(Tokens::default());
    }
    let mut tokens = Map::new();
    let mut renew_at = Timestamp::MAX;
    for token in wanted {
        let projection = ServiceAccountTokenProjection {
            audience: Some(token.audience.clone()),
            expiration_seconds: token.expiration_seconds,
            path: String::new(),
        };
        let given = request_token(&context.client, pod, &projection, Timestamp::now()).await?;
        let shown = json!({"token": given.text, "expirationTimestamp": format!("{:.0}", given.expires)});
        tokens.insert(token.audience.clone(), shown);
        renew_at = renew_at.min(given.renew_at);
    }
    Ok(Tokens { shown: Value::Object(tokens).to_string(), renew_at: Some(renew_at) })
}

impl Tokens {
    /// The request with the tokens, where the driver looks for them.
    pub fn add_to(&self, request: &Request, facts: &CSIDriverSpec) -> Request {
        let mut request = request.clone();
        if !self.shown.is_empty() {
            let secret = facts.service_account_token_in_secrets == Some(true);
            let place = if secret { &mut request.secrets } else { &mut request.context };
            place.insert(TOKENS.to_owned(), self.shown.clone());
        }
        request
    }

    fn is_old(&self, now: Timestamp) -> bool {
        self.renew_at.is_some_and(|at| at <= now)
    }
}

/// A published volume whose driver wants to be asked again.
pub(super) struct Republished {
    pub context: Arc<Context>,
    /// Versions of the pod.
    pub pods: watch::Receiver<Arc<Pod>>,
    /// Of the PersistentVolume, or of the pod's volume.
    pub volume: String,
    pub facts: CSIDriverSpec,
    pub driver: Arc<Driver>,
    /// As it was published first, without tokens.
    pub request: Request,
    /// Where it was published.
    pub path: PathBuf,
    pub read_only: bool,
}

impl Republished {
    /// Asks again and again until the pod lets go of the volume. `tokens` are those that were given first.
    pub fn follow(mut self, mut tokens: Tokens) -> AbortHandle {
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(PERIOD) => {}
                    // The pod's end ends this as well.
                    Ok(()) = self.pods.changed() => tokio::time::sleep(SETTLE).await,
                }
                let pod = Arc::clone(&self.pods.borrow_and_update());
                if pod.metadata.deletion_timestamp.is_some() {
                    continue;
                }
                if let Err(message) = self.again(&pod, &mut tokens).await {
                    let text = format!("MountVolume.SetUp failed for volume \"{}\" : {message}", self.volume);
                    self.context.recorder.pod(&pod, Severity::Warning, "FailedMount", text);
                }
            }
        })
        .abort_handle()
    }

    async fn again(&self, pod: &Pod, tokens: &mut Tokens) -> Result<(), String> {
        if tokens.is_old(Timestamp::now()) {
            *tokens = get(&self.context, pod, &self.facts).await?;
        }
        // Not while it is taken back.
        let turn = self.context.holding.turn(&self.driver.name, &self.request.volume_id);
        let _known = turn.lock().await;
        if Published::load(&self.context.paths(pod).volume("csi", &self.volume)).is_none() {
            return Ok(());
        }
        let request = tokens.add_to(&self.request, &self.facts);
        self.driver.publish(&request, &self.path, self.read_only).await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_where_the_driver_looks_for_them_until_they_are_old() {
        let now = Timestamp::UNIX_EPOCH;
        let tokens = Tokens { shown: "{}".to_owned(), renew_at: Some(now) };
        assert!(tokens.is_old(now) && !Tokens::default().is_old(now));
        let facts = |secret| CSIDriverSpec { service_account_token_in_secrets: secret, ..CSIDriverSpec::default() };
        let request = tokens.add_to(&Request::default(), &facts(None));
        assert_eq!((request.context.len(), request.secrets.len()), (1, 0));
        let request = tokens.add_to(&Request::default(), &facts(Some(true)));
        assert_eq!((request.context.len(), request.secrets.len()), (0, 1));
        assert_eq!(Tokens::default().add_to(&Request::default(), &facts(None)).context.len(), 0);
    }
}
