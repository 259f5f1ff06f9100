//! Generic ephemeral volumes: the claim `POD-VOLUME`, made from the pod's template and owned by the pod.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod, Volume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, ResourceExt, api::PostParams};
use recording::Recorder;

use crate::{
    Error, Shared,
    informer::Change,
    ownership::{controller_reference, is_controlled_by},
    queue::{Key, Queue},
};

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.pods.synced().await;
    shared.claims.synced().await;
    let on_pod = queue.clone();
    shared.pods.listen(move |change| {
        if let Change::Applied { new: pod, .. } = change
            && wanted(pod).next().is_some()
        {
            on_pod.add(Key::of(&**pod));
        }
    });
    let on_claim = queue.clone();
    shared.claims.listen(move |change| {
        if let Change::Deleted(claim) = change
            && let Some(pod) = crate::ownership::controller_key::<Pod>(&**claim)
        {
            on_claim.add(pod);
        }
    });
    let recorder = Recorder::start(shared.client.clone(), "ephemeral_volume");
    let shared = Arc::new(shared);
    queue.work("ephemeral-volume", 8, |key| reconcile(shared.clone(), recorder.clone(), key)).await;
}

/// The volumes of a pod that need a claim.
fn wanted(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let live = pod.metadata.deletion_timestamp.is_none();
    pod.spec.iter().filter(move |_| live).flat_map(|s| s.volumes.iter().flatten()).filter(|v| v.ephemeral.is_some())
}

async fn reconcile(shared: Arc<Shared>, recorder: Recorder, key: Key) -> Result<(), Error> {
    let Some(pod) = shared.pods.get(&key) else { return Ok(()) };
    for volume in wanted(&pod) {
        match make(&shared, &pod, volume).await {
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => {
                let note = format!("ephemeral volume {}: {}", volume.name, error.message());
                recorder.warning(&*pod, "FailedBinding", note);
                return Err(error);
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

async fn make(shared: &Shared, pod: &Pod, volume: &Volume) -> Result<(), Error> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), format!("{}-{}", pod.name_any(), volume.name));
    let is_ours = |claim: &PersistentVolumeClaim| match is_controlled_by(claim, pod) {
        true => Ok(()),
        false => Err(Error::Object(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)",
            pod.name_any()
        ))),
    };
    if let Some(claim) = shared.claims.get(&Key::new(namespace.clone(), name.clone())) {
        return is_ours(&claim);
    }
    let Some(template) = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref()) else {
        return Ok(());
    };
    let meta = template.metadata.clone().unwrap_or_default();
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    };
    let api: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), &namespace);
    match api.create(&PostParams::default(), &claim).await.map_err(Error::from) {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() => match api.get_opt(&name).await? {
            Some(claim) => is_ours(&claim),
            None => Err(Error::NotYet("the claim of that name has just gone")),
        },
        Err(error) => Err(error),
    }
}
