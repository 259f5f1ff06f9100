//! Namespace life cycle: a namespace that is being deleted takes everything in it along, then goes itself.

use std::sync::Arc;

use http::Request;
use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, PostParams},
    core::ApiResource,
    discovery::{Discovery, verbs},
};

use crate::{
    Error, Shared,
    error::gone_is_fine,
    queue::{Key, Queue},
};

const FINALIZER: &str = "kubernetes";

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.namespaces.synced().await;
    let on_namespace = queue.clone();
    shared.namespaces.listen(move |change| {
        let namespace = change.object();
        if namespace.metadata.deletion_timestamp.is_some() && has_finalizer(namespace) {
            on_namespace.add(Key::of(&**namespace));
        }
    });
    queue.work("namespace", 4, |key| reconcile(shared.clone(), key)).await;
}

fn has_finalizer(namespace: &Namespace) -> bool {
    namespace.spec.iter().flat_map(|s| s.finalizers.iter().flatten()).any(|f| f == FINALIZER)
}

async fn reconcile(shared: Shared, key: Key) -> Result<(), Error> {
    let Some(namespace) = shared.namespaces.get(&key) else { return Ok(()) };
    if namespace.metadata.deletion_timestamp.is_none() || !has_finalizer(&namespace) {
        return Ok(());
    }
    let mut left = Vec::new();
    for resource in namespaced_resources(&shared).await? {
        let api: Api<DynamicObject> = Api::namespaced_with(shared.client.clone(), &key.name, &resource);
        let all = ListParams::default();
        match api.list_metadata(&all).await {
            Ok(list) if list.items.is_empty() => continue,
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => continue,
            Err(error) => return Err(error.into()),
        }
        api.delete_collection(&DeleteParams::background(), &all).await?;
        let still = api.list_metadata(&all).await?.items;
        if !still.is_empty() {
            let finalizers: Vec<String> = still.iter().flat_map(|o| o.finalizers().to_vec()).collect();
            left.push((resource, still.len(), finalizers));
        }
    }
    if left.is_empty() { finish(&shared, &namespace).await } else { report(&shared, &namespace, &left).await }
}

/// All namespaced resources that can be listed and deleted.
async fn namespaced_resources(shared: &Shared) -> Result<Vec<ApiResource>, Error> {
    let discovery = Discovery::new(shared.client.clone()).run_aggregated().await?;
    let mut resources = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let namespaced = capabilities.scope == kube::discovery::Scope::Namespaced;
            if namespaced && capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE) {
                resources.push(resource);
            }
        }
    }
    Ok(resources)
}

/// Removes the finalizer; with the last one the namespace is gone.
async fn finish(shared: &Shared, namespace: &Arc<Namespace>) -> Result<(), Error> {
    let mut done = Namespace::clone(namespace);
    if let Some(finalizers) = done.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
    let body = serde_json::to_vec(&done).expect("a namespace is always JSON");
    let request = Request::put(format!("/api/v1/namespaces/{}/finalize", namespace.name_any()))
        .header("Content-Type", "application/json")
        .body(body)
        .expect("the parts of the request are fixed and names are path-safe");
    gone_is_fine(shared.client.request::<Namespace>(request).await)
}

/// Says in the conditions what is left, and has it looked at again.
async fn report(shared: &Shared, namespace: &Namespace, left: &[(ApiResource, usize, Vec<String>)]) -> Result<(), Error> {
    let now = Time(jiff::Timestamp::now());
    let kinds: Vec<String> = left
        .iter()
        .map(|(r, n, _)| {
            let name = if r.group.is_empty() { r.plural.clone() } else { format!("{}.{}", r.plural, r.group) };
            format!("{name} has {n} resource instances")
        })
        .collect();
    let mut conditions = vec![NamespaceCondition {
        type_: "NamespaceContentRemaining".into(),
        status: "True".into(),
        reason: Some("SomeResourcesRemain".into()),
        message: Some(format!("Some resources are remaining: {}", kinds.join(", "))),
        last_transition_time: Some(now.clone()),
    }];
    let mut finalizers: Vec<&str> = left.iter().flat_map(|(_, _, f)| f.iter().map(String::as_str)).collect();
    finalizers.sort_unstable();
    finalizers.dedup();
    if !finalizers.is_empty() {
        let each: Vec<String> = finalizers
            .iter()
            .map(|f| {
                let holders: usize = left.iter().map(|(_, _, all)| all.iter().filter(|one| one == f).count()).sum();
                format!("{f} in {holders} resource instances")
            })
            .collect();
        conditions.push(NamespaceCondition {
            type_: "NamespaceFinalizersRemaining".into(),
            status: "True".into(),
            reason: Some("SomeFinalizersRemain".into()),
            message: Some(format!("Some content in the namespace has finalizers remaining: {}", each.join(", "))),
            last_transition_time: Some(now),
        });
    }
    let before = namespace.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let said = |list: &[NamespaceCondition]| -> Vec<(String, Option<String>)> {
        list.iter().map(|c| (c.type_.clone(), c.message.clone())).collect()
    };
    if said(&before) != said(&conditions) {
        let mut changed = namespace.clone();
        changed.status.get_or_insert_default().conditions = Some(conditions);
        let api: Api<Namespace> = Api::all(shared.client.clone());
        gone_is_fine(api.replace_status(&namespace.name_any(), &PostParams::default(), &changed).await)?;
    }
    Err(Error::NotYet("some content remains in the namespace"))
}
