//! A Secret of type `kubernetes.io/service-account-token` gets a token that doesn't expire, the cluster's authority and
//! its namespace; it goes with the account that it names.

use std::{fmt, sync::Arc};

use api::token_secret::{ACCOUNT, ACCOUNT_UID, TYPE};
use futures::StreamExt;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Secret, ServiceAccount},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
    runtime::{WatchStreamExt, watcher},
};

use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::Change,
    queue::{Key, Queue},
};

/// Makes the token of an account (namespace, name, uid) that a Secret of that name is to hold, or says why it can't.
type Sign = dyn Fn(&str, &str, &str, &str) -> Result<String, String> + Send + Sync;

/// What makes tokens: whoever verifies them has the key.
#[derive(Clone)]
pub struct TokenSigner(Arc<Sign>);

impl TokenSigner {
    /// `sign` takes an account's namespace, name and uid, and the Secret's name.
    pub fn new(sign: impl Fn(&str, &str, &str, &str) -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(sign))
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSigner")
    }
}

#[derive(Clone)]
struct Controller {
    shared: Shared,
    authority: Arc<str>,
    signer: TokenSigner,
}

pub(crate) async fn run(shared: Shared, authority: String, signer: TokenSigner) {
    let queue = Queue::default();
    shared.accounts.synced().await;
    // An account that goes takes its Secrets along: a key without a name stands for all of a namespace.
    let on_account = queue.clone();
    shared.accounts.listen(move |change| {
        if let Change::Deleted(account) = change {
            on_account.add(Key::new(account.namespace().unwrap_or_default(), ""));
        }
    });
    let all: Api<Secret> = Api::all(shared.client.clone());
    let on_secret = queue.clone();
    let follow = async move {
        let mut events = watching::watch(all, watcher::Config::default().fields(&only())).touched_objects();
        while let Some(event) = events.next().await {
            if let Ok(secret) = event {
                on_secret.add(Key::of(&secret));
            }
        }
    };
    let controller = Controller { shared, authority: authority.into(), signer };
    let work = queue.work("serviceaccount-token", 2, |key| controller.clone().reconcile(key));
    futures::join!(follow, work);
}

/// The field selector of such Secrets.
pub(crate) fn only() -> String {
    format!("type={TYPE}")
}

impl Controller {
    async fn reconcile(self, key: Key) -> Result<(), Error> {
        let api: Api<Secret> = Api::namespaced(self.shared.client.clone(), &key.namespace);
        if key.name.is_empty() {
            for secret in api.list(&ListParams::default().fields(&only())).await? {
                self.settle(&api, &key.namespace, secret).await?;
            }
            return Ok(());
        }
        match api.get_opt(&key.name).await? {
            Some(secret) => self.settle(&api, &key.namespace, secret).await,
            None => Ok(()),
        }
    }

    async fn settle(&self, api: &Api<Secret>, namespace: &str, mut secret: Secret) -> Result<(), Error> {
        if secret.type_.as_deref() != Some(TYPE) || secret.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let name = secret.name_any();
        let Some(account) = self.account(namespace, &secret).await? else {
            let this = Preconditions { uid: secret.uid(), resource_version: None };
            let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
            return gone_is_fine(api.delete(&name, &params).await.map(drop));
        };
        let uid = account.uid().unwrap_or_default();
        let data = secret.data.get_or_insert_default();
        let is_authority = |found: &ByteString| found.0 == self.authority.as_bytes();
        let is_there = |found: Option<&ByteString>| found.is_some_and(|value| !value.0.is_empty());
        let (authority, space) = (data.get("ca.crt").is_some_and(is_authority), is_there(data.get("namespace")));
        if authority && space && is_there(data.get("token")) {
            return Ok(());
        }
        data.insert("ca.crt".into(), ByteString(self.authority.as_bytes().to_vec()));
        if !space {
            data.insert("namespace".into(), ByteString(namespace.into()));
        }
        if !is_there(data.get("token")) {
            let token = (self.signer.0)(namespace, &account.name_any(), &uid, &name).map_err(Error::Object)?;
            data.insert("token".into(), ByteString(token.into_bytes()));
        }
        let annotations = secret.annotations_mut();
        annotations.insert(ACCOUNT.into(), account.name_any());
        annotations.insert(ACCOUNT_UID.into(), uid);
        gone_is_fine(api.replace(&name, &PostParams::default(), &secret).await.map(drop))
    }

    /// The account that a Secret names, unless it is gone or another one by now.
    async fn account(&self, namespace: &str, secret: &Secret) -> Result<Option<ServiceAccount>, Error> {
        let annotation = |key: &str| secret.annotations().get(key).map(String::as_str).unwrap_or_default();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.shared.client.clone(), namespace);
        let account = accounts.get_opt(annotation(ACCOUNT)).await?;
        let uid = annotation(ACCOUNT_UID);
        Ok(account.filter(|account| uid.is_empty() || account.uid().as_deref() == Some(uid)))
    }
}
