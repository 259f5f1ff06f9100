//! Every namespace has a ServiceAccount `default`.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};

use crate::{
    Error, Shared,
    informer::Change,
    queue::{Key, Queue},
};

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.accounts.synced().await;
    shared.namespaces.synced().await;
    let on_namespace = queue.clone();
    shared.namespaces.listen(move |change| on_namespace.add(Key::new("", change.object().name_any())));
    let on_account = queue.clone();
    shared.accounts.listen(move |change| {
        if let Change::Deleted(account) = change {
            on_account.add(Key::new("", account.namespace().unwrap_or_default()));
        }
    });
    queue.work("serviceaccount", 2, |key| reconcile(shared.clone(), key)).await;
}

async fn reconcile(shared: Shared, key: Key) -> Result<(), Error> {
    if !is_active(shared.namespaces.get(&key).as_deref())
        || shared.accounts.get(&Key::new(&key.name, "default")).is_some()
    {
        return Ok(());
    }
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some("default".into()), ..Default::default() },
        ..Default::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), &key.name);
    match api.create(&PostParams::default(), &account).await.map_err(Error::from) {
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// There, and not going.
pub(crate) fn is_active(namespace: Option<&Namespace>) -> bool {
    namespace.is_some_and(|n| {
        n.metadata.deletion_timestamp.is_none()
            && n.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Terminating")
    })
}
