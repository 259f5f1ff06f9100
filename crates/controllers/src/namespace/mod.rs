//! Namespace life cycle: a namespace that is being deleted takes everything in it along, then goes itself.

mod conditions;

use http::Request;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::ApiResource,
    discovery::{Discovery, verbs},
};
use serde_json::json;

use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::Change,
    queue::{Key, Queue},
};
use conditions::Progress;

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
    // What a namespace mostly waits for is its last pod.
    let (on_pod, namespaces) = (queue.clone(), shared.namespaces.clone());
    shared.pods.listen(move |change| {
        let Change::Deleted(pod) = change else { return };
        let key = Key::new("", pod.namespace().unwrap_or_default());
        if namespaces.get(&key).is_some_and(|n| n.metadata.deletion_timestamp.is_some()) {
            on_pod.add(key);
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
    let mut progress = Progress::default();
    match namespaced_resources(&shared).await {
        Ok(resources) => {
            // Pods first: what they use is not taken from under them.
            let (pods, rest): (Vec<_>, Vec<_>) =
                resources.into_iter().partition(|r| r.kind == "Pod" && r.group.is_empty());
            empty(&shared, &key.name, pods, &mut progress).await;
            if progress.remaining.is_empty() {
                empty(&shared, &key.name, rest, &mut progress).await;
            }
        }
        Err(error) => progress.discovery = Some(error.message()),
    }
    report(&shared, &namespace, &progress).await?;
    if progress.is_complete() {
        finish(&shared, &key).await
    } else {
        Err(Error::NotYet("some content remains in the namespace"))
    }
}

/// Deletes all objects of these kinds, and counts what stays.
async fn empty(shared: &Shared, namespace: &str, resources: Vec<ApiResource>, progress: &mut Progress) {
    for resource in resources {
        let name = match resource.group.as_str() {
            "" => resource.plural.clone(),
            group => format!("{}.{group}", resource.plural),
        };
        match empty_one(shared, namespace, &resource).await {
            Ok(still) if still.is_empty() => {}
            Ok(still) => {
                progress.remaining.insert(name, still.len());
                for finalizer in still.into_iter().flatten() {
                    *progress.finalizers.entry(finalizer).or_default() += 1;
                }
            }
            Err(error) => progress.failures.push(error.message()),
        }
    }
}

/// The finalizers of each object of the kind that stays for now.
async fn empty_one(shared: &Shared, namespace: &str, resource: &ApiResource) -> Result<Vec<Vec<String>>, Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(shared.client.clone(), namespace, resource);
    let all = ListParams::default();
    match api.list_metadata(&all).await {
        Ok(list) if list.items.is_empty() => return Ok(Vec::new()),
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    api.delete_collection(&DeleteParams::background(), &all).await?;
    let still = api.list_metadata(&all).await?.items;
    Ok(still.iter().map(|o| o.finalizers().to_vec()).collect())
}

/// All namespaced resources that can be listed and deleted.
async fn namespaced_resources(shared: &Shared) -> Result<Vec<ApiResource>, Error> {
    let discovery = Discovery::new(shared.client.clone()).run_aggregated().await?;
    let mut resources = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            let namespaced = capabilities.scope == kube::discovery::Scope::Namespaced;
            if namespaced
                && capabilities.supports_operation(verbs::LIST)
                && capabilities.supports_operation(verbs::DELETE)
            {
                resources.push(resource);
            }
        }
    }
    Ok(resources)
}

/// Removes the finalizer; with the last one the namespace is gone.
async fn finish(shared: &Shared, key: &Key) -> Result<(), Error> {
    let api: Api<Namespace> = Api::all(shared.client.clone());
    let Some(mut done) = api.get_opt(&key.name).await? else { return Ok(()) };
    if let Some(finalizers) = done.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
        finalizers.retain(|f| f != FINALIZER);
    }
    let body = serde_json::to_vec(&done).expect("a namespace is always JSON");
    let request = Request::put(format!("/api/v1/namespaces/{}/finalize", key.name))
        .header("Content-Type", "application/json")
        .body(body)
        .expect("the parts of the request are fixed and names are path-safe");
    gone_is_fine(shared.client.request::<Namespace>(request).await)
}

/// Says in the conditions how far the deletion has got.
async fn report(shared: &Shared, namespace: &Namespace, progress: &Progress) -> Result<(), Error> {
    let before = namespace.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let after = conditions::conditions(&before, progress, jiff::Timestamp::now());
    // A namespace that is empty at once needs no words.
    if before == after || (before.is_empty() && progress.is_complete()) {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": namespace.uid()}, "status": {"conditions": after}});
    let api: Api<Namespace> = Api::all(shared.client.clone());
    gone_is_fine(api.patch_status(&namespace.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await)
}
