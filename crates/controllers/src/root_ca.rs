//! Every namespace has the cluster's authority in the ConfigMap `kube-root-ca.crt`, which pods get mounted beside
//! their token.

use std::{collections::BTreeMap, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::WatchStreamExt,
};

use crate::{
    Error, Shared,
    queue::{Key, Queue},
    service_account::is_active,
};

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc.",
);

pub(crate) async fn run(shared: Shared, authority: String) {
    let queue = Queue::default();
    shared.namespaces.synced().await;
    let on_namespace = queue.clone();
    shared.namespaces.listen(move |change| on_namespace.add(Key::new("", change.object().name_any())));
    // Someone changed or deleted one: put it right. Only these maps are watched.
    let all: Api<ConfigMap> = Api::all(shared.client.clone());
    let on_map = queue.clone();
    let put_right = async move {
        let mut events = watching::one(all, NAME).touched_objects();
        while let Some(event) = events.next().await {
            if let Ok(map) = event {
                on_map.add(Key::new("", map.namespace().unwrap_or_default()));
            }
        }
    };
    let authority: Arc<str> = authority.into();
    let work = queue.work("root-ca-cert-publisher", 2, |key| reconcile(shared.clone(), authority.clone(), key));
    futures::join!(put_right, work);
}

async fn reconcile(shared: Shared, authority: Arc<str>, key: Key) -> Result<(), Error> {
    if !is_active(shared.namespaces.get(&key).as_deref()) {
        return Ok(());
    }
    let api: Api<ConfigMap> = Api::namespaced(shared.client.clone(), &key.name);
    let data = BTreeMap::from([("ca.crt".to_owned(), authority.to_string())]);
    match api.get_opt(NAME).await? {
        Some(there) if there.data.as_ref() == Some(&data) => Ok(()),
        Some(mut there) => {
            there.data = Some(data);
            api.replace(NAME, &PostParams::default(), &there).await?;
            Ok(())
        }
        None => {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(NAME.into()),
                    annotations: Some(BTreeMap::from([(DESCRIPTION.0.into(), DESCRIPTION.1.into())])),
                    ..Default::default()
                },
                data: Some(data),
                ..Default::default()
            };
            match api.create(&PostParams::default(), &map).await.map_err(Error::from) {
                Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => {
                    Ok(())
                }
                other => other.map(drop),
            }
        }
    }
}
